"""AUC against all pairs, DeLong against its definition, groups by loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recjax.errors import ConfigError
from recjax.metrics import auc
from recjax.metrics.auc import GROUP_WEIGHTS, group_aucs

ARRAYS = [np.asarray, jnp.asarray]


def both(function, **jit_options):
  """NumPy arrays go to the function itself, JAX's to it under jit."""
  compiled = jax.jit(function, **jit_options)

  def call(*parts, **options):
    in_jax = any(isinstance(part, jax.Array) for part in parts)
    return (compiled if in_jax else function)(*parts, **options)

  return call


auc_metric, delong_auc = both(auc.auc_metric), both(auc.delong_auc)
grouped_auc_metric = both(auc.grouped_auc_metric, static_argnames=("average",))


def tied(seed: int = 0, num: int = 120, levels: int = 7):
  """Scores with heavy ties, labels that follow them, weights."""
  rng = np.random.default_rng(seed)
  score = rng.integers(0, levels, num).astype(np.float32)
  label = rng.random(num) < (score + 1) / (levels + 2)
  return score, label, rng.random(num).astype(np.float32) * 3


def by_pairs(score, label, weight):
  """The AUC from all pairs of a positive and a negative."""
  up, down = score[label], score[~label]
  pairs = (up[:, None] > down) + 0.5 * (up[:, None] == down)
  w = weight[label][:, None].astype(np.float64) * weight[~label]
  return float((w * pairs).sum() / w.sum())


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("seed", range(3))
def test_auc_counts_all_pairs(array, seed):
  score, label, weight = tied(seed)
  value = auc_metric(*map(array, (score, label, weight)))
  assert float(value) == pytest.approx(by_pairs(score, label, weight), rel=1e-6)
  value = auc_metric(array(score), array(label))
  ones = np.ones_like(weight)
  assert float(value) == pytest.approx(by_pairs(score, label, ones), rel=1e-6)


def test_auc_is_that_of_scikit_learn():
  rng = np.random.default_rng(1)
  label = rng.random(30_000) < 0.02
  score = np.round(rng.normal(size=30_000) + label, 2)
  weight = rng.gamma(1.0, size=30_000)
  expected = roc_auc_score(label, score, sample_weight=weight)
  assert auc_metric(score, label, weight) == pytest.approx(expected, rel=1e-12)
  in_jax = auc_metric(*map(jnp.asarray, (score, label, weight)))
  assert float(in_jax) == pytest.approx(
    roc_auc_score(label, score.astype(np.float32), sample_weight=weight),
    rel=3e-7,
  )


@pytest.mark.parametrize("array", ARRAYS)
def test_extremes(array):
  score, label = array(np.arange(4.0)), array(np.array([0, 0, 1, 1]))
  assert float(auc_metric(score, label)) == 1.0
  assert float(auc_metric(-score, label)) == 0.0
  assert float(auc_metric(0 * score, label)) == 0.5
  infinite = array(np.array([-np.inf, 0.0, np.inf, np.inf]))
  assert float(auc_metric(infinite, array(np.array([0, 0, 0, 1])))) == (
    pytest.approx((1 + 1 + 0.5) / 3)
  )


@pytest.mark.parametrize("array", ARRAYS)
def test_one_class_is_undefined(array):
  score = array(np.arange(4.0))
  for value in (0, 1):
    label = array(np.full(4, value))
    assert math.isnan(auc_metric(score, label))
    assert all(map(math.isnan, delong_auc(score, label)))
    grouped = grouped_auc_metric(score, label, array(np.array([0, 0, 1, 1])))
    assert math.isnan(grouped.value)
    assert (int(grouped.num_groups), int(grouped.num_left_out)) == (0, 2)
    assert float(grouped.share_left_out) == 1.0


@pytest.mark.parametrize("array", ARRAYS)
def test_scores_of_nan_are_not_hidden(array):
  score = array(np.array([0.0, 1.0, np.nan, 2.0]))
  label = array(np.array([0, 1, 0, 1]))
  assert math.isnan(auc_metric(score, label))
  assert all(map(math.isnan, delong_auc(score, label)))
  group = array(np.array([0, 0, 1, 1]))
  assert math.isnan(grouped_auc_metric(score, label, group).value)


def delong_by_definition(score, label):
  up, down = score[label].astype(np.float64), score[~label].astype(np.float64)
  pairs = (up[:, None] > down) + 0.5 * (up[:, None] == down)
  of_up, of_down = pairs.mean(1), pairs.mean(0)
  return of_up.var(ddof=1) / len(up) + of_down.var(ddof=1) / len(down)


@pytest.mark.parametrize("array", ARRAYS)
def test_delong_by_definition(array):
  score, label, _ = tied(3)
  found = delong_auc(array(score), array(label))
  expected = delong_by_definition(score, label)
  assert float(found.variance) == pytest.approx(expected, rel=1e-5)
  assert float(found.auc) == pytest.approx(
    by_pairs(score, label, np.ones(len(score)))
  )


