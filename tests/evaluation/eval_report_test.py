"""A report of a test: which slices there are, and what metrics are joined."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from recjax.data.eval_set import make_eval_set
from recjax.data.interactions import Interactions
from recjax.data.negatives import item_counts
from recjax.data.splits import LeaveOneOut, RandomSplit
from recjax.errors import ConfigError
from recjax.evaluation.candidates import AllItems, UniformNegatives
from recjax.evaluation.eval_report import EvalReport
from recjax.evaluation.evaluate import evaluate
from recjax.evaluation.list_report import ListReport
from recjax.evaluation.protocol import Protocol
from recjax.retrieval.scorers import DotProductScorer

NUM_USERS, NUM_ITEMS = 90, 40
WHOLE = EvalReport(
  lists=ListReport(
    k=5,
    item_features=("genres",),
    provider="genres",
    user_groups=("gender",),
    min_group_users=5,
  ),
  deciles=True,
  user_features=("gender", "age"),
  item_features=("genres",),
)


@pytest.fixture(scope="module")
def data():
  """Histories of 4 to 15 items, the low ids more often."""
  rng = np.random.default_rng(0)
  weight = 1 / np.arange(1, NUM_ITEMS + 1)
  rows = [
    (user, item)
    for user in range(1, NUM_USERS + 1)
    for item in rng.choice(
      NUM_ITEMS, rng.integers(4, 16), replace=False, p=weight / weight.sum()
    )
  ]
  users, items = np.array(rows, np.int32).T
  genres = [["Drama", "War"][: 1 + i % 2] for i in range(NUM_ITEMS)]
  return Interactions.from_columns(
    "toy",
    {"user_id": users, "item_id": items + 1},
    num_items=NUM_ITEMS,
    users=pa.table(
      {
        "raw_id": list(map(str, range(NUM_USERS))),
        "gender": ["F", "M", "M"] * (NUM_USERS // 3),
        "age": pa.array([18 + i % 50 for i in range(NUM_USERS)]),
      }
    ),
    items=pa.table(
      {"raw_id": list(map(str, range(NUM_ITEMS))), "genres": genres}
    ),
  )


def run(data, report, protocol=None, splitter=None):
  protocol = protocol or Protocol(cutoffs=(5,), metrics=("ndcg",))
  split = (splitter or LeaveOneOut())(data)
  users = make_eval_set(data, split, "test", per=protocol.per)
  rng = np.random.default_rng(1)
  vectors = rng.normal(size=(NUM_ITEMS + 1, 4)).astype(np.float32)
  result = evaluate(
    DotProductScorer(jnp.asarray(vectors)),
    rng.normal(size=(len(users), 4)).astype(np.float32),
    users,
    protocol,
    num_items=NUM_ITEMS,
    popularity=item_counts(data, split.train),
    **report.options,
  )
  return result, report.complete(result, users, data, split.train), split


def test_training_events_are_always_told(data):
  result, found, split = run(data, EvalReport())
  assert set(found.slices) == {"users", "items"}
  assert found.metrics == result.metrics and found.facts() == {}
  assert result.lists is None
  events = np.bincount(data.user_id[split.train])
  low, high = found.slices["users"].slices[1:3]
  assert low.label == "1-5" and high.label == "6-20"
  inside = events[result.user_id] <= 5
  assert low.num_users == inside.sum()
  assert low.metrics["ndcg@5"] == pytest.approx(
    result.per_user["ndcg@5"][inside].mean(), rel=1e-5
  )


def test_all_that_can_be_asked_for(data):
  result, found, split = run(data, WHOLE)
  assert list(found.slices) == [
    "users", "items", "users/history_length", "items/popularity",
    "users/gender", "users/age", "items/genres",
  ]  # fmt: skip
  lists = WHOLE.lists.query_metrics()
  assert set(found.per_user) == {"ndcg@5", *lists}
  assert set(found.metrics) == {
    "ndcg@5", *lists, "coverage@5", "gini@5", "exposure_disparity@5/genres",
    "merit_disparity@5/genres", "ndcg_gap@5/gender", "ndcg_ratio@5/gender",
  }  # fmt: skip
  # The metrics of the protocol stay as they are, and come first.
  assert next(iter(found.metrics)) == "ndcg@5"
  assert found.metrics["ndcg@5"] == result.metrics["ndcg@5"]
  assert set(found.floor) >= {"ndcg@5", *lists, "coverage@5"}
  facts = found.facts()["lists"]
  assert facts["k"] == 5 and set(facts["providers"]) == {"genres"}
  # Slices of users have the metrics of lists, too; those of targets have not.
  rows = found.slice_rows()
  for row in rows["users/gender"]:
    inside = [row["slice"] == "FMM"[(u - 1) % 3] for u in found.user_id]
    assert row["num_users"] == sum(inside)
    for name in ("ndcg@5", *lists):
      expected = np.nanmean(found.per_user[name][inside])
      assert row["metrics"][name] == pytest.approx(expected, rel=1e-5)
      low, high = row["intervals"][name]
      assert low <= row["metrics"][name] <= high
  assert set(rows["items/genres"][0]["metrics"]) == {"ndcg@5"}
  # Each target is in the slices of all its genres.
  targets = dict(
    (row["slice"], row["num_targets"]) for row in rows["items/genres"]
  )
  assert targets["Drama"] == len(result.user_id)
  odd = [i for i in found.targets.item_id if i % 2 == 0]
  assert targets["War"] == len(odd)
  assert len(rows["users/age"]) == 10  # 50 ages are cut into tenths.
  assert rows["users/age"][0]["slice"] == "18-22"
  assert rows["users/age"][0]["by"] == "age"


def test_deciles(data):
  _, found, split = run(data, WHOLE)
  counts = item_counts(data, split.train)
  users = make_eval_set(data, split, "test")
  for row in found.slice_rows()["users/history_length"]:
    high = row["high"] or np.inf
    inside = (users.history.lengths >= row["low"]) & (
      users.history.lengths <= high
    )
    assert row["num_users"] == inside.sum()
  popular = found.slice_rows()["items/popularity"]
  for row in popular:
    targets = counts[found.targets.item_id]
    inside = (targets >= row["low"]) & (targets <= (row["high"] or np.inf))
    assert row["num_targets"] == inside.sum()
  assert popular[0]["by"] == "popularity" and len(popular) > 5


def test_a_sample_of_users(data):
  protocol = Protocol(cutoffs=(5,), metrics=("ndcg",), max_users=30)
  _, found, _ = run(data, WHOLE, protocol)
  assert len(found.user_id) == 30
  for name in WHOLE.lists.query_metrics():
    assert len(found.per_user[name]) == 30


def test_one_query_an_event(data):
  protocol = Protocol(cutoffs=(5,), metrics=("hit_rate",), per="event")
  splitter = RandomSplit(validation=0.0, test=0.3)
  result, found, _ = run(data, WHOLE, protocol, splitter)
  assert len(np.unique(result.user_id)) < len(result.user_id)
  rows = found.slice_rows()["users/gender"]
  users = [
    len({u for u in result.user_id.tolist() if "FMM"[(u - 1) % 3] == gender})
    for gender in ("M", "F")
  ]
  assert [row["num_users"] for row in rows] == users
  assert sum(row["num_targets"] for row in rows) == len(result.user_id)


def test_what_is_refused(data):
  counts = np.append(0, np.arange(NUM_ITEMS) % 8)  # 5 items are new.
  check = lambda report, data=data, **changes: report.check(
    data, dataclasses.replace(Protocol(), **changes), counts
  )
  check(WHOLE)
  check(WHOLE, candidates=UniformNegatives(num=3))
  check(WHOLE, candidates=AllItems(among="unseen"))
  longer = EvalReport(lists=ListReport(k=6))
  check(longer)
  with pytest.raises(ConfigError, match="k is 6, but lists are made of 5"):
    check(longer, candidates=AllItems(among="unseen"))
  with pytest.raises(ConfigError, match="Did you mean 'gender'"):
    check(EvalReport(user_features=("gendr",)))
  with pytest.raises(ConfigError, match="no item feature 'gender'"):
    check(EvalReport(item_features=("gender",)))
  bare = Interactions.from_columns("bare", {"user_id": np.array([1]),
    "item_id": np.array([1])})  # fmt: skip
  with pytest.raises(ConfigError, match="knows nothing of its users"):
    check(EvalReport(user_features=("gender",)), bare)
  with pytest.raises(ConfigError, match="max_values must lie in"):
    EvalReport(max_values=0)
  with pytest.raises(ConfigError, match="a tuple of different names"):
    EvalReport(user_features=("age", "age"))
