"""The values of a column as numbers of distinct ones, to count and compare."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int32, UInt64

from recjax.features import hashing


@dataclasses.dataclass(frozen=True, eq=False)
class ColumnValues:
  """A column whose distinct values are numbered; make one with `of_column`.

  A row of a column of lists has as many values as its list, any other row has
  one. A null, a NaN and an empty text are missing values.

  Attributes:
    distinct: the distinct values, in the order in which they come first; there
      may be missing ones.
    codes: of each value its place in `distinct`, -1 where it is missing.
    rows: the row of each value, ascending.
    num_rows: rows, those of empty lists included.
  """

  distinct: pa.Array
  codes: Int32[np.ndarray, " value"]
  rows: Int[np.ndarray, " value"]
  num_rows: int

  @classmethod
  def of_column(cls, column: pa.ChunkedArray) -> "ColumnValues":
    """Numbers the values of a column; of lists of lists, the innermost."""
    num_rows = len(column)
    rows = np.arange(num_rows)
    while is_list(column.type):
      lengths = pc.call_function("list_value_length", [column])
      rows = np.repeat(rows, np.asarray(lengths.fill_null(0)))
      column = pc.call_function("list_flatten", [column])
    if pa.types.is_dictionary(column.type):
      column = column.cast(column.type.value_type)
    if not len(column):
      empty = pa.array([], column.type)
      return cls(empty, np.zeros(0, np.int32), rows, num_rows)
    # All chunks get the same dictionary, that of the whole column.
    chunks = column.dictionary_encode().chunks
    distinct = chunks[0].dictionary
    # The last place, -1, is that of nulls.
    places = np.arange(len(distinct) + 1, dtype=np.int32)
    places[np.append(_is_blank(distinct), True)] = -1
    indices = [np.asarray(chunk.indices.fill_null(-1)) for chunk in chunks]
    return cls(distinct, places[np.concatenate(indices)], rows, num_rows)

  def part(self, start: int, stop: int) -> "ColumnValues":
    """Some consecutive rows; the distinct values keep their numbers."""
    first, end = np.searchsorted(self.rows, [start, stop])
    rows = self.rows[first:end] - start
    return ColumnValues(
      self.distinct, self.codes[first:end], rows, stop - start
    )

  def counts(self) -> Int[np.ndarray, " distinct"]:
    """How often each distinct value occurs; 0 for a missing one."""
    return np.bincount(self.codes + 1, minlength=len(self.distinct) + 1)[1:]

  def rows_with(
    self, chosen: Bool[np.ndarray, " distinct"]
  ) -> Bool[np.ndarray, " row"]:
    """The rows that have at least one of some distinct values."""
    found = np.zeros(self.num_rows, bool)
    found[self.rows[np.append(chosen, False)[self.codes]]] = True
    return found

  def row_keys(self) -> UInt64[np.ndarray, " row"]:
    """64 bits for each row, the same where a row has the same values in order.

    Other values give other keys, but for chances of about 2^-64 in lists.
    """
    keys = hashing.hash_integers(self.codes)
    if len(keys) == self.num_rows and np.array_equal(
      self.rows, np.arange(self.num_rows)
    ):
      return keys
    ends = np.searchsorted(self.rows, np.arange(self.num_rows), side="right")
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    position = np.arange(len(keys)) - starts[self.rows]
    keys = hashing.combined([keys, hashing.hash_integers(position)])
    # Sums modulo 2^64, so that differences of the running sum are right.
    running = np.cumsum(np.append(np.uint64(0), keys), dtype=np.uint64)
    return running[ends] - running[starts]


def is_list(kind: pa.DataType) -> bool:
  """Whether rows of a column hold several values."""
  return (
    pa.types.is_list(kind)
    or pa.types.is_large_list(kind)
    or pa.types.is_fixed_size_list(kind)
  )


def _is_blank(values: pa.Array) -> Bool[np.ndarray, " distinct"]:
  if pa.types.is_floating(values.type):
    return np.isnan(values.to_numpy(zero_copy_only=False))
  if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
    length = pc.call_function("binary_length", [values])
    return np.asarray(length) == 0
  return np.zeros(len(values), bool)
