"""From values to ids: vocabularies, hash buckets, ids that are given.

A fit sees the values of the training rows block by block (see
`value_counts`), so the rows never have to be in memory together.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32, UInt64

from recjax.errors import DataError
from recjax.features import hashing
from recjax.features.encodings import GivenIds, Hashed, Vocabulary
from recjax.features.hashing import HashIndex
from recjax.features.raw_columns import Place, check_kind, kind_of
from recjax.features.value_counts import CollisionCounter, ValueCounter

Arrays = Mapping[str, np.ndarray]


@runtime_checkable
class IdEncoder(Protocol):
  """Gives ids to values."""

  @property
  def num_ids(self) -> int:
    """Rows that a table needs: one more than the largest id."""
    ...

  @property
  def collision_rate(self) -> float:
    """The share of distinct training values that share their id."""
    ...

  def encode(self, values: pa.Array, place: Place) -> Int32[np.ndarray, " row"]:
    """The id of each value, 0 where it is missing."""
    ...

  def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What to save: JSON values, and arrays."""
    ...


# -- Encoders -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class VocabularyEncoder:
  """An id for each value that was frequent enough.

  Attributes:
    oov: "bucket" or "error".
    kind: "integer", "text" or "none".
    hashes: of the values, by id - 2.
    values: the values themselves, by id - 2.
  """

  oov: str
  kind: str
  hashes: UInt64[np.ndarray, " vocab"]
  values: pa.Array

  def __post_init__(self):
    object.__setattr__(self, "_index", HashIndex(self.hashes))

  @property
  def num_ids(self) -> int:
    """Padding, out-of-vocabulary, and the values."""
    return 2 + len(self.hashes)

  @property
  def collision_rate(self) -> float:
    """No two values share an id, other than those out of vocabulary."""
    return 0.0

  def encode(self, values: pa.Array, place: Place) -> Int32[np.ndarray, " row"]:
    """2 + the place in the vocabulary, 1 outside of it, 0 where missing."""
    check_kind(values, self.kind, place)
    index: HashIndex = getattr(self, "_index")  # noqa: B009
    ids = index.find(hashing.hash_array(values)) + np.int32(2)
    ids[hashing.is_missing(values)] = 0
    if self.oov == "error" and np.any(ids == 1):
      at = int(np.flatnonzero(ids == 1)[0])
      place.fail(
        at,
        values[at].as_py(),
        f"which no training row held ({len(self.hashes)} categories are"
        " known). Vocabulary(oov='bucket') gives such values id 1.",
      )
    return ids

  def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Integers as they are, texts as bytes with offsets."""
    facts = {"class": "vocabulary", "oov": self.oov, "kind": self.kind}
    if pa.types.is_int64(self.values.type):
      return facts, {"hashes": self.hashes, "values": np.asarray(self.values)}
    text = pa.concat_arrays([self.values.cast(pa.large_string())])
    _, where, content = text.buffers()
    offsets = np.zeros(1, np.int64)
    data = np.zeros(0, np.uint8)
    if len(text):
      offsets = np.frombuffer(where, np.int64)[text.offset :][: len(text) + 1]
      if content is not None:
        data = np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]
      offsets = offsets - offsets[0]
    return facts, {"hashes": self.hashes, "offsets": offsets, "text": data}


@dataclasses.dataclass(frozen=True, eq=False)
class HashEncoder:
  """Buckets of a hash.

  Attributes:
    spec: number of buckets and seed.
    collision_rate: of the training values.
  """

  spec: Hashed
  collision_rate: float

  @property
  def num_ids(self) -> int:
    """Padding and the buckets."""
    return 1 + self.spec.num_buckets

  def encode(self, values: pa.Array, place: Place) -> Int32[np.ndarray, " row"]:
    """1 + the bucket, 0 where missing."""
    del place
    ids = hash_ids(values, self.spec)
    ids[hashing.is_missing(values)] = 0
    return ids

  def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The settings."""
    return {
      "class": "hashed",
      "num_buckets": self.spec.num_buckets,
      "seed": self.spec.seed,
      "collision_rate": self.collision_rate,
    }, {}


def hash_ids(values: pa.Array, spec: Hashed) -> Int32[np.ndarray, " row"]:
  """The bucket of each value, also of missing ones."""
  hashes = hashing.seeded(hashing.hash_array(values), spec.seed)
  return hashing.buckets(hashes, spec.num_buckets)


