"""Histories read in two steps: items to segments, segments to a vector.

Quadrana, Karatzoglou, Hidasi, Cremonesi: Personalizing Session-based
Recommendations with Hierarchical Recurrent Neural Networks, RecSys 2017,
https://arxiv.org/abs/1706.04148

  s_q = segment(items of segment q),  v = sequence(s_1, ..., s_m)

A history of n items has m = ceil(n / segment_len) segments, counted from its
end: all are full but the oldest, which takes what is left.

Deviations from the paper: segments have a fixed length, where the paper has
sessions; any encoders may stand at both steps; and the upper one does not
initialize the lower one, so that all segments are read at once.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.histories import MeanHistory
from recjax.layers.recurrent import GRUHistory


class HierarchicalHistory(nn.Module):
  """An encoder of segments below an encoder of their vectors.

  Attributes:
    segment_len: items of a full segment.
    segment: encoder of the items of a segment; None is `MeanHistory`.
    sequence: encoder of the vectors of the segments, oldest first; None is
      `GRUHistory`.
  """

  segment_len: int = 10
  segment: Any = None
  sequence: Any = None

  def __post_init__(self):
    super().__post_init__()
    check_range(
      "HierarchicalHistory.segment_len", self.segment_len, 1, integer=True
    )

  @nn.compact
  def __call__(
    self,
    history: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch out_dim"]:
    """Encodes segments, then their sequence.

    Args:
      history: left-aligned, oldest first.
      where: which places hold an item.
      deterministic: of both encoders.

    Returns:
      What `sequence` gives; zeros if there is no item.
    """
    items, items_where, segments_where = _segments(
      history, where, self.segment_len
    )
    batch, num = segments_where.shape
    # Made here: a module as a default would be one for all that use it.
    segment = self.segment or MeanHistory(name="segment")
    sequence = self.sequence or GRUHistory(name="sequence")
    vectors = segment(
      items.reshape(batch * num, self.segment_len, -1),
      items_where.reshape(batch * num, self.segment_len),
      deterministic=deterministic,
    )
    return sequence(
      vectors.reshape(batch, num, -1),
      segments_where,
      deterministic=deterministic,
    )


def _segments(
  history: Float[Array, "batch len dim"],
  where: Bool[Array, "batch len"],
  size: int,
) -> tuple[
  Float[Array, "batch segment size dim"],
  Bool[Array, "batch segment size"],
  Bool[Array, "batch segment"],
]:
  """Items by segment, which are there, and which segments have any.

  Segments stand at the left, oldest first, and so do the items of each.
  """
  batch, places, dim = history.shape
  num = -(-places // size)
  length = jnp.sum(where, axis=1, dtype=jnp.int32, keepdims=True)
  used = -(-length // size)
  number = jnp.arange(num, dtype=jnp.int32)[None]
  stop = length - (used - 1 - number) * size  # [batch, segment]
  start = jnp.maximum(stop - size, 0)
  place = start[..., None] + jnp.arange(size, dtype=jnp.int32)[None, None]
  there = place < jnp.minimum(stop, length)[..., None]
  items = jnp.take_along_axis(
    history, place.reshape(batch, -1, 1), axis=1, mode="clip"
  )
  return items.reshape(batch, num, size, dim), there, number < used
