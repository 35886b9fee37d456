"""Rows with the positions they were shown at, and curves over positions."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

from recjax.data.examples import Examples
from recjax.data.label_columns import LabelRule, check_labels
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
  values = examples.numbers(column)
  rule = LabelRule(column, "position", last=num_positions)
  check_labels((rule,), {column: values}, name=examples.name)
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


def position_means(
  blocks: Iterable[Mapping[str, Float[np.ndarray, "_"]]],
  column: str,
  num_positions: int,
  others: Sequence[str] = (),
  truth: str = "",
) -> tuple[dict[str, float], Float64[np.ndarray, " len"] | None]:
  """Means of columns, and the mean truth at each position against the first.

  Args:
    blocks: rows with the columns.
    column: of positions, which were checked.
    num_positions: the last position.
    others: columns whose mean over all rows is wanted.
    truth: column of true propensities, or "".

  Returns:
    The means of the others; and the curve, 0 where a position has no row, or
    None without `truth`.

  Raises:
    DataError: the truth at the first position, against which all others are
      told, is 0, or no row is there.
  """
  totals, num_rows = dict.fromkeys(others, 0.0), 0
  sums = np.zeros((2, num_positions))  # Of rows, and of their truth.
  for block in blocks:
    num_rows += len(block[column])
    for name in others:
      totals[name] += float(block[name].sum(dtype=np.float64))
    if truth:
      place = block[column].astype(np.int64) - 1
      sums[0] += np.bincount(place, minlength=num_positions)
      values = block[truth].astype(np.float64)
      sums[1] += np.bincount(place, values, num_positions)
  means = {name: total / max(num_rows, 1) for name, total in totals.items()}
  if not truth:
    return means, None
  if sums[1, 0] <= 0:
    why = (
      f"holds 0 where {column!r} is 1"
      if sums[0, 0]
      else (f"is not known there: no row of training has {column!r} 1")
    )
    raise DataError(
      "propensities are told against that of position 1, and the column"
      f" {truth!r} {why}. Leave `truth` out, or give such rows."
    )
  curve = sums[1] / np.maximum(sums[0], 1)
  return means, curve / curve[0]
