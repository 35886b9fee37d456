"""An exact and a worse index side by side."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.errors import ConfigError, DataError
from recjax.evaluation.candidates import UniformNegatives
from recjax.evaluation.evaluate import evaluate
from recjax.evaluation.index_quality import index_quality
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.search_speed import Timing
from recjax.retrieval.exact_index import ExactIndex, ExactIndexConfig
from recjax.retrieval.scorers import DotProductScorer, InterestScorer

NUM_ITEMS, NUM_USERS, DIM = 120, 30, 5
QUICK = Timing(k=20, num_single=3, batch=8, min_secs=0)
PROTOCOL = Protocol(metrics=("hit_rate", "ndcg", "recall"), cutoffs=(5, 10))


class Blind(ExactIndex):
  """Never finds what ought to stand first."""

  def _nearest(self, queries, k, *, widened):
    more = min(k + 1, self.num_items)
    scores, places = super()._nearest(queries, more, widened=widened)
    if more == k:  # The whole catalogue: a gap stands at the end.
      pad = ((0, 0), (0, 1))
      scores = np.pad(scores, pad, constant_values=-np.inf)
      places = np.pad(places, pad, constant_values=-1)
    return scores[:, 1:], places[:, 1:]


@pytest.fixture(scope="module")
def rng_data():
  rng = np.random.default_rng(3)
  vectors = rng.normal(size=(NUM_ITEMS + 1, DIM)).astype(np.float32)
  items = lambda low, high: [
    rng.choice(NUM_ITEMS, rng.integers(low, high), replace=False) + 1
    for _ in range(NUM_USERS)
  ]
  history, targets = ragged(items(0, 60)), ragged(items(1, 6))
  users = EvalSet(np.arange(NUM_USERS) + 1, history, targets, history)
  queries = rng.normal(size=(NUM_USERS, 3, DIM)).astype(np.float32)
  return vectors, queries, users


def ragged(lists):
  rows = np.repeat(np.arange(len(lists)), [len(x) for x in lists])
  values = np.concatenate(lists).astype(np.int32)
  return Ragged.from_pairs(rows, values, len(lists))


def build(vectors, kind=ExactIndex):
  index = kind(ExactIndexConfig())
  return index.build(vectors[1:], np.arange(1, len(vectors)))


def compare(rng_data, protocol=PROTOCOL, interests=False, **options):
  vectors, queries, users = rng_data
  queries = queries if interests else queries[:, 0]
  return index_quality(
    build(vectors),
    build(vectors, Blind),
    queries,
    users,
    protocol,
    num_items=NUM_ITEMS,
    **{"depth": 20, "recall_at": (4, 10), "timing": QUICK, **options},
  )


@pytest.mark.parametrize(
  ("exclude", "interests", "max_users"),
  [
    ("history", False, 0),
    ("train", True, 0),
    ("none", False, 11),
  ],
)
def test_exact_search_is_judged_as_evaluate_judges(
  rng_data, exclude, interests, max_users
):
  vectors, queries, users = rng_data
  protocol = dataclasses.replace(
    PROTOCOL, exclude_seen=exclude, max_users=max_users, user_seed=4
  )
  scorer = InterestScorer if interests else DotProductScorer
  expected = evaluate(
    scorer(jnp.asarray(vectors)),
    queries if interests else queries[:, 0],
    users,
    protocol,
    num_items=NUM_ITEMS,
    popularity=np.ones(NUM_ITEMS + 1),
    intervals=False,
    floor=False,
    progress=False,
  )
  found = compare(rng_data, protocol, interests)
  assert found.num_queries == expected.num_users == (max_users or NUM_USERS)
  assert found.exact.metrics == pytest.approx(expected.metrics, rel=1e-5)


def test_the_approximate_index_is_judged_on_its_own_lists(rng_data):
  vectors, queries, users = rng_data
  found = compare(rng_data)
  order = np.argsort(-(queries[:, 0] @ vectors[1:].T), 1)[:, 1:] + 1
  hits = []
  for user in range(NUM_USERS):
    seen = set(users.history[user]) - set(users.targets[user])
    shown = [item for item in order[user] if item not in seen]
    hits.append(bool(set(shown[:5]) & set(users.targets[user])))
  assert found.approximate.metrics["hit_rate@5"] == pytest.approx(np.mean(hits))
  assert found.approximate.metrics != found.exact.metrics


def test_recall_and_overlap(rng_data):
  vectors, queries, users = rng_data
  found = compare(rng_data)
  assert found.exact.recall == {"recall@4": 1, "recall@10": 1}
  assert found.exact.overlap == {"overlap@5": 1, "overlap@10": 1}
  # Of the true k the first is lost, and k - 1 are found.
  expected = {"recall@4": 3 / 4, "recall@10": 9 / 10}
  assert found.approximate.recall == pytest.approx(expected)
  # What a user gets differs only where the first item was to be shown.
  scores = queries[:, 0] @ vectors[1:].T
  first = scores.argmax(1) + 1
  shown = [
    item not in users.history[u] or item in users.targets[u]
    for u, item in enumerate(first)
  ]
  assert 0 < np.mean(shown) < 1
  lost = np.mean(shown) / 5
  assert found.approximate.overlap["overlap@5"] == pytest.approx(1 - lost)


def test_mrr_is_that_of_the_lists(rng_data):
  vectors, queries, users = rng_data
  protocol = Protocol(metrics=("mrr",), cutoffs=(3,), exclude_seen="none")
  found = compare(rng_data, protocol, depth=7)
  assert found.depth == 7
  order = np.argsort(-(queries[:, 0] @ vectors[1:].T), 1) + 1
  expected = []
  for user in range(NUM_USERS):
    places = [
      place
      for place, item in enumerate(order[user, :7], 1)
      if item in users.targets[user]
    ]
    expected.append(1 / places[0] if places else 0)
  assert 0 in expected
  assert found.exact.metrics["mrr"] == pytest.approx(np.mean(expected))


def test_speed_and_size(rng_data):
  found = compare(rng_data)
  for side in (found.exact, found.approximate):
    latency = side.speed.latency_ms
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert side.speed.queries_per_sec > 0
    assert side.speed.k == 20
    assert side.build_secs > 0
    assert side.memory_bytes >= NUM_ITEMS * DIM * 4


def test_as_json(rng_data):
  found = compare(rng_data)
  value = json.loads(json.dumps(found.to_dict()))
  assert value["protocol_hash"] == PROTOCOL.hash()
  assert value["protocol"]["cutoffs"] == [5, 10]
  assert value["approximate"]["recall"] == found.approximate.recall
  assert value["exact"]["kind"] == "exact"
  assert value["exact"]["settings"]["block"] == ExactIndexConfig().block
  assert value["num_items"] == NUM_ITEMS and value["dim"] == DIM


def test_other_items_are_refused(rng_data):
  vectors, queries, users = rng_data
  with pytest.raises(DataError, match="build both from the same"):
    index_quality(
      build(vectors),
      build(vectors + 1),
      queries[:, 0],
      users,
      PROTOCOL,
      num_items=NUM_ITEMS,
    )


def test_sampled_candidates_are_refused(rng_data):
  protocol = Protocol(candidates=UniformNegatives(10))
  with pytest.raises(ConfigError, match="searches the whole catalogue"):
    compare(rng_data, protocol)


def test_missing_queries_and_targets_are_refused(rng_data):
  vectors, queries, users = rng_data
  with pytest.raises(DataError, match="30 queries and 7 rows"):
    compare((vectors, queries, users.take(np.arange(7))))
  none = Ragged(np.zeros(0, np.int32), np.zeros(NUM_USERS + 1, np.int64))
  with pytest.raises(DataError, match="user 1 has no target"):
    compare((vectors, queries, dataclasses.replace(users, targets=none)))
