"""Rows with the positions they were shown at, and curves over positions."""

import dataclasses

import numpy as np
from jaxtyping import Float64, Int64

from recjax.data.examples import Examples
from recjax.errors import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class ShownRows:
  """Rows of training with positions and clicks.

  Attributes:
    examples: all columns.
    position: of each row, from 1 on.
    click: 0 or 1; 0 where it is unknown.
    weight: of each row; 0 where the click is unknown.
    num_positions: positions run from 1 to this.
  """

  examples: Examples
  position: Int64[np.ndarray, " row"]
  click: Float64[np.ndarray, " row"]
  weight: Float64[np.ndarray, " row"]
  num_positions: int

  def by_position(
    self, values: Float64[np.ndarray, " row"]
  ) -> Float64[np.ndarray, " len"]:
    """The weighted sums of values at position 1, 2, ..."""
    place = self.position - 1
    return np.bincount(place, self.weight * values, self.num_positions)


@dataclasses.dataclass(frozen=True, eq=False)
class PositionCurve:
  """What is known of each position, against position 1.

  Attributes:
    values: at position 1, 2, ...; the first is 1.
    stderr: of each; None where they are not known.
    method: what it was told by, for reports.
  """

  values: Float64[np.ndarray, " len"]
  stderr: Float64[np.ndarray, " len"] | None
  method: str


def positions_of(
  examples: Examples, column: str, num_positions: int
) -> Int64[np.ndarray, " row"]:
  """The positions of rows.

  Args:
    examples: the rows.
    column: of their positions.
    num_positions: the last position.

  Raises:
    DataError: there is no such column, or a row has no position or one
      outside 1 to `num_positions`; the row is named.
  """
  values = examples.numbers(column).astype(np.float64)
  bad = ~((values >= 1) & (values <= num_positions) & (values % 1 == 0))
  if bad.any():
    row = int(np.argmax(bad))
    shown = examples.table.column(column)[row].as_py()
    raise DataError(
      f"{examples.name}, row {row}: column {column!r} holds {shown!r}; a"
      f" position must be a whole number from 1 to {num_positions}, which"
      f" num_positions says; there are {int(bad.sum())} such rows."
    )
  return values.astype(np.int64)


def shown_rows(
  examples: Examples, *, label: str, column: str, num_positions: int
) -> ShownRows:
  """Rows with their positions and clicks.

  Args:
    examples: rows of training.
    label: column of clicks.
    column: of positions.
    num_positions: the last position.

  Raises:
    DataError: see `positions_of`; or a position has no rows or no click.
  """
  position = positions_of(examples, column, num_positions)
  label_values = examples.numbers(label).astype(np.float64)
  known = np.isfinite(label_values)
  weight = known.astype(np.float64)
  if examples.weights is not None:
    weight *= examples.weights
  click = np.where(known, label_values, 0.0)
  rows = ShownRows(examples, position, click, weight, num_positions)
  for what, sums in (
    ("row", rows.by_position(np.ones_like(click))),
    ("click", rows.by_position(click)),
  ):
    if not (sums > 0).all():
      place = int(np.argmin(sums > 0)) + 1
      raise DataError(
        f"{examples.name}: position {place} has no {what} with a known"
        f" {label!r}, so that its propensity can not be told; set num_positions"
        f" to the last position that has any, or leave out such rows."
      )
  return rows
