"""Seeds and users at once: against ANOVA, by simulation, and bad input."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from recjax.errors import ConfigError, DataError
from recjax.evaluation.crossed_design import (
  Components,
  crossed_test,
  pigeonhole_interval,
  power_of_design,
  smallest_difference,
)

TYPICAL = Components(seed=0.01, user=0.25, residual=1.0)


def draw(random, components, num_seeds, num_users, mean=0.0):
  values = np.sqrt(components.residual) * random.normal(
    size=(num_seeds, num_users)
  )
  values += np.sqrt(components.seed) * random.normal(size=(num_seeds, 1))
  return (
    mean
    + values
    + np.sqrt(components.user) * random.normal(size=(1, num_users))
  )


def test_components_are_those_of_an_analysis_of_variance():
  values = draw(np.random.default_rng(0), Components(1.0, 2.0, 1.0), 4, 6)
  seed, user = np.indices(values.shape)
  table = anova_lm(
    smf.ols(
      "y ~ C(s) + C(u)",
      pd.DataFrame({"y": values.ravel(), "s": seed.ravel(), "u": user.ravel()}),
    ).fit()
  )
  squares = table["mean_sq"]
  found = crossed_test(values).components
  rest = squares["Residual"]
  assert found.residual == pytest.approx(rest)
  assert found.seed == pytest.approx((squares["C(s)"] - rest) / 6)
  assert found.user == pytest.approx((squares["C(u)"] - rest) / 4)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3, 5), (5, 12)])
def test_the_p_value_is_its_expectation(shape):
  random = np.random.default_rng(1)
  values = random.normal(size=shape) + 0.5
  num_seeds, num_users = shape
  mean = values.mean()
  of_seeds = num_users * values.mean(axis=1).var(ddof=1)
  of_users = num_seeds * values.mean(axis=0).var(ddof=1)
  rest = values - values.mean(axis=1, keepdims=True)
  rest = rest - values.mean(axis=0, keepdims=True) + mean
  residual = (rest**2).sum() / ((num_seeds - 1) * (num_users - 1))
  x = random.chisquare(num_seeds - 1, 400_000) / (num_seeds - 1)
  y = random.chisquare(num_users - 1, 400_000) / (num_users - 1)
  variance = of_seeds / x + np.maximum(of_users / y - residual, 0)
  p_values = 2 * scipy.stats.norm.sf(
    abs(mean) / np.sqrt(variance / values.size)
  )
  error = 4 * p_values.std() / np.sqrt(len(p_values))
  assert crossed_test(values).p_value == pytest.approx(
    p_values.mean(), abs=error
  )


def test_without_variance_of_users_it_is_a_test_over_seeds():
  random = np.random.default_rng(1)
  values = np.repeat(random.normal(0.5, 1.0, size=(8, 1)), 50, axis=1)
  found = crossed_test(values)
  expected = scipy.stats.ttest_1samp(values[:, 0], 0.0)
  assert found.p_value == pytest.approx(expected.pvalue)
  # But for the rounding that the step between eight values allows for.
  np.testing.assert_allclose(
    found.interval, expected.confidence_interval(), rtol=1e-6
  )
  assert found.effect_size == pytest.approx(
    values[:, 0].mean() / values[:, 0].std(ddof=1)
  )


@pytest.mark.parametrize(
  ("components", "num_seeds", "num_users"),
  [
    (TYPICAL, 5, 200),
    (Components(0.0, 0.0, 1.0), 5, 100),
    (Components(0.5, 0.1, 0.1), 5, 100),
    (Components(0.0, 1.0, 0.2), 10, 60),
  ],
)
def test_error_rate_and_power_are_as_planned(components, num_seeds, num_users):
  random = np.random.default_rng(0)
  effect = smallest_difference(components, num_seeds, num_users)
  size = num_seeds, num_users
  p_values = [
    [
      crossed_test(draw(random, components, *size, mean)).p_value
      for _ in range(num)
    ]
    for mean, num in ((0.0, 2000), (effect, 1000))
  ]
  errors, found = (np.mean(np.array(each) < 0.05) for each in p_values)
  assert errors <= 0.06
  assert found == pytest.approx(0.8, abs=0.03)


def test_the_interval_holds_where_the_p_value_says_so():
  random = np.random.default_rng(2)
  seen = set()
  for _ in range(100):
    found = crossed_test(draw(random, TYPICAL, 4, 30, mean=0.4))
    holds = found.interval[0] <= 0 <= found.interval[1]
    assert holds == (found.p_value >= 0.05)
    seen.add(holds)
  assert seen == {True, False}


def test_the_smallest_difference_shrinks_with_seeds_and_users():
  sizes = [(3, 100), (5, 100), (5, 1000), (20, 1000)]
  found = [smallest_difference(TYPICAL, *size) for size in sizes]
  assert found == sorted(found, reverse=True)
  again = power_of_design(found[1], TYPICAL, 5, 100)
  assert again == pytest.approx(0.8, abs=1e-6)
  corrected = smallest_difference(TYPICAL, 5, 100, alpha=0.05 / 10)
  assert corrected > found[1]
  assert power_of_design(0.0, TYPICAL, 5, 100) < 0.05


def test_the_pigeonhole_interval_is_as_wide_as_the_variances_say():
  components = Components(0.5, 10.0, 0.5)
  values = draw(np.random.default_rng(3), components, 40, 300)
  low, high = pigeonhole_interval(values, num_resamples=2000)
  estimate = crossed_test(values)
  error = np.sqrt(estimate.components.of_mean(40, 300))
  assert (high - low) / (2 * 1.96 * error) == pytest.approx(1.0, abs=0.06)
  assert (low, high) == pigeonhole_interval(values, num_resamples=2000)


def test_mistakes_are_told():
  values = np.random.default_rng(0).normal(size=(5, 9))
  for call, error, message in (
    (lambda: crossed_test(values[:1]), DataError, "two each at least"),
    (lambda: crossed_test(np.ones((5, 9))), DataError, "no variance"),
    (lambda: crossed_test(np.where(values > 1, np.nan, values)), DataError,
     "diverged"),
    (lambda: pigeonhole_interval(values[:1]), DataError, "two each at least"),
    (lambda: Components(-1.0, 0.0, 0.0), ConfigError, "Components.seed"),
    (lambda: power_of_design(1.0, TYPICAL, 1, 9), ConfigError, "num_seeds"),
    (lambda: smallest_difference(TYPICAL, 5, 9, power=0.01), ConfigError,
     "power"),
  ):  # fmt: skip
    with pytest.raises(error, match=message):
      call()
