import functools
import importlib.util
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.metrics import ranking
from recjax.metrics.ranks import (
  TIE_RULES,
  Ranks,
  ranks_from_counts,
  ranks_from_scores,
)

_spec = importlib.util.spec_from_file_location(
  "metrics_oracle", pathlib.Path(__file__).with_name("oracle.py")
)
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

# Every public metric with each of its options, and its brute-force oracle.
CASES = {
  "hit_rate": (ranking.hit_rate_metric, {}, oracle.hit_rate),
  "recall": (ranking.recall_metric, {}, oracle.recall_targets),
  "recall_min_k": (
    ranking.recall_metric,
    {"denominator": "min_k_targets"},
    oracle.recall_min_k_targets,
  ),
  "precision": (ranking.precision_metric, {}, oracle.precision),
  "ndcg": (ranking.ndcg_metric, {}, oracle.ndcg_min_k_targets),
  "ndcg_retrieved": (
    ranking.ndcg_metric,
    {"ideal": "retrieved"},
    oracle.ndcg_retrieved,
  ),
  "mrr": (ranking.mrr_metric, {}, oracle.mrr),
  "map": (ranking.map_metric, {}, oracle.average_precision),
}
UNCUT = ("mrr", "map")


def tied_lists(seed: int, num_lists: int = 24, size: int = 7):
  """Random scores with heavy ties, masks, and lists without a target."""
  rng = np.random.default_rng(seed)
  scores = rng.integers(0, 3, (num_lists, size)).astype(np.float32)
  labels = rng.random((num_lists, size)) < rng.random((num_lists, 1))
  where = rng.random((num_lists, size)) < 0.8
  labels[0], where[1], scores[2] = False, False, 1.0
  where[3], labels[3] = True, True
  return scores, labels, where


def ranked(scores, labels, where=None):
  where = np.ones_like(labels) if where is None else where
  return jax.jit(ranks_from_scores)(scores, labels, where)


def eager(name: str, **options):
  function, fixed, _ = CASES[name]
  return functools.partial(function, **fixed, **options)


@functools.cache
def metric(name: str, **options):
  return jax.jit(eager(name, **options))


def test_every_metric_is_on_the_list():
  public = {
    value
    for name, value in vars(ranking).items()
    if name.endswith("_metric") and not name.startswith("_")
  }
  assert public == {function for function, _, _ in CASES.values()}


