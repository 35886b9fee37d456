"""Metrics of lists against loops over queries, and over users drawn anew."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.feature_values import FeatureValues
from recjax.evaluation.list_report import ListReport
from recjax.evaluation.list_values import (
  ListContext,
  group_metric_name,
  judge_lists,
)
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.top_lists import TopLists

NUM_USERS, NUM_ITEMS, K = 60, 30, 5
REPORT = ListReport(
  k=K,
  item_features=("genres",),
  provider="genres",
  user_groups=("gender",),
  group_metrics=("ndcg@5", f"novelty@{K}"),
  min_group_users=5,
)


@pytest.fixture
def context(oracle):
  rng = np.random.default_rng(0)
  users = oracle.random_eval_set(0, NUM_USERS, NUM_ITEMS, num_targets=3)
  genres = rng.random((NUM_ITEMS + 1, 4)) < 0.4
  genres[[0, 3, 4]] = False
  gender = rng.integers(0, 3, NUM_USERS + 1)
  gender[[1, 2]] = 3  # Two users are too few, and some have no value.
  return ListContext(
    users,
    np.append(0, rng.integers(0, 40, NUM_ITEMS)),
    40,
    {"genres": FeatureValues("genres", tuple("ABCD"), genres)},
    {
      "gender": FeatureValues(
        "gender", ("F", "M", "X"), gender[:, None] == [0, 1, 3]
      )
    },
  )


@pytest.fixture
def result(context):
  rng = np.random.default_rng(1)
  draw = lambda: np.array(
    [rng.permutation(NUM_ITEMS)[:K] + 1 for _ in range(NUM_USERS)], np.int32
  )
  items, popular = draw(), draw()
  items[0, 2:], items[1] = 0, 0
  ndcg = rng.random(NUM_USERS).astype(np.float32)
  catalogue = np.arange(NUM_ITEMS + 1) > 0
  return EvalResult(
    {"ndcg@5": float(ndcg.mean())},
    {},
    {"ndcg@5": ndcg},
    context.users.user_id,
    {},
    NUM_USERS,
    0.0,
    Protocol(cutoffs=(5,), metrics=("ndcg",)),
    lists=TopLists(items, popular, catalogue),
  )


def shares(rows, member):
  """The mean over items of their genres, each split evenly; None of none."""
  rows = [member[i] / member[i].sum() for i in rows if member[i].any()]
  return np.mean(rows, axis=0) if rows else None


def by_hand(items, popular, context):
  """Every metric of every query."""
  member = context.item_features["genres"].member
  phi = context.num_users_of / context.num_users
  out = {name: [] for name in REPORT.query_metrics()}
  for u in range(NUM_USERS):
    listed = [i for i in items[u] if i]
    history = context.users.history[u]
    targets = set(context.users.targets[u].tolist())
    before = np.mean(phi[history])
    p, q = shares(history, member), shares(listed, member)
    known = [member[i].astype(float) for i in listed if member[i].any()]
    pairs = [
      1 - a @ b / math.sqrt((a @ a) * (b @ b))
      for a, b in itertools.combinations(known, 2)
    ]
    nan = math.nan
    values = [nan] * 6
    if listed:
      arp = np.mean([phi[i] for i in listed])
      away = nan
      if p is not None:
        mixed = 0.99 * (0.0 if q is None else q) + 0.01 * p
        away = sum(a * math.log(a / b) for a, b in zip(p, mixed) if a)
      hits = targets & set(listed) - set(popular[u].tolist())
      values = [
        np.mean([math.log2(41 / (40 * phi[i] + 1)) for i in listed]),
        arp,
        (arp - before) / before,
        len(hits) / len(listed),
        np.mean(pairs) if pairs else nan,
        away,
      ]
    for name, value in zip(out, values):
      out[name].append(value)
  return out


def test_values_of_queries(result, context):
  found = judge_lists(REPORT, result, context)
  lists = result.lists
  expected = by_hand(lists.items, lists.popular, context)
  assert list(found.per_user) == list(expected)
  for name, values in expected.items():
    np.testing.assert_allclose(
      found.per_user[name], values, rtol=2e-5, atol=1e-6, err_msg=name
    )
    assert found.metrics[name] == pytest.approx(np.nanmean(values), rel=1e-5)
    low, high = found.intervals[name]
    assert low < found.metrics[name] < high
  # The list of the second user is empty; that of the first is short.
  assert found.facts["undefined"]["novelty@5"] == 1
  assert set(found.facts["undefined"]) == set(expected)


def test_the_floor_is_what_popularity_reaches(result, context):
  found = judge_lists(REPORT, result, context)
  popular = result.lists.popular
  for name, values in by_hand(popular, popular, context).items():
    expected = np.nanmean(values)
    assert found.floor[name] == pytest.approx(expected, rel=1e-5, abs=1e-7)
  assert found.floor["serendipity@5"] == 0
  times = np.bincount(popular.ravel(), minlength=NUM_ITEMS + 1)[1:]
  assert found.floor["coverage@5"] == np.mean(times > 0)
  # Groups are compared by what is kept of each user; of the floor nothing is.
  assert "ndcg_gap@5/gender" not in found.floor


def test_the_catalogue(result, context):
  lists = result.lists
  some = lists.catalogue & (np.arange(NUM_ITEMS + 1) % 2 == 0)
  few = dataclasses.replace(
    lists, items=np.where(some[lists.items], lists.items, 0), catalogue=some
  )
  found = judge_lists(REPORT, dataclasses.replace(result, lists=few), context)
  times = np.bincount(few.items.ravel(), minlength=NUM_ITEMS + 1)[some]
  assert found.metrics["coverage@5"] == np.mean(times > 0)
  differences = np.abs(times[:, None] - times[None, :]).sum()
  n = len(times)
  expected = differences / (n * (n - 1)) / (2 * times.mean())
  assert found.metrics["gini@5"] == pytest.approx(expected)
  assert "coverage@5" not in found.intervals


def test_providers(result, context):
  found = judge_lists(REPORT, result, context)
  member = context.item_features["genres"].member
  # Items without a genre are a group of their own.
  none = ~member.any(axis=1)
  member = np.column_stack([member, none])
  exposure, offered, wanted = np.zeros((3, 5))
  for u, row in enumerate(result.lists.items):
    for place, item in enumerate(row, 1):
      if item:
        exposure += member[item] / member[item].sum() / math.log2(place + 1)
    for item in context.users.targets[u]:
      wanted += member[item] / member[item].sum()
  for item in range(1, NUM_ITEMS + 1):
    offered += member[item] / member[item].sum()
  exposure, offered, wanted = (x / x.sum() for x in (exposure, offered, wanted))
  for name, merit in (("exposure", offered), ("merit", wanted)):
    key = f"{name}_disparity@5/genres"
    expected = 0.5 * np.abs(exposure - merit).sum()
    assert found.metrics[key] == pytest.approx(expected)
    low, high = found.intervals[key]
    assert 0 <= low < high <= 1
  rows = found.facts["providers"]["genres"]
  assert [row["value"] for row in rows] == [*"ABCD", "(missing)"]
  for place, row in enumerate(rows):
    assert row["share_of_items"] == pytest.approx(offered[place])
    assert row["share_of_targets"] == pytest.approx(wanted[place])
    assert row["share_of_exposure"] == pytest.approx(exposure[place])
    ratio = exposure[place] / offered[place]
    assert row["exposure_to_items"] == pytest.approx(ratio)


def test_groups_of_users(result, context):
  found = judge_lists(REPORT, result, context)
  gender = context.user_groups["gender"].member[result.user_id]
  values = result.per_user["ndcg@5"].astype(np.float64)
  means = [values[gender[:, place]].mean() for place in range(2)]
  gap, ratio = "ndcg_gap@5/gender", "ndcg_ratio@5/gender"
  assert found.metrics[gap] == pytest.approx(abs(means[0] - means[1]))
  assert found.metrics[ratio] == pytest.approx(min(means) / max(means))
  # The interval is that of users drawn anew.
  rng = np.random.default_rng(9)
  drawn = []
  for _ in range(2000):
    rows = rng.integers(0, NUM_USERS, NUM_USERS)
    of = [values[rows][gender[rows, place]].mean() for place in range(2)]
    drawn.append(abs(of[0] - of[1]))
  np.testing.assert_allclose(
    found.intervals[gap], np.quantile(drawn, [0.025, 0.975]), atol=0.02
  )
  rows = found.facts["user_groups"]["gender"]["ndcg@5"]
  assert [row["value"] for row in rows] == ["F", "M", "X"]
  assert [row["compared"] for row in rows] == [True, True, False]
  assert rows[0]["mean"] == pytest.approx(means[0])
  assert rows[2]["num_users"] == 2
  assert "novelty_gap@5/gender" in found.metrics


def test_what_may_be_negative_has_no_ratio(result, context):
  report = dataclasses.replace(REPORT, group_metrics=("popularity_lift@5",))
  found = judge_lists(report, result, context)
  assert np.nanmin(found.per_user["popularity_lift@5"]) < 0
  assert found.metrics["popularity_lift_gap@5/gender"] > 0
  assert "popularity_lift_ratio@5/gender" not in found.metrics


def test_groups_that_can_not_be_compared(result, context):
  report = dataclasses.replace(REPORT, min_group_users=NUM_USERS)
  found = judge_lists(report, result, context)
  assert not [name for name in found.metrics if "gender" in name]
  rows = found.facts["user_groups"]["gender"]["ndcg@5"]
  assert not any(row["compared"] for row in rows)


def test_users_with_several_queries(result, context):
  # As if each user had two queries: intervals are over users.
  users = context.users.user_id.copy()
  users[1::2] = users[::2]
  paired = dataclasses.replace(context.users, user_id=users)
  found = judge_lists(
    REPORT,
    dataclasses.replace(result, user_id=users),
    dataclasses.replace(context, users=paired),
  )
  whole = judge_lists(REPORT, result, context)
  for name in REPORT.query_metrics():
    assert found.metrics[name] == whole.metrics[name]
    assert found.intervals[name] != whole.intervals[name]
  rows = found.facts["user_groups"]["gender"]["ndcg@5"]
  assert sum(row["num_users"] for row in rows) <= NUM_USERS / 2


@pytest.mark.parametrize(
  ("metric", "name"),
  [
    ("ndcg@10", "ndcg_gap@10/age"),
    ("mrr", "mrr_gap/age"),
    ("diversity@5/genres", "diversity_gap@5/genres/age"),
  ],
)
def test_names_of_gaps(metric, name):
  assert group_metric_name(metric, "gap", "age") == name
