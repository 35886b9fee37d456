"""A split: three index arrays, and what leaks between them."""

import dataclasses

import numpy as np
from absl import logging
from jaxtyping import Int

from recjax.data.interactions import Interactions
from recjax.data.leakage import LeakageReport, leakage_report
from recjax.errors import DataError

# One axis; the parts of a split have different lengths.
Rows = Int[np.ndarray, " _"]
TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Three parts of interactions.

  Attributes:
    name: the splitter and its settings, "leave_one_out(min_actions=3)".
    train: sorted int64 rows that are trained on.
    validation: sorted rows that models are selected on.
    test: sorted rows that are reported on.
    leakage: what training could know of the held-out parts.
    context: sorted rows that are neither trained on nor targets, and that a
      model may see in the history of a target. Few splits have any.
  """

  name: str
  train: Rows
  validation: Rows
  test: Rows
  leakage: LeakageReport
  context: Rows = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )

  def __post_init__(self):
    for part in ("train", "validation", "test", "context"):
      rows = getattr(self, part)
      if rows.dtype != np.int64 or np.any(np.diff(rows) <= 0):
        raise DataError(
          f"the rows of {part} must be int64, sorted, and each there once."
        )


def split_by_part(
  name: str,
  interactions: Interactions,
  part: Int[np.ndarray, " row"],
  needs: tuple[int, ...] = (TRAIN, VALIDATION, TEST),
) -> Split:
  """Makes a split from the part (TRAIN, ...) of every row.

  Args:
    name: of the split.
    interactions: the data.
    part: TRAIN, VALIDATION or TEST for each row.
    needs: the parts that must not be empty.

  Raises:
    DataError: one of them is.
  """
  rows = {key: np.flatnonzero(part == i) for i, key in enumerate(PARTS)}
  for needed in needs:
    if not len(rows[PARTS[needed]]):
      sizes = ", ".join(f"{key} {len(rows[key])}" for key in PARTS)
      raise DataError(
        f"the {PARTS[needed]} set of {interactions.name!r} is empty under"
        f" {name} ({sizes} of {len(interactions)} events). Give it a larger"
        " share; `recjax data` shows time span and history lengths."
      )
  return make_split(name, interactions, rows)


def make_split(
  name: str, interactions: Interactions, rows: dict[str, Rows]
) -> Split:
  """Makes a split from rows and warns if it leaks across time.

  Args:
    name: of the split.
    interactions: the data.
    rows: train, validation, test and perhaps context, sorted.
  """
  rows = {key: value.astype(np.int64) for key, value in rows.items()}
  report = leakage_report(interactions, *(rows[part] for part in PARTS))
  order = report.finding("time_order", "test")
  if order.verdict == "unknown":
    logging.warning(
      "%s may train on events later than those of the test: %r has no"
      " timestamps, so nobody can tell.",
      name,
      interactions.name,
    )
  elif order.verdict == "found":
    future = report.finding("future_training", "test")
    logging.warning(
      "%s leaks across time: %s (%.1f%%), and %s. GlobalTime does not.",
      name,
      order.text,
      100 * (order.share or 0.0),
      future.text,
    )
  return Split(name=name, leakage=report, **rows)


def report_short_users(
  name: str,
  interactions: Interactions,
  short: np.ndarray,
  what: str,
  policy: str,
) -> None:
  """Warns of users too short for a split, or refuses them."""
  num = int(short.sum())
  if not num:
    return
  first = int(np.flatnonzero(short)[0])
  message = (
    f"{name}: {num:,} of {interactions.num_users:,} users of"
    f" {interactions.name!r} have {what}; the first is user {first}"
  )
  if policy == "error":
    raise DataError(
      f"{message}. Drop them with min_user_count of the source, or leave them"
      " in training with short_users='train'."
    )
  logging.warning("%s. They lack a part; short_users='error' stops.", message)
