"""Welch's test against SciPy, by simulation with fitted covariates."""

import math

import numpy as np
import pytest
import scipy.stats

from recjax.evaluation.cuped import cuped
from recjax.evaluation.welch import welch


def test_it_is_that_of_scipy():
  random = np.random.default_rng(0)
  a, b = random.normal(size=12), random.normal(0.5, 3.0, size=30)
  found = welch(a, b)
  peer = scipy.stats.ttest_ind(b, a, equal_var=False)
  assert found.p_value == pytest.approx(peer.pvalue)
  assert found.freedom == pytest.approx(peer.df)
  assert found.difference / found.error == pytest.approx(peer.statistic)
  np.testing.assert_allclose(
    found.interval(0.1), peer.confidence_interval(0.9), rtol=1e-12
  )


@pytest.mark.parametrize("num", [12, 24])
def test_fitted_covariates_cost_degrees_of_freedom(num):
  """Without them a tenth of these tests of 12 units were false alarms."""
  alarms = []
  for seed in range(2000):
    random = np.random.default_rng(seed)
    arm, x = np.arange(num) % 2, random.normal(size=(num, 2))
    alarms.append(cuped(random.normal(size=num), x, arm).p_value < 0.05)
  assert np.mean(alarms) == pytest.approx(0.05, abs=0.02)


def test_the_skewness_of_a_difference_of_rates():
  """Of binomial counts: known in closed form."""
  a, b = np.zeros(900), np.zeros(100)
  a[:90], b[:10] = 1, 1
  rate = 0.1
  third, second = rate * (1 - rate) * (1 - 2 * rate), rate * (1 - rate)
  expected = third * (1 / 100**2 - 1 / 900**2)
  expected /= (second * (1 / 100 + 1 / 900)) ** 1.5
  assert welch(a, b).skewness == pytest.approx(expected)
  assert welch(b, a).skewness == pytest.approx(-expected)
  assert welch(a, a).skewness == 0.0


def test_sides_that_do_not_vary():
  found = welch(np.ones(3), np.full(3, 2.0))
  assert found.difference == 1.0 and found.error == 0.0
  assert math.isnan(found.p_value) and found.skewness == 0.0
