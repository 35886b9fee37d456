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
  pad = -hidden.shape[1] % chunk
  hidden = jnp.pad(hidden, ((0, 0), (0, pad), (0, 0)))
  target = jnp.pad(target, ((0, 0), (0, pad)))
  where = jnp.pad(where, ((0, 0), (0, pad)))
  return _fused(num_items, chunk, hidden, table, target, where)


def _chunk_of(array, chunk, index):
  return lax.dynamic_slice_in_dim(array, index * chunk, chunk, axis=1)


def _num_live_chunks(where, chunk):
  """How many leading chunks hold all positions that count."""
  ends = jnp.where(where, jnp.arange(where.shape[1])[None, :] + 1, 0)
  return (jnp.max(ends) + chunk - 1) // chunk


def _chunk_loss(num_items, chunk, arrays, table, index):
  """Loss of one chunk, and what its gradients are made of."""
  rows, target, live = (_chunk_of(array, chunk, index) for array in arrays)
  logits = jnp.einsum("gcd,vd->gcv", rows, table)
  column = lax.broadcasted_iota(jnp.int32, logits.shape, 2)
  is_item = (column >= 1) & (column <= num_items)
  logits = jnp.where(is_item, logits, MASKED)
  logits -= jnp.max(logits, axis=-1, keepdims=True)
  is_target = column == target[..., None]
  hit = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
  weights = jnp.exp(logits)
  partition = jnp.sum(weights, axis=-1)
  loss = jnp.sum(jnp.where(live, jnp.log(partition) - hit, 0.0))
  return loss, rows, live, weights, partition, is_target


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _fused(num_items, chunk, hidden, table, target, where):
  arrays = (hidden, target, where)
  return lax.fori_loop(
    0,
    _num_live_chunks(where, chunk),
    lambda index, total: (
      total + _chunk_loss(num_items, chunk, arrays, table, index)[0]
    ),
    jnp.float32(0.0),
  )


def _fused_forward(num_items, chunk, hidden, table, target, where):
  """Loss and both gradients in one pass: the logits are formed once."""
  arrays = (hidden, target, where)

  def body(index, carry):
    total, grad_hidden, grad_table = carry
    loss, rows, live, weights, partition, is_target = _chunk_loss(
      num_items, chunk, arrays, table, index
    )
    scale = jnp.where(live, 1.0 / partition, 0.0)[..., None]
    grad_logits = weights * scale
    grad_logits -= (is_target & live[..., None]).astype(jnp.float32)
    grad_hidden = lax.dynamic_update_slice_in_dim(
      grad_hidden,
      jnp.einsum("gcv,vd->gcd", grad_logits, table),
      index * chunk,
      axis=1,
    )
    grad_table += jnp.einsum("gcv,gcd->vd", grad_logits, rows)
    return total + loss, grad_hidden, grad_table

  start = (jnp.float32(0.0), jnp.zeros_like(hidden), jnp.zeros_like(table))
  total, *gradients = lax.fori_loop(
    0, _num_live_chunks(where, chunk), body, start
  )
  return total, tuple(gradients)


def _fused_backward(num_items, chunk, gradients, cotangent):
  del num_items, chunk
  grad_hidden, grad_table = gradients
  no_gradient = np.zeros(grad_hidden.shape[:2], jax.dtypes.float0)
  return (
    grad_hidden * cotangent,
    grad_table * cotangent,
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
  if log_expected_count is not None:
    negative = negative - log_expected_count
  negative = jnp.where(is_positive, MASKED, negative)
  logits = jnp.concatenate([positive[..., None], negative], axis=-1)
  loss = jax.nn.logsumexp(logits, axis=-1) - positive
  return jnp.where(where, loss, 0.0)
