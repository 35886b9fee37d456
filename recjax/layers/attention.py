"""Causal self-attention over packed sequences.

Vaswani et al.: Attention Is All You Need, 2017,
https://arxiv.org/abs/1706.03762

a_ij = softmax_j(<q_i, k_j> / sqrt(head dim)),  o_i = sum_j a_ij v_j,

where j runs over the positions j <= i of i's own segment. Several sequences
may stand in one row of a batch; `segment_id` tells them apart and is 0 on
padding.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from recjax.layers.dropout import dropout

NEGATIVE = -1e9
"""Stands for minus infinity, so that a row without any key gives no NaN."""


def causal_attention(
  query: Float[Array, "batch len head dim"],
  key: Float[Array, "batch len head dim"],
  value: Float[Array, "batch len head dim"],
  segment_id: Int[Array, "batch len"],
  *,
  dropout_rate: float = 0.0,
  dropout_key: Key[Array, ""] | None = None,
  query_block: int = 64,
) -> Float[Array, "batch len head dim"]:
  """Attends to earlier positions of the same segment.

  The queries are taken in blocks, each against the keys up to its own end:
  about half of the products of a long sequence lie above the diagonal and
  are never formed. Dropout acts on the attention weights, after the softmax
  and without renormalizing, as in the papers.

  Args:
    query: queries.
    key: keys.
    value: values.
    segment_id: which sequence a position belongs to; 0 on padding.
    dropout_rate: probability of dropping an attention weight.
    dropout_key: random key; None switches dropout off.
    query_block: queries taken at a time.

  Returns:
    The attended values. At padding they are an average of other padding.
  """
  length = query.shape[1]
  query = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
  position = jnp.arange(length)
  outputs = []
  for start in range(0, length, query_block):
    stop = min(start + query_block, length)
    logits = jnp.einsum("bqhd,bkhd->bhqk", query[:, start:stop], key[:, :stop])
    visible = (
      segment_id[:, None, start:stop, None] == segment_id[:, None, None, :stop]
    ) & (position[start:stop, None] >= position[None, :stop])[None, None]
    logits = jnp.where(visible, logits.astype(jnp.float32), NEGATIVE)
    logits -= lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits)
    total = jnp.sum(weights, axis=-1)  # [batch, head, query]
    if dropout_key is not None and dropout_rate > 0.0:
      dropout_key, block_key = jax.random.split(dropout_key)
      weights = dropout(block_key, weights, rate=dropout_rate)
    attended = jnp.einsum(
      "bhqk,bkhd->bqhd", weights.astype(value.dtype), value[:, :stop]
    )
    # Scaling the outputs is cheaper than scaling the weights. A quotient would
    # do, but its gradient is a slow reduction on CPU.
    scale = 1.0 / jnp.swapaxes(total, 1, 2)[..., None]
    outputs.append(attended * scale.astype(value.dtype))
  return jnp.concatenate(outputs, axis=1)
