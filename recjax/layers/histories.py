"""Histories: what all their encoders share, and the mean as the simplest.

A history is [batch, len, dim] with a mask `where`, [batch, len]. It stands at
the left, oldest item first, so that the row b has where[b, i] = (i < n_b). An
encoder gives one vector for it, and zeros for one without items. What stands
in masked places has no effect, not even if it is NaN.

  mean    v_b = (1 / n_b) sum_{i < n_b} x_bi

as the watch vectors of Covington, Adams, Sargin: Deep Neural Networks for
YouTube Recommendations, RecSys 2016, https://doi.org/10.1145/2959100.2959190
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from recjax.layers.attention import NEGATIVE


def valid_rows(
  history: Float[Array, "batch len dim"], where: Bool[Array, "batch len"]
) -> Float[Array, "batch len dim"]:
  """The history in float32 with zeros in masked places."""
  return jnp.where(where[..., None], history.astype(jnp.float32), 0.0)


def ages(where: Bool[Array, "batch len"]) -> Int[Array, "batch len"]:
  """How many items of the history follow each place; 0 at its last item.

  Behind the end it is 0 as well.
  """
  length = jnp.sum(where, axis=1, dtype=jnp.int32, keepdims=True)
  place = jnp.arange(where.shape[1], dtype=jnp.int32)[None]
  return jnp.maximum(length - 1 - place, 0)


def last_state(
  states: Float[Array, "batch len dim"], where: Bool[Array, "batch len"]
) -> Float[Array, "batch dim"]:
  """The state at the last item of each history; zeros if it has none."""
  return newest_first(states, where, 1)[0][:, 0]


def newest_first(
  history: Float[Array, "batch len dim"],
  where: Bool[Array, "batch len"],
  num: int,
) -> tuple[Float[Array, "batch num dim"], Bool[Array, "batch num"]]:
  """The last `num` items, the newest one at place 0.

  Args:
    history: left-aligned histories.
    where: which places hold an item.
    num: places of the result, which may be more than those of the history.

  Returns:
    The rows in float32, zeros where there is no item, and which are there.
  """
  length = jnp.sum(where, axis=1, dtype=jnp.int32, keepdims=True)
  place = length - 1 - jnp.arange(num, dtype=jnp.int32)[None]
  there = place >= 0
  rows = jnp.take_along_axis(
    history, jnp.maximum(place, 0)[..., None], axis=1, mode="clip"
  )
  return valid_rows(rows, there), there


def masked_softmax(
  logits: Float[Array, "*shape num"], where: Bool[Array, "*shape num"]
) -> Float[Array, "*shape num"]:
  """Softmax of the last axis; 0 where masked, and everywhere if all is.

  Args:
    logits: of any values.
    where: which count.

  Returns:
    Weights in float32 that sum to 1, or to 0 where nothing counts.
  """
  logits = jnp.where(where, logits.astype(jnp.float32), NEGATIVE)
  return jnp.where(where, jax.nn.softmax(logits, axis=-1), 0.0)


def dense_rows(
  x: Float[Array, "*shape dim"], size: int, *, name: str, use_bias: bool = True
) -> Float[Array, "*shape size"]:
  """A linear layer over the last axis, for compact methods.

  All other axes become one on the way: the gradient of the kernel is then a
  plain matrix product, which takes half the time of one over two axes on CPU.

  Args:
    x: vectors along the last axis.
    size: width of the result.
    name: of the layer among the parameters.
    use_bias: whether to add a bias.

  Returns:
    W x + b.
  """
  rows = x.reshape(-1, x.shape[-1])
  out = nn.Dense(size, use_bias=use_bias, name=name)(rows)
  return out.reshape(*x.shape[:-1], size)


class MeanHistory(nn.Module):
  """The mean of the items; it has no parameters."""

  @nn.compact
  def __call__(
    self,
    history: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch dim"]:
    """Averages over the items.

    Args:
      history: left-aligned, oldest first.
      where: which places hold an item.
      deterministic: makes no difference here.

    Returns:
      One vector a history; zeros if it is empty.
    """
    del deterministic
    total = jnp.sum(valid_rows(history, where), axis=1)
    count = jnp.sum(where, axis=1, dtype=jnp.float32, keepdims=True)
    return total / jnp.maximum(count, 1.0)