@dataclasses.dataclass(frozen=True, eq=False)
class GivenEncoder:
  """Ids as they stand in the column.

  Attributes:
    num_ids: one more than the largest.
  """

  num_ids: int

  @property
  def collision_rate(self) -> float:
    """Nothing is hashed."""
    return 0.0

  def encode(self, values: pa.Array, place: Place) -> Int32[np.ndarray, " row"]:
    """The ids, 0 where missing.

    Raises:
      DataError: one lies outside of [0, num_ids), or is no integer.
    """
    if isinstance(values, pa.DictionaryArray):
      values = values.dictionary_decode()
    if kind_of(values) != "integer":
      values = _parsed(values, place)
    ids = np.asarray(values.fill_null(0))
    bad = np.flatnonzero((ids < 0) | (ids >= self.num_ids))
    if len(bad):
      at = int(bad[0])
      place.fail(
        at,
        int(ids[at]),
        f"and ids must lie in [0, {self.num_ids - 1}] (0 is padding);"
        f" {len(bad)} of {len(ids)} values do not.",
      )
    return ids.astype(np.int32)

  def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The number of ids."""
    return {"class": "given", "num_ids": self.num_ids}, {}


def _parsed(texts: pa.Array, place: Place) -> pa.Array:
  """Integers written as text; an empty text is a missing one."""
  missing = pa.array(hashing.is_missing(texts))
  texts = pc.call_function("if_else", [missing, pa.scalar(None), texts])
  try:
    return texts.cast(pa.int64())
  except pa.ArrowInvalid:
    pass
  for at, text in enumerate(texts.to_pylist()):
    if text is not None and not re.fullmatch(r"[+-]?\d+", text):
      place.fail(
        at, text, "which is no integer id. Use Vocabulary or Hashed for text."
      )
  raise DataError(
    f"feature {place.feature!r}: column {place.column!r} holds integers"
    " beyond 64 bits."
  )


def encoder_from_state(facts: dict[str, Any], arrays: Arrays) -> IdEncoder:
  """An encoder from what its `state` gave."""
  if facts["class"] == "hashed":
    spec = Hashed(facts["num_buckets"], facts["seed"])
    return HashEncoder(spec, facts["collision_rate"])
  if facts["class"] == "given":
    return GivenEncoder(facts["num_ids"])
  if "values" in arrays:
    values = pa.array(arrays["values"].astype(np.int64))
  else:
    offsets, data = arrays["offsets"], arrays["text"]
    values = pa.LargeStringArray.from_buffers(
      len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data)
    )
  return VocabularyEncoder(
    facts["oov"], facts["kind"], arrays["hashes"].astype(np.uint64), values
  )


# -- Fits ---------------------------------------------------------------------


class VocabularyFit:
  """Counts values, then keeps the frequent ones."""

  def __init__(self, spec: Vocabulary, place: Place):
    self._spec = spec
    self._counter = ValueCounter(place)

  def add(self, values: pa.Array) -> None:
    """Sees the values of a block."""
    self._counter.add(values)

  def finish(self) -> VocabularyEncoder:
    """The encoder."""
    hashes, counts, values = self._counter.result()
    num = int(np.sum(counts >= self._spec.min_count))
    if self._spec.max_size:
      num = min(num, self._spec.max_size)
    kind = "none" if not len(hashes) else kind_of(values)
    return VocabularyEncoder(
      self._spec.oov, kind, hashes[:num], values.slice(0, num)
    )


class HashFit:
  """Learns nothing but how many distinct values share a bucket."""

  def __init__(self, spec: Hashed):
    self._spec = spec
    self._collisions = CollisionCounter()

  def add(self, values: pa.Array) -> None:
    """Sees the values of a block."""
    present = ~hashing.is_missing(values)
    hashes = hashing.hash_array(values)[present]
    self._collisions.add(hashes, hash_ids(values, self._spec)[present])

  def finish(self) -> HashEncoder:
    """The encoder."""
    return HashEncoder(self._spec, self._collisions.rate())


class GivenFit:
  """Checks that training rows are within the range."""

  def __init__(self, spec: GivenIds):
    self._encoder = GivenEncoder(spec.num_ids)

  def add(self, values: pa.Array) -> None:
    """Nothing is learnt: encoding checks."""

  def finish(self) -> GivenEncoder:
    """The encoder."""
    return self._encoder


def make_fit(spec: Any, place: Place) -> VocabularyFit | HashFit | GivenFit:
  """The fit of an encoding other than SharedWith."""
  if isinstance(spec, Vocabulary):
    return VocabularyFit(spec, place)
  if isinstance(spec, Hashed):
    return HashFit(spec)
  return GivenFit(spec)
