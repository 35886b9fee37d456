"""The metrics of lists: of each query, of the catalogue, of groups.

What each query has a value of is averaged over those that have one, with the
bootstrap over users. Coverage and Gini's index are of all lists at once and
have no interval: lists drawn anew repeat each other, and cover less than they
do.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from recjax.data.eval_set import EvalSet
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.feature_values import FeatureValues
from recjax.evaluation.list_report import ListReport
from recjax.evaluation.resampling import (
  defined,
  resampled_sums,
  user_intervals,
)
from recjax.evaluation.top_lists import TopLists
from recjax.metrics.exposure import coverage, gini, times_listed
from recjax.metrics.genre_calibration import (
  mean_shares,
  miscalibration,
  shares_of_values,
)
from recjax.metrics.list_diversity import intra_list_diversity
from recjax.metrics.novelty import novelty
from recjax.metrics.popularity_bias import average_popularity, popularity_lift
from recjax.metrics.provider_fairness import (
  exposure_disparity,
  exposure_ratios,
  group_exposures,
)
from recjax.metrics.serendipity import serendipity
from recjax.metrics.user_group_fairness import group_gap, group_ratio


@dataclasses.dataclass(frozen=True, eq=False)
class ListContext:
  """What lists are judged against.

  Attributes:
    users: the judged queries, their histories and targets.
    num_users_of: how many users had each item id in training.
    num_users: how many users there are in training.
    item_features: all values of the features of items, by name.
    user_groups: few values of the features of users, by name.
  """

  users: EvalSet
  num_users_of: Int[np.ndarray, " vocab"]
  num_users: int
  item_features: Mapping[str, FeatureValues]
  user_groups: Mapping[str, FeatureValues]


@dataclasses.dataclass(frozen=True, eq=False)
class ListFindings:
  """What was found of the lists of all queries.

  Attributes:
    per_user: values of each query; NaN where one is undefined.
    metrics: means of these, and what is of all lists at once.
    intervals: 95% intervals of those that have one.
    floor: of `metrics`, what ranking by popularity reaches.
    facts: what result.json tells of the lists besides.
  """

  per_user: dict[str, Float[np.ndarray, " query"]]
  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]
  floor: dict[str, float]
  facts: dict[str, Any]


def judge_lists(
  report: ListReport, result: EvalResult, context: ListContext
) -> ListFindings:
  """All metrics that a report asks for.

  Args:
    report: what is asked.
    result: of `evaluate(..., list_length=report.k)`.
    context: of the same queries.
  """
  lists = result.lists
  assert lists is not None
  of_lists = lambda items: _query_values(items, lists.popular, context, report)
  per_user = of_lists(lists.items)
  metrics, intervals = _means(per_user, result.user_id)
  floor, _ = _means(of_lists(lists.popular), None)
  metrics |= _of_catalogue(lists.items, lists, report.k)
  floor |= _of_catalogue(lists.popular, lists, report.k)
  facts: dict[str, Any] = {"k": report.k}
  if report.provider:
    feature = context.item_features[report.provider]
    provided = _of_providers(lists.items, lists, context, feature, report.k)
    popular = _of_providers(lists.popular, lists, context, feature, report.k)
    metrics |= provided.metrics
    intervals |= provided.intervals
    floor |= popular.metrics
    facts["providers"] = {feature.name: provided.rows}
  facts["user_groups"] = {}
  everything = {**result.per_user, **per_user}
  for name in report.user_groups:
    for metric in report.compared(result.protocol):
      feature = context.user_groups[name]
      grouped = _of_groups(
        everything[metric], metric, result.user_id, feature, report
      )
      metrics |= grouped.metrics
      intervals |= grouped.intervals
      facts["user_groups"].setdefault(name, {})[metric] = grouped.rows
  facts["undefined"] = _undefined(per_user)
  return ListFindings(per_user, metrics, intervals, floor, facts)


# --- Queries ----------------------------------------------------------------


def _query_values(
  items: Int[np.ndarray, "query k"],
  popular: Int[np.ndarray, "query k"],
  context: ListContext,
  report: ListReport,
) -> dict[str, Float[np.ndarray, " query"]]:
  """The values of each query, under the names of `report.query_metrics`."""
  history, targets = context.users.history, context.users.targets
  of_history = (history.row_ids, history.values)
  popularity = context.num_users_of / context.num_users
  values = [
    novelty(items, context.num_users_of, num_users=context.num_users),
    average_popularity(items, popularity),
    popularity_lift(items, popularity, *of_history),
    serendipity(items, popular, targets.row_ids, targets.values),
  ]
  for name in report.item_features:
    member = context.item_features[name].member
    shares = shares_of_values(member)
    spread = lambda query, item, shares=shares: mean_shares(
      query, item, shares, num_queries=len(items)
    )
    found = miscalibration(
      spread(*of_history), spread(*_listed(items)), alpha=report.alpha
    )
    found = np.where((items > 0).any(axis=1), found, np.nan)
    values += [
      intra_list_diversity(items, member, distance=report.distance),
      found,
    ]
  names = report.query_metrics()
  return {k: v.astype(np.float32) for k, v in zip(names, values, strict=True)}


def _listed(
  items: Int[np.ndarray, "query k"],
) -> tuple[Int[np.ndarray, " event"], Int[np.ndarray, " event"]]:
  """The query and the id of each item of all lists."""
  query, place = np.nonzero(items)
  return query, items[query, place]


def _means(
  per_user: Mapping[str, Float[np.ndarray, " query"]],
  user_id: Int[np.ndarray, " query"] | None,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
  """Means over the queries that have a value, and their intervals."""
  means = dict.fromkeys(per_user, float("nan"))
  intervals: dict[str, tuple[float, float]] = {}
  for names, table, rows in defined(per_user):
    means |= dict(zip(names, map(float, table.mean(axis=1))))
    if user_id is not None:
      intervals |= dict(zip(names, user_intervals(table, user_id[rows])))
  return means, intervals


def _undefined(
  per_user: Mapping[str, Float[np.ndarray, " query"]],
) -> dict[str, int]:
  """How many queries have no value, of the metrics that some lack."""
  counts = {key: int(np.isnan(v).sum()) for key, v in per_user.items()}
  return {key: count for key, count in counts.items() if count}


# --- All lists at once ------------------------------------------------------


def _of_catalogue(
  items: Int[np.ndarray, "query k"], lists: TopLists, k: int
) -> dict[str, float]:
  times = times_listed(items, num_items=len(lists.catalogue) - 1)
  times = times[lists.catalogue]
  return {f"coverage@{k}": coverage(times), f"gini@{k}": gini(times)}


@dataclasses.dataclass(frozen=True)
class _Grouped:
  """Metrics of groups, their intervals, and a row a group."""

  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]
  rows: list[dict[str, Any]]


def _of_providers(
  items: Int[np.ndarray, "query k"],
  lists: TopLists,
  context: ListContext,
  feature: FeatureValues,
  k: int,
) -> _Grouped:
  """How far exposure is from the catalogue's shares and from the targets'."""
  feature = feature.with_missing()
  shares = shares_of_values(feature.member)
  targets = context.users.targets
  of_targets = np.zeros((len(items), len(feature.values)))
  np.add.at(of_targets, targets.row_ids, shares[targets.values])
  exposure = group_exposures(items, shares)
  offered = shares[lists.catalogue].sum(0)
  sums = _per_user([exposure, of_targets], context.users.user_id)
  num = len(feature.values)
  disparities: list[Callable] = [
    lambda sums: exposure_disparity(sums[:num].T, offered),
    lambda sums: exposure_disparity(sums[:num].T, sums[num:].T),
  ]
  names = [f"{m}_disparity@{k}/{feature.name}" for m in ("exposure", "merit")]
  metrics, intervals = _with_intervals(names, disparities, sums)
  total = exposure.sum(0)
  wanted = of_targets.sum(0)
  columns = {
    "share_of_items": offered / offered.sum(),
    "share_of_targets": wanted / wanted.sum(),
    "share_of_exposure": total / max(total.sum(), 1e-300),
    "exposure_to_items": exposure_ratios(total, offered),
    "exposure_to_targets": exposure_ratios(total, wanted),
  }
  rows = [
    {"value": value}
    | {name: float(column[place]) for name, column in columns.items()}
    for place, value in enumerate(feature.values)
  ]
  return _Grouped(metrics, intervals, rows)


def _of_groups(
  values: Float[np.ndarray, " query"],
  metric: str,
  user_id: Int[np.ndarray, " query"],
  feature: FeatureValues,
  report: ListReport,
) -> _Grouped:
  """How far the means of groups of users are apart."""
  known = ~np.isnan(values)
  values, users = values[known].astype(np.float64), user_id[known]
  member = feature.member[users]
  rows, kept = [], []
  for place, value in enumerate(feature.values):
    inside = member[:, place]
    num = len(np.unique(users[inside]))
    mean = float(values[inside].mean()) if num else float("nan")
    compared = num >= report.min_group_users
    row = {"value": value, "num_users": num, "mean": mean}
    rows.append(row | {"compared": compared})
    kept += [place] if compared else []
  if len(kept) < 2:
    return _Grouped({}, {}, rows)
  member = member[:, kept].astype(np.float64)
  sums = _per_user([member * values[:, None], member], users)
  means = lambda sums: _ratio(sums[: len(kept)], sums[len(kept) :]).T
  measures: dict[str, Callable] = {"gap": lambda x: group_gap(means(x))}
  if values.min() >= 0:  # A ratio of what may be negative says nothing.
    measures["ratio"] = lambda x: group_ratio(means(x))
  names = [group_metric_name(metric, kind, feature.name) for kind in measures]
  found = _with_intervals(names, list(measures.values()), sums)
  return _Grouped(*found, rows)


def group_metric_name(metric: str, kind: str, feature: str) -> str:
  """Such as "ndcg_gap@10/gender" of "ndcg@10"."""
  name, slash, task = metric.partition("/")
  name, at, cutoff = name.partition("@")
  return f"{name}_{kind}{at}{cutoff}/{task}{slash}{feature}"


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
  """NaN where a resample holds nobody of a group."""
  return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _per_user(
  tables: Sequence[Float[np.ndarray, "query value"]],
  user_id: Int[np.ndarray, " query"],
) -> Float[np.ndarray, "metric user"]:
  """What each user adds to the sum of each column of all tables."""
  users, group = np.unique(user_id, return_inverse=True)
  columns = np.concatenate(tables, axis=1).T
  return np.stack([np.bincount(group, row, len(users)) for row in columns])


def _with_intervals(
  names: Sequence[str],
  measures: Sequence[Callable],
  sums: Float[np.ndarray, "metric user"],
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
  """Functions of sums over users, and 95% intervals of them."""
  whole = sums.sum(axis=1, keepdims=True)
  drawn = resampled_sums(sums)
  metrics, intervals = {}, {}
  for name, measure in zip(names, measures, strict=True):
    metrics[name] = float(measure(whole)[0])
    low, high = np.nanquantile(measure(drawn), [0.025, 0.975])
    intervals[name] = (float(low), float(high))
  return metrics, intervals