@pytest.mark.parametrize("ties", TIE_RULES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_every_order_of_the_ties(name, ties):
  scores, labels, where = tied_lists(seed=1)
  ranks, targets = ranked(scores, labels, where)
  cutoffs = (1, 3, 5, 10) + ((None,) if name in UNCUT else ())
  for k in cutoffs:
    actual = metric(name, k=k, ties=ties)(ranks, targets)
    expected = [
      oracle.value(CASES[name][2], *row, k=k, ties=ties)
      for row in zip(scores, labels, where)
    ]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_jit_equals_eager(name):
  ranks, targets = ranked(*tied_lists(seed=2))
  np.testing.assert_allclose(
    metric(name, k=3)(ranks, targets),
    eager(name, k=3)(ranks, targets),
    rtol=1e-6,
  )


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_loop(name):
  ranks, targets = ranked(*tied_lists(seed=3))
  function = metric(name, k=3)
  row = lambda i: function(Ranks(*(field[i] for field in ranks)), targets[i])
  np.testing.assert_allclose(
    jax.jit(jax.vmap(eager(name, k=3)))(ranks, targets),
    [row(i) for i in range(len(targets))],
    rtol=1e-6,
  )


@pytest.mark.parametrize("name", CASES)
def test_masked_entries_have_no_effect(name):
  scores, labels, where = tied_lists(seed=4)
  before = ranked(scores, labels, where)
  changed = np.where(where, scores, 9.0), np.where(where, labels, True)
  after = ranked(*changed, where)
  function = metric(name, k=3)
  np.testing.assert_array_equal(function(*before), function(*after))
  # Nor does what the ranks of padding hold.
  ranks, targets = before
  noise = Ranks(*(jnp.where(targets, field, 3) for field in ranks))
  np.testing.assert_array_equal(function(*before), function(noise, targets))


@pytest.mark.parametrize("name", CASES)
def test_order_of_candidates_has_no_effect(name):
  scores, labels, where = tied_lists(seed=5)
  order = np.random.default_rng(0).permutation(scores.shape[1])
  for ties in TIE_RULES:
    function = metric(name, k=3, ties=ties)
    here = function(*ranked(scores, labels, where))
    there = function(
      *ranked(scores[:, order], labels[:, order], where[:, order])
    )
    np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_a_list_without_targets_gives_zero(name):
  for size in (0, 4):
    zeros = jnp.zeros((2, size), jnp.int32)
    ranks = Ranks(zeros, zeros, zeros, zeros, zeros)
    value = metric(name, k=3)(ranks, jnp.zeros((2, size), bool))
    np.testing.assert_array_equal(value, np.zeros(2))


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_option_is_named(name):
  ranks, targets = ranked(*tied_lists(seed=6))
  with pytest.raises(ConfigError, match="'optimistic'"):
    metric(name, k=3, ties="optimist")(ranks, targets)
  with pytest.raises(ConfigError, match="k must lie in"):
    metric(name, k=0)(ranks, targets)


def one_target(greater: int, tied: int):
  counts = [np.array([[n]], np.int32) for n in (greater, tied)]
  where = np.ones((1, 1), bool)
  scores = np.zeros((1, 1), np.float32)
  return jax.jit(ranks_from_counts)(*counts, scores, where), where


def test_one_target_by_formula():
  ranks, where = one_target(greater=3, tied=0)
  value = lambda name, k: float(metric(name, k=k)(ranks, where)[0])
  assert value("hit_rate", 3) == 0.0
  assert value("hit_rate", 4) == 1.0
  assert value("ndcg", 10) == pytest.approx(1 / math.log2(5), rel=1e-6)
  assert value("mrr", 10) == pytest.approx(1 / 4)
  assert value("map", 10) == pytest.approx(1 / 4)
  assert value("precision", 10) == pytest.approx(1 / 10)
  assert value("ndcg_retrieved", 10) == pytest.approx(
    1 / math.log2(5), rel=1e-6
  )


@pytest.mark.parametrize("num", [101, 54_542])
def test_a_constant_list_scores_chance(num):
  ranks, where = one_target(greater=0, tied=num - 1)
  value = lambda name, k, ties="expected": float(
    metric(name, k=k, ties=ties)(ranks, where)[0]
  )
  harmonic = sum(1 / i for i in range(1, num + 1)) / num
  dcg = sum(1 / math.log2(i + 1) for i in range(1, 11)) / num
  assert value("hit_rate", 10) == pytest.approx(10 / num, rel=1e-6)
  assert value("ndcg", 10) == pytest.approx(dcg, rel=1e-6)
  assert value("mrr", None) == pytest.approx(harmonic, rel=1e-6)
  for name in CASES:
    best = 0.1 if name == "precision" else 1.0
    assert value(name, 10, "optimistic") == pytest.approx(best)
    assert value(name, 10, "pessimistic") == 0.0


@pytest.mark.parametrize("greater", [0, 5, 8, 1000, 100_000])
@pytest.mark.parametrize("tied", [0, 1, 9, 20_000])
def test_mrr_is_accurate_deep_in_the_list(greater, tied):
  ranks, where = one_target(greater, tied)
  exact = sum(1 / (greater + j) for j in range(1, tied + 2)) / (tied + 1)
  actual = metric("mrr", k=None)(ranks, where)[0]
  assert float(actual) == pytest.approx(exact, rel=2e-6)


def test_large_groups_of_several_targets():
  # 3 targets among 4,000 equals below 5 others: formulas with exact integers.
  shape, n, above = (1, 4), 4000, 5
  where = jnp.array([[True, True, True, False]])
  ranks = ranks_from_counts(
    jnp.full(shape, above, jnp.int32),
    jnp.full(shape, n - 1, jnp.int32),
    jnp.zeros(shape),
    where,
  )
  slots = 95
  none = math.comb(n - 3, slots) / math.comb(n, slots)
  hit = metric("hit_rate", k=100)(ranks, where)[0]
  assert float(hit) == pytest.approx(1 - none, rel=1e-4)
  first = [
    math.comb(n - j, 2) / math.comb(n, 3) / (above + j) for j in range(1, n - 1)
  ]
  mrr = metric("mrr", k=None)(ranks, where)[0]
  assert float(mrr) == pytest.approx(sum(first), rel=1e-4)
  hits = [
    math.comb(3, x) * math.comb(n - 3, slots - x) / math.comb(n, slots)
    for x in range(4)
  ]
  d = np.mean([1 / math.log2(i + 1) for i in range(6, 101)])
  ideal = np.cumsum([1 / math.log2(i + 1) for i in range(1, 4)])
  exact = sum(hits[x] * x * d / ideal[x - 1] for x in (1, 2, 3))
  ndcg = metric("ndcg_retrieved", k=100)(ranks, where)[0]
  assert float(ndcg) == pytest.approx(exact, rel=1e-4)


def test_ndcg_and_map_agree_with_scikit_learn():
  from sklearn.metrics import average_precision_score, ndcg_score

  rng = np.random.default_rng(0)
  scores = rng.random((20, 30)).astype(np.float32)
  labels = rng.random((20, 30)) < 0.2
  labels[:, 0] = True
  ranks, targets = ranked(scores, labels)
  np.testing.assert_allclose(
    metric("ndcg", k=10)(ranks, targets),
    [ndcg_score([y], [s], k=10) for y, s in zip(labels, scores)],
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    metric("map", k=None)(ranks, targets),
    [average_precision_score(y, s) for y, s in zip(labels, scores)],
    rtol=1e-5,
  )


def test_tied_ndcg_agrees_with_scikit_learn():
  from sklearn.metrics import ndcg_score

  rng = np.random.default_rng(1)
  scores = rng.integers(0, 4, (20, 30)).astype(np.float32)
  labels = rng.random((20, 30)) < 0.3
  labels[:, 0] = True
  ranks, targets = ranked(scores, labels)
  # Without a cut-off, scikit-learn averages over ties, too.
  np.testing.assert_allclose(
    metric("ndcg", k=30)(ranks, targets),
    [ndcg_score([y], [s]) for y, s in zip(labels, scores)],
    rtol=1e-5,
  )
