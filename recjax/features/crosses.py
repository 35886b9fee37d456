"""Crosses: the values of several columns together, hashed into buckets.

The transformations of the wide part in Cheng et al., Wide & Deep Learning for
Recommender Systems, 2016, https://arxiv.org/abs/1606.07792, with a hash in
place of a list of all combinations.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, UInt64

from recjax.features import hashing
from recjax.features.raw_columns import Place, as_values, take_column
from recjax.features.specs import Cross
from recjax.features.value_counts import CollisionCounter

# Of single-valued features int32 [row]; others are not looked at.
Ids = Mapping[str, np.ndarray]


def cross_hashes(
  spec: Cross, block: pa.Table, first_row: int, ids: Ids
) -> tuple[UInt64[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
  """The hash of each row's values, and whether one of them is missing.

  Args:
    spec: what to cross.
    block: raw columns.
    first_row: number of the first row, for messages.
    ids: of the features that are crossed.
  """
  parts, missing = [], np.zeros(block.num_rows, bool)
  for column in spec.columns:
    place = Place(spec.name, column, first_row)
    values = as_values(take_column(block, place), place)
    parts.append(hashing.hash_array(values))
    missing |= hashing.is_missing(values)
  for name in spec.features:
    parts.append(hashing.hash_integers(ids[name]))
    missing |= ids[name] == 0
  return hashing.seeded(hashing.combined(parts), spec.seed), missing


class CrossFit:
  """Learns nothing but how many distinct combinations share a bucket."""

  def __init__(self, spec: Cross):
    self._spec = spec
    self._collisions = CollisionCounter()
    self._seen = False

  def add(self, block: pa.Table, first_row: int, ids: Ids) -> None:
    """Sees a block of training rows."""
    self._seen = True
    hashes, missing = cross_hashes(self._spec, block, first_row, ids)
    buckets = hashing.buckets(hashes, self._spec.num_buckets)
    self._collisions.add(hashes[~missing], buckets[~missing])

  def finish(self) -> "CrossEncoder":
    """The encoder."""
    rate = self._collisions.rate() if self._seen else float("nan")
    return CrossEncoder(self._spec, rate)


@dataclasses.dataclass(frozen=True, eq=False)
class CrossEncoder:
  """Buckets of crossed values.

  Attributes:
    spec: what is crossed.
    collision_rate: the share of distinct combinations of the training rows
      whose bucket holds another one as well; NaN where it was not counted.
  """

  spec: Cross
  collision_rate: float

  @property
  def num_ids(self) -> int:
    """Padding and the buckets."""
    return 1 + self.spec.num_buckets

  def encode(
    self, block: pa.Table, first_row: int, ids: Ids
  ) -> Int32[np.ndarray, " row"]:
    """1 + the bucket, 0 where a value is missing."""
    hashes, missing = cross_hashes(self.spec, block, first_row, ids)
    found = hashing.buckets(hashes, self.spec.num_buckets)
    return np.where(missing, np.int32(0), found)

  def state(self) -> tuple[dict, dict[str, np.ndarray]]:
    """What to save."""
    return {"class": "cross", "collision_rate": self.collision_rate}, {}
