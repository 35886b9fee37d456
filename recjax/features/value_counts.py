"""Counts of distinct values, and of those that share a hash bucket.

Values are told apart by their 64-bit hash (see `hashing`): of n distinct
texts two fall together with a probability of about n^2 / 2^65, which is 3e-8
for a million. Integers never do.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, Int32, UInt64

from recjax.features import hashing
from recjax.features.hashing import HashIndex
from recjax.features.raw_columns import Place, check_kind


class ValueCounter:
  """Counts distinct values that come block by block.

  Memory grows with the number of distinct values alone. Known values are
  found in an index; new ones wait, with repetitions, and are merged into it
  when there are many.
  """

  def __init__(self, place: Place):
    self._place = place
    self._kind = "none"
    self._index = HashIndex(np.zeros(0, np.uint64))
    self._hashes = np.zeros(0, np.uint64)
    self._counts = np.zeros(0, np.int64)
    self._values: pa.Array | None = None
    self._new: list[tuple[np.ndarray, np.ndarray, pa.Array]] = []
    self._num_new = 0

  def add(self, values: pa.Array) -> None:
    """Counts the values of a block; missing ones do not count.

    Raises:
      DataError: earlier blocks held integers and this one text, or reversely.
    """
    self._kind = check_kind(values, self._kind, self._place)
    present = ~hashing.is_missing(values)
    hashes = hashing.hash_array(values)
    known = self._index.find(hashes)
    found = known[present & (known >= 0)]
    self._counts += np.bincount(found, minlength=len(self._counts))
    rows = np.flatnonzero(present & (known < 0))
    if not len(rows):
      return
    new, first, counts = hashing.distinct(hashes[rows])
    texts = values.take(pa.array(rows[first]))
    if isinstance(texts, pa.DictionaryArray):
      texts = texts.dictionary_decode()
    if pa.types.is_string(texts.type):
      texts = texts.cast(pa.large_string())
    self._new.append((new, counts, texts))
    self._num_new += len(new)
    if self._num_new > 4096 + len(self._hashes) // 4:
      self._merge()

  def _merge(self) -> None:
    if not self._new:
      return
    if self._values is not None:
      self._new.append((self._hashes, self._counts, self._values))
    hashes, counts, values = zip(*self._new)
    self._hashes, first, inverse = np.unique(
      np.concatenate(hashes), return_index=True, return_inverse=True
    )
    total = np.zeros(len(self._hashes), np.int64)
    np.add.at(total, inverse, np.concatenate(counts))
    self._counts = total
    self._values = pa.concat_arrays(values).take(pa.array(first))
    self._index = HashIndex(self._hashes)
    self._new, self._num_new = [], 0

  def result(
    self,
  ) -> tuple[UInt64[np.ndarray, " vocab"], Int[np.ndarray, " vocab"], pa.Array]:
    """Hashes, counts and values; most frequent first, then by value."""
    self._merge()
    if self._values is None:
      return self._hashes, self._counts, pa.array([], pa.large_string())
    by_value = pc.call_function("array_sort_indices", [self._values])
    by_value = by_value.to_numpy()
    order = by_value[np.argsort(-self._counts[by_value], kind="stable")]
    values = self._values.take(pa.array(order))
    return self._hashes[order], self._counts[order], values


class CollisionCounter:
  """The share of distinct values whose bucket holds another one as well.

  Exact while at most `max_values` distinct values are held. From then on only
  every second, fourth, ... bucket is watched, so that memory is bounded and
  the share is an unbiased estimate.
  """

  def __init__(self, max_values: int = 1 << 21):
    self._max_values = max_values
    self._halvings = 0
    self._all_shared = False
    self._pairs = np.zeros((2, 0), np.uint64)
    self._new: list[np.ndarray] = []
    self._num_new = 0

  def add(
    self, hashes: UInt64[np.ndarray, " row"], ids: Int32[np.ndarray, " row"]
  ) -> None:
    """Sees values by their hash, with their buckets."""
    pairs = np.stack([hashes, ids.astype(np.uint64)])
    self._new.append(self._watched(pairs))
    self._num_new += self._new[-1].shape[1]
    if self._num_new > 1 << 18:
      self._merge()

  def _watched(self, pairs: np.ndarray) -> np.ndarray:
    if not self._halvings:
      return pairs
    chosen = hashing.mix(pairs[1]) >> np.uint64(64 - self._halvings) == 0
    return pairs[:, chosen]

  def _merge(self) -> None:
    pairs = np.concatenate([self._pairs, *self._new], axis=1)
    _, first = np.unique(pairs[0], return_index=True)
    self._pairs = pairs[:, first]
    self._new, self._num_new = [], 0
    while self._pairs.shape[1] > self._max_values:
      self._halvings += 1
      fewer = self._watched(self._pairs)
      # Too many values for the last bucket that is watched: all share theirs.
      self._all_shared |= not fewer.shape[1]
      self._pairs = fewer

  def rate(self) -> float:
    """The share; 0 where there are no values."""
    self._merge()
    if self._all_shared:
      return 1.0
    _, counts = np.unique(self._pairs[1], return_counts=True)
    total = int(counts.sum())
    return float(counts[counts > 1].sum()) / total if total else 0.0
