"""CUPED against least squares of statsmodels, by simulation, and bad input."""

import numpy as np
import pytest
import statsmodels.api as sm

from recjax.errors import DataError
from recjax.evaluation.cuped import cuped


def planted(seed: int, effect: float, num: int = 400):
  random = np.random.default_rng(seed)
  x = random.normal(size=(num, 2))
  arm = (random.random(num) < 0.5).astype(np.int64)
  y = x @ [2.0, -1.0] + effect * arm + random.normal(size=num)
  return y, x, arm


def test_theta_is_that_of_least_squares_with_an_arm():
  y, x, arm = planted(0, 0.5)
  found = cuped(y, x, arm)
  design = sm.add_constant(np.column_stack([x, arm]))
  fitted = sm.OLS(y, design).fit()
  np.testing.assert_allclose(found.theta, fitted.params[1:3], rtol=1e-9)
  # The effect is not the coefficient of the arm to the last digit only where
  # the covariates' means differ: there, too, both take off theta times it.
  assert found.effect == pytest.approx(fitted.params[3], rel=1e-9)
  # Least squares with variances of arms of their own (HC) has that p-value.
  robust = sm.OLS(y, design).fit(cov_type="HC1", use_t=True)
  assert found.p_value == pytest.approx(robust.pvalues[3], rel=0.1)
  assert found.interval[0] < found.effect < found.interval[1]
  assert found.variance_reduction == pytest.approx(5 / 6, abs=0.03)


def test_a_covariate_of_no_use_changes_little():
  y, x, arm = planted(1, 0.0)
  noise = np.random.default_rng(9).normal(size=len(y))
  found = cuped(y, noise, arm)
  assert 0 <= found.variance_reduction < 0.02
  np.testing.assert_allclose(found.values.mean(), y.mean())


def test_covariates_of_very_different_scale():
  y, x, arm = planted(0, 0.5)
  found = cuped(y, x * [1e-6, 1e12] + [0.0, 1e12], arm)
  np.testing.assert_allclose(found.values, cuped(y, x, arm).values, rtol=1e-6)


def test_false_alarms_and_intervals_hold_their_rate():
  p_values, covered = [], []
  for seed in range(1500):
    y, x, arm = planted(seed, 0.0, num=80)
    found = cuped(y, x, arm)
    p_values.append(found.p_value)
    covered.append(found.interval[0] <= 0 <= found.interval[1])
  assert 0.035 < np.mean(np.array(p_values) < 0.05) < 0.07
  assert 0.93 < np.mean(covered) < 0.965


def test_mistakes_are_told():
  y, x, arm = planted(0, 0.0, num=20)
  for arguments, message in (
    ((np.where(arm, np.nan, y), x, arm), "NaN"),
    ((y, x, arm + 1), "must be 0"),
    ((y, x, np.zeros_like(arm)), "at least 4 units"),
    ((y, np.ones(20), arm), "constant"),
  ):
    with pytest.raises(DataError, match=message):
      cuped(*arguments)
