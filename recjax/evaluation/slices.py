"""Slices: metrics by the number of training events, or by a feature.

A user with three events in training and an item with none are different
questions to a model than their averages. `user_slices` groups queries by the
history of their user, `item_slices` single targets by how often the item was
trained on; `user_feature_slices` and `item_feature_slices` by the values of a
feature. A target's own values know no other targets: hit rate and recall are
one thing, NDCG is its gain 1 / log2(rank + 1), MRR its reciprocal rank.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from recjax.errors import ConfigError, DataError, check_range
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.feature_values import FeatureValues, equal_ends
from recjax.evaluation.judging import TargetValues
from recjax.evaluation.resampling import defined, user_intervals

ENDS = (0, 5, 20, 100)
"""Slices 0, 1-5, 6-20, 21-100 and 101 or more."""
EVENTS = "training events"
"""What users and items are sliced by unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Slice:
  """The users, or the targets, with so many events or of one value.

  Attributes:
    low: the fewest training events; None where there is a name.
    high: the most; None sets no limit.
    num_users: distinct users with a query here.
    num_items: distinct items that are targets here; None in slices of users.
    num_targets: targets here.
    metrics: means over the queries of the users, or over the targets; empty
      where there are none. Queries for which one is undefined have no part
      in it.
    intervals: 95% bootstrap intervals of these, over users.
    name: the value of a feature; "" where there are bounds.
  """

  low: int | None
  high: int | None
  num_users: int
  num_items: int | None
  num_targets: int
  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]
  name: str = ""

  @property
  def label(self) -> str:
    """Such as "0", "1-5", "101+" or "Drama"."""
    if self.name:
      return self.name
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
    by: what they are told apart by.
  """

  of: str
  slices: tuple[Slice, ...]
  by: str = EVENTS

  def rows(self) -> list[dict[str, Any]]:
    """Plain values for JSON, one a slice."""
    rows = []
    for each in self.slices:
      fields = dataclasses.asdict(each)
      del fields["name"]  # The label says it.
      rows.append({"of": self.of, "by": self.by, "slice": each.label} | fields)
    return rows

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
    return [self.by, *counts, *names], lines


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
  cold = (0,) if len(seen) < len(counts) - 1 else ()
  return (*cold, *map(int, equal_ends(seen, num)))


def user_slices(
  result: EvalResult,
  num_events: Num[np.ndarray, " vocab"],
  *,
  ends: tuple[int, ...] = ENDS,
  by: str = EVENTS,
) -> SliceTable:
  """Metrics by how many training events the user of a query has.

  Args:
    result: of `evaluate`.
    num_events: training events by user id, or another number.
    ends: the most events of each slice but the last, which has no end.
    by: what the numbers are.

  Returns:
    The table.

  Raises:
    ConfigError: `ends` do not increase.
    DataError: a user has no count.
  """
  events = _look_up("user", num_events, result.user_id)
  slices = (
    _of_users(result, _inside(events, low, high), low, high)
    for low, high in _bounds(ends)
  )
  return SliceTable("users", tuple(slices), by)


def user_feature_slices(
  result: EvalResult, feature: FeatureValues
) -> SliceTable:
  """Metrics by the values of a feature of the users.

  Args:
    result: of `evaluate`.
    feature: of the users; one with several values is in several slices.

  Returns:
    The table, with a slice more for users without a value.

  Raises:
    DataError: a user is not known.
  """
  feature = feature.with_missing()
  member = _look_up("user", feature.member, result.user_id)
  slices = (
    _of_users(result, member[:, place], None, None, name)
    for place, name in enumerate(feature.values)
  )
  return SliceTable("users", tuple(slices), feature.name)


def item_slices(
  result: EvalResult,
  counts: Num[np.ndarray, " vocab"],
  *,
  ends: tuple[int, ...] = ENDS,
  by: str = EVENTS,
) -> SliceTable:
  """Metrics by how many training events a target has; each counts once.

  Args:
    result: of `evaluate(..., per_target=True)`.
    counts: training events by item id.
    ends: the most events of each slice but the last; see `popularity_ends`.
    by: what the numbers are.

  Returns:
    The table.

  Raises:
    ConfigError: `ends` do not increase.
    DataError: the result holds no values of single targets, or an item has
      no count.
  """
  events = _look_up("item", counts, _targets(result).item_id)
  slices = (
    _of_items(result, _inside(events, low, high), low, high)
    for low, high in _bounds(ends)
  )
  return SliceTable("items", tuple(slices), by)


def item_feature_slices(
  result: EvalResult, feature: FeatureValues
) -> SliceTable:
  """Metrics by the values of a feature of the targets; each counts once.

  Args:
    result: of `evaluate(..., per_target=True)`.
    feature: of the items; one with several values is in several slices.

  Returns:
    The table, with a slice more for items without a value.

  Raises:
    DataError: the result holds no values of single targets, or an item is
      not known.
  """
  feature = feature.with_missing()
  member = _look_up("item", feature.member, _targets(result).item_id)
  slices = (
    _of_items(result, member[:, place], None, None, name)
    for place, name in enumerate(feature.values)
  )
  return SliceTable("items", tuple(slices), feature.name)


def _targets(result: EvalResult) -> TargetValues:
  if result.targets is None:
    raise DataError(
      "slices by item need the values of single targets; evaluate with"
      " per_target=True."
    )
  return result.targets


def _of_users(
  result: EvalResult,
  inside: Bool[np.ndarray, " query"],
  low: int | None,
  high: int | None,
  name: str = "",
) -> Slice:
  rows = np.flatnonzero(inside)
  users = result.user_id[rows]
  values = {key: value[rows] for key, value in result.per_user.items()}
  return Slice(
    low,
    high,
    len(np.unique(users)),
    None,
    int(result.num_targets[rows].sum()),
    *_summary(values, users),
    name,
  )


def _of_items(
  result: EvalResult,
  inside: Bool[np.ndarray, " target"],
  low: int | None,
  high: int | None,
  name: str = "",
) -> Slice:
  targets, rows = _targets(result), np.flatnonzero(inside)
  users = result.user_id[targets.query[rows]]
  values = {key: value[rows] for key, value in targets.values.items()}
  return Slice(
    low,
    high,
    len(np.unique(users)),
    len(np.unique(targets.item_id[rows])),
    len(rows),
    *_summary(values, users),
    name,
  )


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
  counts: Shaped[np.ndarray, "vocab *rest"],
  ids: Int[np.ndarray, " query"],
) -> Shaped[np.ndarray, "query *rest"]:
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
  means: dict[str, float] = {}
  intervals: dict[str, tuple[float, float]] = {}
  for names, table, rows in defined(values):
    means |= dict(zip(names, map(float, table.mean(axis=1))))
    intervals |= dict(zip(names, user_intervals(table, users[rows])))
  return {k: means[k] for k in values if k in means}, intervals
