"""Sequential intervals: by hand, by simulation of peeking, and bad input."""

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

from recjax.errors import ConfigError, DataError
from recjax.evaluation.always_valid import (
  Arm,
  always_valid,
  cumulated,
  tau_for,
)

LOOKS = np.arange(100, 2001, 50)


def arms(seed: int, effect: float = 0.0):
  random = np.random.default_rng(seed)
  a, b = random.normal(size=(2, 2000))
  return cumulated(a, LOOKS), cumulated(b + effect, LOOKS)


def test_an_arm_is_told_at_each_look():
  values = 1e6 + np.random.default_rng(0).normal(size=500)
  arm = cumulated(values, np.array([2, 100, 500]))
  for place, num in enumerate((2, 100, 500)):
    assert arm.mean[place] == pytest.approx(values[:num].mean(), rel=1e-12)
    variance = values[:num].var(ddof=1)
    assert arm.variance[place] == pytest.approx(variance, rel=1e-6)


def test_the_ratio_is_that_of_the_mixture():
  """By integration over the prior of true differences."""
  a = Arm(np.array([200]), np.array([0.1]), np.array([1.3]))
  b = Arm(np.array([150]), np.array([0.35]), np.array([0.9]))
  tau, alpha = 0.2, 0.05
  variance = 1.3 / 200 + 0.9 / 150
  density = lambda x, mean, var: scipy.stats.norm.pdf(x, mean, np.sqrt(var))
  mixed = lambda x: scipy.integrate.quad(
    lambda true: density(x, true, variance) * density(true, 0, tau**2),
    -3,
    3,
    points=[0, x],
  )[0]
  found = always_valid(a, b, tau, alpha)
  ratio = mixed(0.25) / density(0.25, 0, variance)
  assert found.p_value[0] == pytest.approx(min(1, 1 / ratio), rel=1e-6)
  # 0 is at the end of the interval where the ratio is 1 / alpha.
  width = found.high[0] - found.difference[0]
  end = mixed(width) / density(width, 0, variance)
  assert end == pytest.approx(1 / alpha, rel=1e-6)


def test_peeking_at_every_look_keeps_the_rate():
  tau = tau_for(2 / 2000)
  wrong, peeked = [], []
  for seed in range(1000):
    a, b = arms(seed)
    found = always_valid(a, b, tau)
    wrong.append((found.low > 0).any() or (found.high < 0).any())
    assert wrong[-1] == (found.p_value[-1] < 0.05)
    error = np.sqrt(a.variance / a.num + b.variance / b.num)
    peeked.append((np.abs(found.difference) > 1.96 * error).any())
  assert np.mean(wrong) < 0.05
  assert np.mean(peeked) > 0.15  # What looking does to a test of one look.


def test_an_effect_is_found_and_covered():
  tau = tau_for(2 / 2000)
  runs = [always_valid(*arms(seed, 0.2), tau) for seed in range(300)]
  assert np.mean([run.p_value[-1] < 0.05 for run in runs]) > 0.95
  left_out = [((run.low > 0.2) | (run.high < 0.2)).any() for run in runs]
  assert np.mean(left_out) < 0.05


def test_tau_is_about_the_best_at_its_variance():
  arm = lambda num: Arm(np.array([num]), np.zeros(1), np.ones(1))
  width = lambda tau: float(always_valid(arm(500), arm(500), tau).high[0])
  best = scipy.optimize.minimize_scalar(
    width, bounds=(1e-3, 10.0), method="bounded"
  )
  assert width(tau_for(2 / 500)) < 1.002 * best.fun


def test_mistakes_are_told():
  a, b = arms(0)
  for call, error, message in (
    (lambda: always_valid(a, b, 0.0), ConfigError, "tau must be"),
    (lambda: always_valid(a, b, 1.0, alpha=0.7), ConfigError, "alpha"),
    (lambda: tau_for(-1.0), ConfigError, "variance must be"),
    (
      lambda: always_valid(a, cumulated(np.arange(9.0), np.array([5])), 1.0),
      DataError,
      "same looks",
    ),
    (
      lambda: always_valid(*[cumulated(np.ones(9), np.array([5]))] * 2, 1.0),
      DataError,
      "variance",
    ),
    (lambda: cumulated(np.ones(9), np.array([1])), DataError, "looks must"),
    (lambda: cumulated(np.array([1, np.nan]), LOOKS), DataError, "NaN"),
  ):
    with pytest.raises(error, match=message):
      call()
