"""A 64-bit hash of integers and text, the same on every machine.

With all arithmetic modulo 2^64, `mix` is the finalizer of SplitMix64:

  x ^= x >> 30;  x *= 0xBF58476D1CE4E5B9
  x ^= x >> 27;  x *= 0x94D049BB133111EB
  x ^= x >> 31

and with G = 0x9E3779B97F4A7C15

  hash(integer v)  = mix(v + G)                  (v in two's complement)
  hash(text)       = h_m,  h_0 = mix(bytes + 2 G),  h_i = mix(h_(i-1) ^ word_i)
  with seed s      = mix(hash + s G),  for s > 0
  hash(a, b, ...)  = mix(... mix(mix(hash(a)) + hash(b)) ...)

where bytes is the length of the text in UTF-8 and word_i its i-th eight bytes
as a little-endian integer, the last one filled up with zeros. Neither the
byte order of the machine, nor the process, nor the cut into blocks has a part
in it. Integers never collide with each other.

References:
  Guy Steele, Doug Lea, Christine Flood. Fast Splittable Pseudorandom Number
  Generators. OOPSLA 2014.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, Int32, UInt64

GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(x: UInt64[np.ndarray, " row"]) -> UInt64[np.ndarray, " row"]:
  """The finalizer of SplitMix64: one to one, every bit depends on all."""
  x = x ^ (x >> np.uint64(30))
  x *= _FIRST
  x ^= x >> np.uint64(27)
  x *= _SECOND
  x ^= x >> np.uint64(31)
  return x


def hash_integers(
  values: Int[np.ndarray, " row"],
) -> UInt64[np.ndarray, " row"]:
  """The hash of each integer."""
  return mix(values.astype(np.int64).view(np.uint64) + np.uint64(GOLDEN))


def hash_array(array: pa.Array) -> UInt64[np.ndarray, " row"]:
  """The hash of each value; that of a null means nothing.

  Args:
    array: int64, text, or a dictionary of these.
  """
  if isinstance(array, pa.DictionaryArray):
    if not len(array.dictionary):
      return np.zeros(len(array), np.uint64)
    codes = np.asarray(array.indices.fill_null(0))
    return hash_array(array.dictionary)[codes]
  if pa.types.is_int64(array.type):
    return hash_integers(np.asarray(array.fill_null(0)))
  return _hash_text(array)


def seeded(
  hashes: UInt64[np.ndarray, " row"], seed: int
) -> UInt64[np.ndarray, " row"]:
  """Another hash for every seed; seed 0 leaves them as they are."""
  if not seed:
    return hashes
  return mix(hashes + np.uint64(seed * GOLDEN % 2**64))


def combined(
  parts: Sequence[UInt64[np.ndarray, " row"]],
) -> UInt64[np.ndarray, " row"]:
  """One hash of several values a row; their order matters."""
  total = mix(parts[0])
  for part in parts[1:]:
    total = mix(total + part)
  return total


def buckets(
  hashes: UInt64[np.ndarray, " row"], num_buckets: int
) -> Int32[np.ndarray, " row"]:
  """1 + hash mod num_buckets."""
  return (hashes % np.uint64(num_buckets)).astype(np.int32) + np.int32(1)


def uniform(
  seed: int, first_row: int, num_rows: int
) -> UInt64[np.ndarray, " row"]:
  """A random 64-bit number for each of consecutive rows.

  It depends on the seed and the number of the row alone, so rows can be drawn
  or dealt out block by block with the same result as at once.
  """
  rows = np.arange(first_row, first_row + num_rows, dtype=np.int64)
  return mix(seeded(hash_integers(rows), seed + 1))


def _hash_text(array: pa.Array) -> UInt64[np.ndarray, " row"]:
  if not (
    pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
  ):
    array = array.cast(pa.large_string())
  small = pa.types.is_string(array.type)
  _, where, content = array.buffers()
  offsets = np.frombuffer(where, np.int32 if small else np.int64)
  offsets = offsets[array.offset : array.offset + len(array) + 1]
  offsets = offsets.astype(np.int64)
  lengths = np.diff(offsets)
  data = np.zeros(0, np.uint8)
  if content is not None and len(array):
    data = np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]
    offsets -= offsets[0]
  start = np.uint64(2 * GOLDEN % 2**64)
  if len(data) and np.array_equal(lengths & ~8, np.zeros_like(lengths)):
    # All values have eight bytes or none, as in Criteo: words lie in a row.
    hashes = mix(lengths.view(np.uint64) + start)
    full = lengths == 8
    words = np.frombuffer(data, "<u8").astype(np.uint64, copy=False)
    if full.all():
      return mix(hashes ^ words)
    hashes[full] = mix(hashes[full] ^ words)
    return hashes
  return _hash_words(
    data, offsets[:-1], lengths, mix(lengths.view("u8") + start)
  )


def _hash_words(
  data: np.ndarray, places: np.ndarray, left: np.ndarray, hashes: np.ndarray
) -> UInt64[np.ndarray, " row"]:
  """Adds one word of all texts after the other."""
  data = np.concatenate([data, np.zeros(8, np.uint8)])
  # words[i] is made of the bytes i..i+7.
  words = np.ndarray((len(data) - 7,), "<u8", data.data, strides=(1,))
  rows = np.flatnonzero(left > 0)
  places, left = places[rows], left[rows]
  while len(rows):
    word = words[places].astype(np.uint64, copy=False)
    unused = (8 - np.minimum(left, 8)).astype(np.uint64) * np.uint64(8)
    word &= np.uint64(2**64 - 1) >> unused
    hashes[rows] = mix(hashes[rows] ^ word)
    places, left = places + 8, left - 8
    more = left > 0
    if not more.all():
      rows, places, left = rows[more], places[more], left[more]
  return hashes


class HashIndex:
  """Finds 64-bit keys among many: a sorted array with a table of its parts.

  Part p of 2^b holds the keys whose highest b bits are p; there are two
  to four parts for every key, so that most parts hold one or none.
  """

  def __init__(self, keys: UInt64[np.ndarray, " vocab"]):
    """Takes distinct keys.

    Args:
      keys: hashes, in any order.
    """
    self._order = np.argsort(keys, kind="stable").astype(np.int32)
    self._keys = keys[self._order]
    bits = len(keys).bit_length() + 1
    self._shift = np.uint64(64 - bits)
    part = (self._keys >> self._shift).astype(np.int64)
    counts = np.bincount(part, minlength=2**bits)
    self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    self._longest = int(counts.max())

  def __len__(self) -> int:
    return len(self._keys)

  def find(self, keys: UInt64[np.ndarray, " row"]) -> Int32[np.ndarray, " row"]:
    """The place of each key among those given at first, or -1."""
    found = np.full(len(keys), -1, np.int32)
    if not len(self._keys):
      return found
    part = (keys >> self._shift).astype(np.int64)
    place, end = self._starts[part], self._starts[part + 1]
    last = np.int32(len(self._keys) - 1)
    hit = self._keys[np.minimum(place, last)] == keys
    hit &= place < end
    found[hit] = self._order[place[hit]]
    rows = np.flatnonzero(~hit & (end - place > 1))
    for step in range(1, self._longest):
      if not len(rows):
        break
      at = place[rows] + np.int32(step)
      hit = self._keys[at] == keys[rows]
      found[rows[hit]] = self._order[at[hit]]
      rows = rows[~hit & (at + 1 < end[rows])]
    return found


def distinct(
  hashes: UInt64[np.ndarray, " row"],
) -> tuple[
  UInt64[np.ndarray, " vocab"],
  Int[np.ndarray, " vocab"],
  Int[np.ndarray, " vocab"],
]:
  """Distinct hashes, the row where each first stands, and their counts."""
  values, first, counts = np.unique(
    hashes, return_index=True, return_counts=True
  )
  return values, first, counts


def is_missing(array: pa.Array) -> np.ndarray:
  """Which values are null or an empty text."""
  missing = np.asarray(array.is_null())
  if isinstance(array, pa.DictionaryArray):
    if len(array.dictionary):
      codes = np.asarray(array.indices.fill_null(0))
      missing = missing | is_missing(array.dictionary)[codes]
  elif not pa.types.is_int64(array.type):
    length = pc.call_function("binary_length", [array])
    missing = missing | (np.asarray(length.fill_null(0)) == 0)
  return missing
