"""Shares of ordered pairs, counted pair by pair."""

import numpy as np
import pytest
import scipy.stats

from recjax.metrics.auc import delong_auc
from recjax.metrics.concordance import concordance


def data(num_labels: int, seed: int, num: int = 90):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, num_labels, num) * 1.5 - 2
  score = np.round(label + 3 * rng.normal(size=num))
  return score, label, rng.uniform(0.2, 2.0, num)


@pytest.mark.parametrize("num_labels", [2, 3, 5, 8, 1000])
def test_all_pairs_are_counted(num_labels):
  score, label, weight = data(num_labels, seed=num_labels)
  sign = np.sign(score[:, None] - score[None, :])
  above = label[:, None] > label[None, :]
  mass = np.where(above, weight[:, None] * weight[None, :], 0.0)
  pairs = mass * (1 + sign) / 2
  value = pairs.sum() / mass.sum()
  found = concordance(score, label, weight)
  assert found.value == pytest.approx(value, rel=1e-12)
  right, all_pairs = (m.sum(0) + m.sum(1) for m in (pairs, mass))
  influence = 2 * (right - value * all_pairs) / all_pairs.sum()
  assert found.variance == pytest.approx((influence**2).sum(), rel=1e-9)


def test_it_is_the_auc_of_two_labels():
  score, label, _ = data(2, seed=0, num=4000)
  found = concordance(score, label)
  expected = delong_auc(score, (label > label.min()).astype(float))
  assert found.value == pytest.approx(expected.auc, rel=1e-12)
  assert found.variance == pytest.approx(expected.variance, rel=2e-3)


def test_it_is_somers_d_of_scipy():
  score, label, _ = data(7, seed=1)
  d = scipy.stats.somersd(label, score).statistic
  assert concordance(score, label).value == pytest.approx((d + 1) / 2)


def test_the_variance_is_that_of_new_rows():
  found = [concordance(*data(6, seed)[:2]) for seed in range(400)]
  values, variances = np.array(found).T
  assert variances.mean() == pytest.approx(values.var(), rel=0.25)


def test_what_is_undefined_is_nan():
  ones = np.ones(4)
  assert np.isnan(concordance(np.arange(4.0), ones)).all()
  assert np.isnan(
    concordance(np.array([0, np.nan, 1, 2]), np.arange(4.0))
  ).all()
  assert np.isnan(concordance(np.zeros(0), np.zeros(0))).all()
