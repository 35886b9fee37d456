"""Rows of different lengths in two flat arrays (compressed sparse rows)."""

import dataclasses

import numpy as np
from jaxtyping import Int, Shaped


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
  """Row i holds `values[offsets[i]:offsets[i + 1]]`.

  Attributes:
    values: all rows, one after another.
    offsets: int64, one more than there are rows; starts with 0.
  """

  values: Shaped[np.ndarray, " values"]
  offsets: Int[np.ndarray, " rows_plus_one"]

  def __len__(self) -> int:
    return len(self.offsets) - 1

  def __getitem__(self, row: int) -> Shaped[np.ndarray, " len"]:
    return self.values[self.offsets[row] : self.offsets[row + 1]]

  @property
  def lengths(self) -> Int[np.ndarray, " rows"]:
    """The length of every row."""
    return np.diff(self.offsets)

  @property
  def row_ids(self) -> Int[np.ndarray, " values"]:
    """The row in which each value stands."""
    return np.repeat(np.arange(len(self)), self.lengths)

  @classmethod
  def from_pairs(
    cls,
    row_ids: Int[np.ndarray, " values"],
    values: Shaped[np.ndarray, " values"],
    num_rows: int,
  ) -> "Ragged":
    """Groups `values` by row, keeping their order inside a row.

    Args:
      row_ids: the row of each value, in [0, num_rows).
      values: what to group.
      num_rows: how many rows there are, empty ones included.
    """
    counts = np.bincount(row_ids, minlength=num_rows)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if np.any(np.diff(row_ids) < 0):
      values = values[np.argsort(row_ids, kind="stable")]
    return cls(values, offsets)

  def take(self, rows: Int[np.ndarray, " taken"]) -> "Ragged":
    """The rows asked for, in that order."""
    lengths = self.lengths[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    index = np.repeat(self.offsets[rows], lengths) + inside
    return Ragged(self.values[index], offsets)

  def last(self, num: int) -> "Ragged":
    """At most the last `num` values of every row."""
    lengths = np.minimum(self.lengths, num)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    index = np.repeat(self.offsets[1:] - lengths, lengths) + inside
    return Ragged(self.values[index], offsets)

  def padded(
    self, width: int, fill: int = 0
  ) -> Shaped[np.ndarray, "rows width"]:
    """Rows as a matrix, left-aligned; values past `width` are dropped."""
    out = np.full((len(self), width), fill, self.values.dtype)
    inside = np.arange(len(self.values)) - np.repeat(
      self.offsets[:-1], self.lengths
    )
    keep = inside < width
    out[self.row_ids[keep], inside[keep]] = self.values[keep]
    return out
