"""Cross-entropy over the catalogue, whole or sampled.

The whole one is fused with the product that makes its logits: loss and
gradients come out of one pass over chunks of positions, so that the logits of
all positions never stand in memory at once and are formed only once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e9
SAFE_LOGIT = 60.0
"""exp of it, summed over any catalogue, is far from the end of float32."""


def full_softmax_loss(
  hidden: Float[Array, "group positions dim"],
  table: Float[Array, "vocab dim"],
  target: Int[Array, "group positions"],
  where: Bool[Array, "group positions"],
  *,
  num_items: int,
  chunk: int = 128,
) -> Float[Array, ""]:
  r"""Sum over positions of the cross-entropy over all items.

  loss = sum_p (log sum_{i=1..n} exp <h_p, E_i> - <h_p, E_target(p)>)

  Chunks past the last position that counts cost nothing.

  Args:
    hidden: states h. The leading axis is the one that may be sharded over
      devices; chunks are cut from the second.
    table: the item table E; rows 1 to n are items, the others are ignored.
    target: ids in [1, n].
    where: which positions count.
    num_items: n.
    chunk: positions of a group whose logits are formed at a time; a matter
      of memory and speed alone.

  Returns:
    The sum over the positions that count; divide by their number for a mean.

  References:
    Klenitskiy and Vasilev: Turning Dross Into Gold Loss, RecSys 2023,
    https://arxiv.org/abs/2309.07602
  """
  # Masked first: not even NaN at a masked position may reach a gradient.
  hidden = jnp.where(where[..., None], hidden, 0.0)
  pad = -hidden.shape[1] % chunk
  hidden = jnp.pad(hidden, ((0, 0), (0, pad), (0, 0)))
  target = jnp.pad(target, ((0, 0), (0, pad)))
  where = jnp.pad(where, ((0, 0), (0, pad)))
  return _fused(num_items, chunk, hidden, table, target, where)


def _chunk_of(array, chunk, index):
  """The positions of a chunk, in one axis."""
  part = lax.dynamic_slice_in_dim(array, index * chunk, chunk, axis=1)
  return part.reshape(-1, *array.shape[2:])


def _num_live_chunks(where, chunk):
  """How many leading chunks hold all positions that count."""
  ends = jnp.where(where, jnp.arange(where.shape[1])[None, :] + 1, 0)
  return (jnp.max(ends) + chunk - 1) // chunk


def _largest_norm(rows, counts=True):
  """The largest norm of the rows that count."""
  squares = jnp.sum(jnp.square(rows), axis=-1)
  return jnp.sqrt(jnp.max(jnp.where(counts, squares, 0.0)))


def _largest_item_norm(num_items, table):
  row = jnp.arange(table.shape[0])
  return _largest_norm(table, (row >= 1) & (row <= num_items))


def _exponentials(num_items, rows, table, table_norm):
  """exp(logit - shift), 0 for rows that are no items, and the shift.

  By Cauchy and Schwarz no logit is larger than the product of the norms.
  Where that can not overflow, the usual shift by the largest logit, a whole
  pass over the logits, is spared.
  """
  logits = rows @ table.T
  column = lax.broadcasted_iota(jnp.int32, logits.shape, 1)
  is_item = (column >= 1) & (column <= num_items)
  shift = lax.cond(
    _largest_norm(rows) * table_norm <= SAFE_LOGIT,
    lambda logits: jnp.zeros((logits.shape[0], 1), logits.dtype),
    lambda logits: jnp.max(
      jnp.where(is_item, logits, MASKED), axis=-1, keepdims=True
    ),
    logits,
  )
  return jnp.where(is_item, jnp.exp(logits - shift), 0.0), shift


def _chunk_loss(rows, target_rows, live, weights, shift):
  """The summed loss of a chunk, and its partition functions."""
  partition = jnp.sum(weights, axis=-1)
  hit = jnp.sum(rows * target_rows, axis=-1)
  loss = jnp.log(partition) + shift[:, 0] - hit
  return jnp.sum(jnp.where(live, loss, 0.0)), partition


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _fused(num_items, chunk, hidden, table, target, where):
  norm = _largest_item_norm(num_items, table)

  def body(index, total):
    rows, ids, live = (_chunk_of(x, chunk, index) for x in arrays)
    weights, shift = _exponentials(num_items, rows, table, norm)
    return total + _chunk_loss(rows, table[ids], live, weights, shift)[0]

  arrays = (hidden, target, where)
  start = jnp.zeros((), hidden.dtype)
  return lax.fori_loop(0, _num_live_chunks(where, chunk), body, start)


def _fused_forward(num_items, chunk, hidden, table, target, where):
  """Loss and both gradients in one pass: the logits are formed once.

  The gradient of the logits, softmax less one-hot, is never formed either:
  1 / partition scales the small factors of the two products, and the one-hot
  part is a gather and a scatter.
  """
  norm = _largest_item_norm(num_items, table)
  arrays = (hidden, target, where)

  def body(index, carry):
    total, grad_hidden, grad_table = carry
    rows, ids, live = (_chunk_of(x, chunk, index) for x in arrays)
    weights, shift = _exponentials(num_items, rows, table, norm)
    target_rows = table[ids]
    loss, partition = _chunk_loss(rows, target_rows, live, weights, shift)
    counts = live[:, None].astype(rows.dtype)
    scale = jnp.where(live, 1.0 / partition, 0.0)[:, None]
    grad_rows = (weights @ table) * scale
    grad_rows -= target_rows * counts
    grad_table += weights.T @ (rows * scale)
    grad_table = grad_table.at[ids].add(-rows * counts)
    grad_rows = grad_rows.reshape(-1, chunk, grad_rows.shape[-1])
    grad_hidden = lax.dynamic_update_slice_in_dim(
      grad_hidden, grad_rows, index * chunk, axis=1
    )
    return total + loss, grad_hidden, grad_table

  start = (
    jnp.zeros((), hidden.dtype),
    jnp.zeros_like(hidden),
    jnp.zeros_like(table),
  )
  total, *gradients = lax.fori_loop(
    0, _num_live_chunks(where, chunk), body, start
  )
  return total, tuple(gradients)


def _fused_backward(num_items, chunk, gradients, cotangent):
  del num_items, chunk
  grad_hidden, grad_table = gradients
  no_gradient = np.zeros(grad_hidden.shape[:2], jax.dtypes.float0)
  return (
    (grad_hidden * cotangent).astype(grad_hidden.dtype),
    (grad_table * cotangent).astype(grad_table.dtype),
    no_gradient,
    no_gradient,
  )


_fused.defvjp(_fused_forward, _fused_backward)


def sampled_softmax_loss(
  positive: Float[Array, "*positions"],
  negative: Float[Array, "*positions k"],
  is_positive: Bool[Array, "*positions k"],
  log_expected_count: Float[Array, "*positions k"] | None,
  where: Bool[Array, "*positions"],
) -> Float[Array, "*positions"]:
  r"""Cross-entropy over a positive and k sampled negatives, with logQ.

  loss = log(exp s+ + sum_{j: i_j != +} exp(s_j - log(k q(i_j)))) - s+

  The sum over the sample is an unbiased estimate of the sum over all other
  items when negative j is drawn with probability q. Without the correction
  (`log_expected_count=None`) popular items, drawn often, are pushed down.

  Args:
    positive: scores of the positives.
    negative: scores of the sampled items.
    is_positive: where a sampled item is the positive itself; left out.
    log_expected_count: log(k q) of each sampled item, or None.
    where: which positions count.

  Returns:
    The loss at each position, 0 where masked.

  References:
    Bengio and Senecal: Adaptive Importance Sampling, 2008; Yi et al.:
    Sampling-Bias-Corrected Neural Modeling, RecSys 2019,
    https://doi.org/10.1145/3298689.3346996
  """
  # Masked before the logarithm: its gradient must not see NaN either.
  positive = jnp.where(where, positive, 0.0)
  negative = jnp.where(where[..., None], negative, 0.0)
  if log_expected_count is not None:
    negative = negative - log_expected_count
  negative = jnp.where(is_positive, MASKED, negative)
  logits = jnp.concatenate([positive[..., None], negative], axis=-1)
  loss = jax.nn.logsumexp(logits, axis=-1) - positive
  return jnp.where(where, loss, 0.0)
