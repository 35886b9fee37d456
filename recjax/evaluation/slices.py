"""Cold-start slices: metrics by the number of training events.

A user with three events in training and an item with none are different
questions to a model than their averages. `user_slices` groups queries by the
history of their user, `item_slices` single targets by how often the item was
trained on. A target's own values know no other targets: hit rate and recall
are one thing, NDCG is its gain 1 / log2(rank + 1), MRR its reciprocal rank.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from recjax.errors import ConfigError, DataError, check_range
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.resampling import user_intervals

ENDS = (0, 5, 20, 100)
"""Slices 0, 1-5, 6-20, 21-100 and 101 or more."""


@dataclasses.dataclass(frozen=True)
class Slice:
  """The users, or the targets, with so many training events.

  Attributes:
    low: the fewest training events.
    high: the most; None sets no limit.
    num_users: distinct users with a query here.
    num_items: distinct items that are targets here; None in slices of users.
    num_targets: targets here.
    metrics: means over the queries of the users, or over the targets; empty
      where there are none.
    intervals: 95% bootstrap intervals of these, over users.
  """

  low: int
  high: int | None
  num_users: int
  num_items: int | None
  num_targets: int
  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]

  @property
  def label(self) -> str:
    """Such as "0", "1-5" or "101+"."""
    if self.high is None:
      return f"{self.low}+"
    if self.low == self.high:
      return str(self.low)
    return f"{self.low}-{self.high}"


@dataclasses.dataclass(frozen=True)
class SliceTable:
  """All slices of an evaluation, from the coldest on.

  Attributes:
    of: "users" or "items".
    slices: empty ones included, so that models stand beside each other.
  """

  of: str
  slices: tuple[Slice, ...]

  def rows(self) -> list[dict[str, Any]]:
    """Plain values for JSON, one a slice."""
    return [
      {"of": self.of, "slice": each.label} | dataclasses.asdict(each)
      for each in self.slices
    ]

  def markdown(self, metrics: Sequence[str] = ()) -> str:
    """A Markdown table.

    Args:
      metrics: the wanted ones; all by default.
    """
    header, lines = self._texts(metrics)
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *lines))

  def text(self, metrics: Sequence[str] = ()) -> str:
    """Aligned columns for a terminal.

    Args:
      metrics: the wanted ones; all by default.
    """
    header, lines = self._texts(metrics)
    widths = [max(map(len, column)) for column in zip(header, *lines)]
    return "\n".join(
      "  ".join(
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths))
      ).rstrip()
      for row in (header, *lines)
    )

  def _texts(self, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    names = list(metrics) or list(
      dict.fromkeys(name for each in self.slices for name in each.metrics)
    )
    by_item = self.of == "items"
    counts = ["users", *(["items"] if by_item else []), "targets"]
    lines = []
    for each in self.slices:
      numbers = [each.num_users, *([each.num_items] if by_item else [])]
      numbers.append(each.num_targets)
      line = [each.label, *(f"{number:,}" for number in numbers)]
      lines.append(line + [_metric_text(each, name) for name in names])
    return ["training events", *counts, *names], lines


def _metric_text(each: Slice, name: str) -> str:
  if name not in each.metrics:
    return "–"
  low, high = each.intervals[name]
  return f"{each.metrics[name]:.4f} [{low:.4f}, {high:.4f}]"


def popularity_ends(
  counts: Num[np.ndarray, " vocab"], num: int = 10
) -> tuple[int, ...]:
  """Ends of slices with about equal numbers of items: deciles of popularity.

  Items of one count are never parted, so there are fewer slices where many
  items have the same count. Items without an event, if there are any, are a
  slice of their own.

  Args:
    counts: training events by item id; entry 0 is padding.
    num: how many slices the items with an event are cut into.

  Raises:
    DataError: no item has an event.
  """
  check_range("num", num, 1, integer=True)
  seen = counts[1:][counts[1:] > 0]
  if not len(seen):
    raise DataError("no item has a training event, so none is popular.")
  shares = np.arange(1, num) / num
  ends = np.quantile(seen, shares, method="inverted_cdf")
  cold = [0] if len(seen) < len(counts) - 1 else []
  ends = {int(end) for end in (*cold, *ends)} - {int(seen.max())}
  return tuple(sorted(ends))


def user_slices(
  result: EvalResult,
  num_events: Num[np.ndarray, " vocab"],
  *,
  ends: tuple[int, ...] = ENDS,
) -> SliceTable:
  """Metrics by how many training events the user of a query has.

  Args:
    result: of `evaluate`.
    num_events: training events by user id.
    ends: the most events of each slice but the last, which has no end.

  Returns:
    The table.

  Raises:
    ConfigError: `ends` do not increase.
    DataError: a user has no count.
  """
  events = _look_up("user", num_events, result.user_id)
  slices = []
  for low, high in _bounds(ends):
    rows = np.flatnonzero(_inside(events, low, high))
    users = result.user_id[rows]
    values = {key: value[rows] for key, value in result.per_user.items()}
    slices.append(
      Slice(
        low,
        high,
        len(np.unique(users)),
        None,
        int(result.num_targets[rows].sum()),
        *_summary(values, users),
      )
    )
  return SliceTable("users", tuple(slices))


def item_slices(
  result: EvalResult,
  counts: Num[np.ndarray, " vocab"],
  *,
  ends: tuple[int, ...] = ENDS,
) -> SliceTable:
  """Metrics by how many training events a target has; each counts once.

  Args:
    result: of `evaluate(..., per_target=True)`.
    counts: training events by item id.
    ends: the most events of each slice but the last; see `popularity_ends`.

  Returns:
    The table.

  Raises:
    ConfigError: `ends` do not increase.
    DataError: the result holds no values of single targets, or an item has
      no count.
  """
  targets = result.targets
  if targets is None:
    raise DataError(
      "slices by item need the values of single targets; evaluate with"
      " per_target=True."
    )
  events = _look_up("item", counts, targets.item_id)
  slices = []
  for low, high in _bounds(ends):
    rows = np.flatnonzero(_inside(events, low, high))
    users = result.user_id[targets.query[rows]]
    values = {key: value[rows] for key, value in targets.values.items()}
    slices.append(
      Slice(
        low,
        high,
        len(np.unique(users)),
        len(np.unique(targets.item_id[rows])),
        len(rows),
        *_summary(values, users),
      )
    )
  return SliceTable("items", tuple(slices))


def _bounds(ends: tuple[int, ...]) -> list[tuple[int, int | None]]:
  """(low, high) of every slice."""
  for end in ends:
    check_range("an end of a slice", end, 0, integer=True)
  if any(b <= a for a, b in itertools.pairwise(ends)):
    raise ConfigError(f"ends of slices must increase; got {ends}.")
  lows = [0, *(end + 1 for end in ends)]
  return list(zip(lows, [*ends, None]))


def _inside(
  events: Num[np.ndarray, " query"], low: int, high: int | None
) -> np.ndarray:
  return (events >= low) & (events <= (np.inf if high is None else high))


def _look_up(
  what: str,
  counts: Num[np.ndarray, " vocab"],
  ids: Int[np.ndarray, " query"],
) -> Num[np.ndarray, " query"]:
  if len(ids) and ids.max() >= len(counts):
    raise DataError(
      f"counts of {what}s go up to id {len(counts) - 1}, but {what}"
      f" {ids.max()} was judged; give one count an id, after one for padding."
    )
  return np.asarray(counts)[ids]


def _summary(
  values: dict[str, Float[np.ndarray, " query"]],
  users: Int[np.ndarray, " query"],
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
  """Means and their intervals; nothing of nothing."""
  if not len(users):
    return {}, {}
  means = {k: float(v.mean(dtype=np.float64)) for k, v in values.items()}
  table = np.stack(list(values.values())).astype(np.float64)
  return means, dict(zip(values, user_intervals(table, users)))
