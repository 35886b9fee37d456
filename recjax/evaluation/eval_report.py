"""What a test gives beside its metrics: slices, lists, the bias of sampling."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from recjax.data.eval_set import EvalSet
from recjax.data.interactions import Interactions
from recjax.data.negatives import item_counts
from recjax.errors import ConfigError, check_range
from recjax.evaluation.bias_of_sampling import tell_bias
from recjax.evaluation.candidates import AllItems
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.feature_values import (
  FeatureValues,
  check_feature,
  equal_ends,
  feature_values,
  sliced_values,
)
from recjax.evaluation.list_report import ListReport, check_names
from recjax.evaluation.list_values import ListContext, judge_lists
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.slices import (
  SliceTable,
  item_feature_slices,
  item_slices,
  popularity_ends,
  user_feature_slices,
  user_slices,
)

PARTS = 10
"""Into so many are popularity, history lengths and many numbers cut."""


@dataclasses.dataclass(frozen=True)
class ReportedResult(EvalResult):
  """An evaluation with its slices, and with metrics of lists if asked for.

  Attributes:
    slices: by what they slice, such as "users" or "items/genres".
    list_facts: what result.json tells of lists; empty without them.
  """

  slices: dict[str, SliceTable] = dataclasses.field(default_factory=dict)
  list_facts: dict[str, Any] = dataclasses.field(default_factory=dict)

  def facts(self) -> dict[str, Any]:
    """What result.json tells besides metrics: "lists", if there are any."""
    return {"lists": self.list_facts} if self.list_facts else {}

  def slice_rows(self) -> dict[str, list[dict[str, Any]]]:
    """All slices as plain values for JSON."""
    return {name: table.rows() for name, table in self.slices.items()}


@dataclasses.dataclass(frozen=True)
class EvalReport:
  """Settings of what a test gives besides.

  Slices of users and of targets by training events are always made.

  Attributes:
    lists: metrics of the lists that users get; None is none.
    deciles: whether to slice targets by deciles of popularity, and users by
      those of the length of their history.
    user_features: columns of the source's table of users to slice by.
    item_features: columns of its table of items to slice targets by.
    max_values: of a text the most frequent values have slices of their own;
      a number of more values is cut into ten parts.
    sampling_bias: whether a test among sampled candidates ranks the whole
      catalogue besides, to tell what sampling did to the metrics.
  """

  lists: ListReport | None = None
  deciles: bool = False
  user_features: tuple[str, ...] = ()
  item_features: tuple[str, ...] = ()
  max_values: int = 20
  sampling_bias: bool = True

  def __post_init__(self):
    name = "EvalReport"
    if not isinstance(self.lists, ListReport | None):
      raise ConfigError(
        f"{name}.lists must be a @list_report.ListReport(); got {self.lists!r}."
      )
    check_names(f"{name}.user_features", self.user_features)
    check_names(f"{name}.item_features", self.item_features)
    check_range(f"{name}.max_values", self.max_values, 1, integer=True)

  def test(
    self,
    judge: Callable[..., EvalResult],
    eval_set: EvalSet,
    protocol: Protocol,
    interactions: Interactions,
    train_rows: Int[np.ndarray, " train"],
  ) -> ReportedResult:
    """Judges, and tells all that is asked for.

    Args:
      judge: takes a protocol and options of `evaluate`.
      eval_set: the queries that it judges.
      protocol: of the test.
      interactions: the data.
      train_rows: the rows that were trained on.
    """
    result = tell_bias(
      judge(protocol, **self.options),
      lambda full: judge(full, floor=False),
      measure=self.sampling_bias,
    )
    return self.complete(result, eval_set, interactions, train_rows)

  @property
  def options(self) -> dict[str, Any]:
    """What `evaluate` has to keep."""
    k = 0 if self.lists is None else self.lists.k
    return {"per_target": True, "list_length": k}

  def check(
    self,
    interactions: Interactions,
    protocol: Protocol,
    counts: Num[np.ndarray, " vocab"],
  ) -> None:
    """Raises ConfigError where the data lack what is asked for.

    Args:
      interactions: the data.
      protocol: of the test.
      counts: training events by item id.
    """
    for feature in self.user_features:
      check_feature(interactions.users, feature, "user")
    for feature in self.item_features:
      check_feature(interactions.items, feature, "item")
    if self.lists is not None:
      spec = protocol.candidates
      new = isinstance(spec, AllItems) and spec.among == "unseen"
      num = np.count_nonzero(counts[1:] == 0) if new else len(counts) - 1
      self.lists.check(interactions, protocol, int(num))

  def complete(
    self,
    result: EvalResult,
    eval_set: EvalSet,
    interactions: Interactions,
    train_rows: Int[np.ndarray, " train"],
  ) -> ReportedResult:
    """Adds what is asked for to a result.

    Args:
      result: of `evaluate(..., **options)`.
      eval_set: the queries that were given to it.
      interactions: the data.
      train_rows: the rows that were trained on.

    Returns:
      The result, its metrics with those of lists.
    """
    users = eval_set.take(result.protocol.choose(len(eval_set)))
    facts: dict[str, Any] = {}
    if self.lists is not None:
      context = self._context(self.lists, users, interactions, train_rows)
      found = judge_lists(self.lists, result, context)
      facts = found.facts
      result = dataclasses.replace(
        result,
        metrics=result.metrics | found.metrics,
        intervals=result.intervals | found.intervals,
        per_user=result.per_user | found.per_user,
        floor=result.floor | found.floor,
      )
    fields = {
      field.name: getattr(result, field.name)
      for field in dataclasses.fields(EvalResult)
    }
    slices = self._slices(result, users, interactions, train_rows)
    return ReportedResult(**fields, slices=slices, list_facts=facts)

  def _context(
    self,
    lists: ListReport,
    users: EvalSet,
    interactions: Interactions,
    train_rows: Int[np.ndarray, " train"],
  ) -> ListContext:
    user_id = interactions.user_id[train_rows].astype(np.int64)
    width = interactions.num_items + 1
    had = np.unique(user_id * width + interactions.item_id[train_rows])
    names = {*lists.item_features, lists.provider} - {""}
    items, people = interactions.items, interactions.users
    return ListContext(
      users,
      np.bincount(had % width, minlength=width),
      len(np.unique(user_id)),
      {name: feature_values(items, name) for name in names},  # pyright: ignore
      {name: self._few(people, name) for name in lists.user_groups},
    )

  def _few(self, table: Any, name: str) -> FeatureValues:
    return sliced_values(table, name, most=self.max_values, parts=PARTS)

  def _slices(
    self,
    result: EvalResult,
    users: EvalSet,
    interactions: Interactions,
    train_rows: Int[np.ndarray, " train"],
  ) -> dict[str, SliceTable]:
    num_users = interactions.num_users
    counts = item_counts(interactions, train_rows)
    events = np.bincount(
      interactions.user_id[train_rows], minlength=num_users + 1
    )
    tables = {
      "users": user_slices(result, events),
      "items": item_slices(result, counts),
    }
    if self.deciles:
      lengths = np.zeros(num_users + 1, np.int64)
      lengths[users.user_id] = users.history.lengths
      ends = tuple(map(int, equal_ends(users.history.lengths, PARTS)))
      by = "history length"
      tables["users/history_length"] = user_slices(
        result, lengths, ends=ends, by=by
      )
      ends = popularity_ends(counts, PARTS) if counts.any() else ()
      tables["items/popularity"] = item_slices(
        result, counts, ends=ends, by="popularity"
      )
    for name in self.user_features:
      feature = self._few(interactions.users, name)
      tables[f"users/{name}"] = user_feature_slices(result, feature)
    for name in self.item_features:
      feature = self._few(interactions.items, name)
      tables[f"items/{name}"] = item_feature_slices(result, feature)
    return tables
