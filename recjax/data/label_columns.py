"""Columns of labels beside the features, and what may stand in them.

Tasks of several objectives read further labels of a row, columns that say where
these count, and positions. Rows are checked block by block, in memory or while
they are encoded to disk, by rules of these kinds:

  binary     0, 1, or null where it is unknown
  real       a finite number, or null
  log        a number above -1, of which ln(1 + y) is taken, or null
  position   a whole number from 1 to a last one
  number     a finite number
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from recjax.errors import DataError, check_choice, check_column

KINDS = ("binary", "real", "log", "position", "number")
_RULES = {
  "binary": "it must be 0, 1 or null",
  "real": "it must be a finite number or null",
  "log": "ln(1 + y) is taken of it, so that it must be above -1, or null",
  "number": "it must be a finite number",
}
_Values = Float[np.ndarray, " row"]


@dataclasses.dataclass(frozen=True)
class LabelRule:
  """What may stand in a column; a column may have several rules.

  Attributes:
    column: the raw column.
    kind: of KINDS.
    last: of "position", the last one.
    given: a column that must not be 0 where this one is 1; "" is none.
    masks: columns that are 1 in the rows where that is asked for.
    train_only: other parts may hold anything.
    in_batch: whether a step reads it, and not the judge alone.
  """

  column: str
  kind: str = "binary"
  last: int = 0
  given: str = ""
  masks: tuple[str, ...] = ()
  train_only: bool = False
  in_batch: bool = True

  def __post_init__(self):
    check_choice("LabelRule.kind", self.kind, KINDS)


def label_key(column: str) -> str:
  """The name of a column of labels in a batch."""
  return f"label/{column}"


def label_names(
  rules: Sequence[LabelRule], *, in_batch: bool = False
) -> tuple[str, ...]:
  """The columns of rules, each once; with `in_batch` those of a batch."""
  kept = (rule for rule in rules if rule.in_batch or not in_batch)
  return tuple(dict.fromkeys(rule.column for rule in kept))


def check_names(
  rules: Sequence[LabelRule], known: Sequence[str], name: str
) -> None:
  """Raises DataError if the rows called `name` lack one of the columns."""
  for column in label_names(rules):
    check_column(name, column, known)


def check_labels(
  rules: Sequence[LabelRule],
  values: Mapping[str, _Values],
  *,
  name: str,
  part: str = "train",
  first_row: int = 0,
) -> None:
  """Raises DataError for the first row that breaks a rule.

  Args:
    rules: of the columns.
    values: of each column; NaN is null.
    name: how the rows are called.
    part: "train", "validation" or "test".
    first_row: the number of the first row.
  """
  for rule in rules:
    if rule.train_only and part != "train":
      continue
    found = values[rule.column]
    bad = _breaks(rule, found)
    if bad.any():
      row = int(np.argmax(bad))
      shown = None if np.isnan(found[row]) else f"{found[row]:g}"
      raise DataError(
        f"{name}, row {first_row + row}: column {rule.column!r} holds {shown};"
        f" {_text(rule)}; there are {int(bad.sum())} such rows."
      )
    if rule.given:
      bad = (found == 1) & (values[rule.given] == 0)
      for mask in rule.masks:
        bad &= values[mask] == 1
      if bad.any():
        raise DataError(
          f"{name}, row {first_row + int(np.argmax(bad))}: column"
          f" {rule.column!r} is 1 where {rule.given!r} is 0, and its task is"
          f" given that one; there are {int(bad.sum())} such rows. Leave them"
          " out, or set the label to null."
        )


def _breaks(rule: LabelRule, values: _Values) -> Bool[np.ndarray, " row"]:
  known = ~np.isnan(values)
  if rule.kind == "binary":
    return known & (values != 0) & (values != 1)
  if rule.kind == "position":
    inside = (values >= 1) & (values <= rule.last)
    return ~(inside & (values % 1 == 0))
  bad = ~np.isfinite(values)
  if rule.kind == "number":
    return bad
  bad &= known
  return bad | (values <= -1) if rule.kind == "log" else bad


def _text(rule: LabelRule) -> str:
  if rule.kind != "position":
    return _RULES[rule.kind]
  return (
    f"a position must be a whole number from 1 to {rule.last}, which"
    " num_positions says"
  )
