import dataclasses
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import DataError
from recjax.evaluation.chance import above_chance, chance_values
from recjax.evaluation.evaluate import EvalResult, evaluate
from recjax.evaluation.protocol import METRICS, AllItems, Protocol
from recjax.retrieval.scorers import DotProductScorer, PopularityScorer

CUTOFFS = (1, 3, 8)


def dcg(places) -> float:
  return sum(1 / math.log2(place + 1) for place in places)


def by_definition(places, k, t, denominator, ideal) -> dict[str, float]:
  """The metrics at k of targets at some places, counted from 1."""
  hits = [place for place in places if place <= k]
  best = min(k, t) if ideal == "min_k_targets" else len(hits)
  whole = min(k, t) if denominator == "min_k_targets" else t
  precisions = [(i + 1) / place for i, place in enumerate(hits)]
  return {
    "hit_rate": float(bool(hits)),
    "recall": len(hits) / whole,
    "precision": len(hits) / k,
    "ndcg": dcg(hits) / dcg(range(1, best + 1)) if best else 0.0,
    "mrr": 1 / hits[0] if hits else 0.0,
    "map": sum(precisions) / min(k, t),
  }


@pytest.mark.parametrize("denominator", ["targets", "min_k_targets"])
@pytest.mark.parametrize("ideal", ["min_k_targets", "retrieved"])
def test_means_over_all_orders(denominator, ideal):
  protocol = Protocol(
    metrics=(*METRICS, "mrr@1", "mrr@3", "mrr@8"),
    cutoffs=CUTOFFS,
    recall_denominator=denominator,
    ndcg_ideal=ideal,
  )
  pairs = [(n, t) for n in range(1, 7) for t in range(1, n + 1)] + [(1, 1)]
  n, t = np.array(pairs).T
  found = chance_values(n, t, protocol)
  for row, (n, t) in enumerate(pairs):
    orders = list(itertools.combinations(range(1, n + 1), t))
    for k in CUTOFFS:
      values = [by_definition(o, k, t, denominator, ideal) for o in orders]
      for name in METRICS:
        expected = np.mean([value[name] for value in values])
        assert found[f"{name}@{k}"][row] == pytest.approx(expected), (name, k)
    first = np.mean([1 / order[0] for order in orders])
    assert found["mrr"][row] == pytest.approx(first)


def test_one_target_among_many():
  protocol = Protocol(metrics=("hit_rate", "ndcg", "mrr", "mrr@10"))
  found = chance_values(np.array([40_981]), np.array([1]), protocol)
  harmonic = lambda m: sum(1 / j for j in range(1, m + 1))
  expected = {
    "hit_rate@10": 10 / 40_981,
    "ndcg@10": dcg(range(1, 11)) / 40_981,
    "mrr": harmonic(40_981) / 40_981,
    "mrr@10": harmonic(10) / 40_981,
  }
  assert {k: v[0] for k, v in found.items()} == pytest.approx(expected, 1e-9)


def judge(users, scorer, queries, popularity, **changes) -> EvalResult:
  protocol = Protocol(
    metrics=METRICS, cutoffs=(5, 20), candidates=changes.pop("candidates")
  )
  return evaluate(
    scorer,
    queries,
    users,
    protocol,
    num_items=120,
    popularity=popularity,
    intervals=False,
    floor=False,
  )


def test_a_constant_scorer_scores_chance(oracle):
  users = oracle.random_eval_set(1, 200, 120, num_targets=4)
  popularity = np.arange(121) % 3
  result = judge(
    users,
    PopularityScorer(jnp.ones(121)),
    np.zeros((200, 1), np.float32),
    popularity,
    candidates=AllItems("unseen"),
  )
  found = chance_values(
    result.num_candidates, result.num_targets, result.protocol
  )
  assert set(found) == set(result.per_user)
  for key, values in found.items():
    np.testing.assert_allclose(result.per_user[key], values, rtol=1e-5)
  for key, value in above_chance(result).items():
    assert value.chance == pytest.approx(result.metrics[key], rel=1e-4)
    # What is left of rounding must not pass for more than chance.
    assert not value.is_above and abs(value.difference) < 1e-9


def test_above_chance(oracle):
  users = oracle.random_eval_set(2, 300, 120)
  rng = np.random.default_rng(3)
  vectors = rng.normal(size=(121, 8)).astype(np.float32)
  noise = rng.normal(size=(300, 8)).astype(np.float32)
  wanted = vectors[[users.targets[u][0] for u in range(300)]]
  scorer = DotProductScorer(jnp.asarray(vectors))
  popularity = np.ones(121, int)
  options = {"candidates": AllItems()}
  good = judge(users, scorer, wanted + noise, popularity, **options)
  for key, value in above_chance(good).items():
    assert value.is_above and value.value == good.metrics[key]
    low, high = value.interval
    assert low < value.difference < high
    assert value.difference == pytest.approx(value.value - value.chance)
  covered = 0
  for _ in range(20):
    noise = rng.normal(size=(300, 8)).astype(np.float32)
    blind = judge(users, scorer, noise, popularity, **options)
    low, high = above_chance(blind)["mrr"].interval
    covered += low < 0 < high
  assert covered >= 17
  # Opposite wishes: surely below.
  worse = judge(users, scorer, -wanted, popularity, **options)
  assert above_chance(worse)["mrr"].interval[1] < 0


def test_metrics_of_lists_have_no_chance(oracle):
  users = oracle.random_eval_set(4, 30, 20)
  result = evaluate(
    PopularityScorer(jnp.ones(21)),
    np.zeros((30, 1), np.float32),
    users,
    Protocol(metrics=("ndcg",)),
    num_items=20,
    popularity=np.ones(21, int),
    floor=False,
  )
  more = result.per_user | {"novelty@10": np.ones(30, np.float32)}
  found = above_chance(dataclasses.replace(result, per_user=more))
  assert set(found) == {"ndcg@10"}


def test_what_can_not_be_compared(oracle):
  protocol = Protocol()
  with pytest.raises(DataError, match="query 1 has 4 of 3"):
    chance_values(np.array([5, 3]), np.array([1, 4]), protocol)
  with pytest.raises(DataError, match="query 0 has 0 of 5"):
    chance_values(np.array([5]), np.array([0]), protocol)
  users = np.arange(3)
  result = EvalResult({}, {}, {}, users, {}, 3, 0.0, protocol)
  with pytest.raises(DataError, match="number of candidates"):
    above_chance(result)