def test_weighted_variance_is_that_of_drawing_examples():
  score, label, weight = tied(4, num=1500, levels=50)
  found = delong_auc(score, label, weight)
  rng = np.random.default_rng(0)
  draws = []
  for _ in range(400):
    rows = rng.integers(0, len(score), len(score))
    draws.append(auc_metric(score[rows], label[rows], weight[rows]))
  # The spread of 400 draws is known to about 1 / sqrt(800) = 3.5%.
  assert math.sqrt(found.variance) == pytest.approx(np.std(draws), rel=0.12)
  # Without the weights it would be smaller by far more than that.
  unweighted = delong_auc(score, label).variance
  assert math.sqrt(unweighted) < 0.88 * np.std(draws)


@pytest.mark.parametrize("array", ARRAYS)
def test_variance_of_a_single_positive_is_unknown(array):
  score, label = array(np.arange(4.0)), array(np.array([0, 0, 1, 0]))
  found = delong_auc(score, label)
  assert float(found.auc) == pytest.approx(2 / 3)
  assert math.isnan(found.variance)


def grouped_by_loop(score, label, group, weight, average):
  total, mass, left_out, lost = 0.0, 0.0, 0, 0.0
  for one in np.unique(group):
    rows = (group == one) & (weight > 0)
    if not rows.any():
      continue
    s, y, w = score[rows], label[rows], weight[rows]
    if y.all() or not y.any():
      left_out, lost = left_out + 1, lost + w.sum()
      continue
    share = {
      "impressions": w.sum(),
      "size": len(w),
      "clicks": w[y].sum(),
      "uniform": 1.0,
    }[average]
    total += share * roc_auc_score(y, s, sample_weight=w)
    mass += share
  return total / mass, left_out, lost / weight.sum()


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("average", GROUP_WEIGHTS)
def test_groups_by_loop(array, average):
  score, label, weight = tied(5, num=400)
  rng = np.random.default_rng(5)
  group = (rng.integers(0, 60, 400) ** 2 - 50).astype(np.int32)
  weight[rng.random(400) < 0.1] = 0.0
  weight[group == group[0]] = 0.0
  parts = map(array, (score, label, group, weight))
  found = grouped_auc_metric(*parts, average=average)
  value, left_out, lost = grouped_by_loop(score, label, group, weight, average)
  assert left_out > 3
  assert float(found.value) == pytest.approx(value, rel=1e-6)
  assert int(found.num_left_out) == left_out
  assert float(found.share_left_out) == pytest.approx(lost, rel=1e-5)
  held = np.unique(group[weight > 0])
  assert int(found.num_groups) + left_out == len(held)


def test_small_groups_among_many_examples_keep_their_digits():
  # The last of 40,000 groups: differences of float32 running sums would be
  # off by one part in a hundred here.
  rng = np.random.default_rng(6)
  group = np.repeat(np.arange(40_000, dtype=np.int32), 5)
  score = rng.random(200_000).astype(np.float32)
  label = np.tile([True, False, True, False, False], 40_000)
  weight = (rng.random(200_000) + 0.1).astype(np.float32)
  parts = score, label, group, weight
  exact = group_aucs(*parts)
  found = jax.jit(group_aucs)(*map(jnp.asarray, parts))
  np.testing.assert_array_equal(found.counted, exact.counted)
  np.testing.assert_allclose(found.auc, exact.auc, atol=2e-6)
  for i in (0, 39_999):
    rows = group == i
    expected = roc_auc_score(
      label[rows], score[rows], sample_weight=weight[rows]
    )
    assert float(found.auc[5 * i]) == pytest.approx(expected, abs=2e-6)


def test_groups_of_one_type_and_scores_of_another():
  score, label, _ = tied(7)
  group = (np.arange(120) % 5).astype(np.int32)
  expected = grouped_auc_metric(score, label, group).value
  found = grouped_auc_metric(score, label, jnp.asarray(group)).value
  assert float(found) == pytest.approx(expected, rel=1e-6)


def test_an_unknown_average():
  score, label, _ = tied()
  with pytest.raises(ConfigError, match="Did you mean 'impressions'"):
    grouped_auc_metric(score, label, np.zeros(120, int), average="impression")


@pytest.mark.parametrize("weighted", [False, True])
def test_bins_of_scores_that_tie_tell_the_auc_and_its_variance(weighted):
  score, label, weight = tied()
  weight = weight if weighted else np.ones_like(weight)
  bins = score.astype(int)
  masses = lambda values: [
    np.bincount(bins[rows], values[rows].astype(np.float64), 9)
    for rows in (label, ~label)
  ]
  counts = int(label.sum()), int((~label).sum())
  found = auc.delong_from_masses(
    *masses(weight), tuple(masses(weight**2)), counts
  )
  expected = delong_auc(score, label, weight)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_bins_of_one_class_tell_nothing():
  mass, none = np.array([2.0, 3.0]), np.zeros(2)
  found = auc.delong_from_masses(mass, none, (mass, none), (5, 0))
  assert np.isnan(found).all()
  one = np.array([1.0, 0.0])
  found = auc.delong_from_masses(mass, one, (mass, one), (5, 1))
  # Two of five tie with the only negative.
  assert found.auc == pytest.approx(0.8) and np.isnan(found.variance)
