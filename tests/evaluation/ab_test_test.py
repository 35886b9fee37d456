"""Effects of an A/B test against SciPy, by simulation, and bad input."""

import math

import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError, DataError
from recjax.evaluation.ab_test import effects
from recjax.evaluation.ab_values import Measured
from recjax.evaluation.cuped import cuped
from recjax.evaluation.significance import holm
from tests.evaluation.ab_planted import planted


def test_means_are_those_of_welch_and_corrected_over_all():
  arm, clicks, shown, _ = planted(0, num_arms=3)
  found = effects([Measured("clicks", clicks), Measured("shown", shown)], arm)
  assert [(x.metric, x.arm) for x in found] == [
    ("clicks", 1), ("clicks", 2), ("shown", 1), ("shown", 2)
  ]  # fmt: skip
  for each in found:
    values = {"clicks": clicks, "shown": shown}[each.metric]
    a, b = values[arm == 0], values[arm == each.arm]
    peer = scipy.stats.ttest_ind(b, a, equal_var=False)
    assert each.p_value == pytest.approx(peer.pvalue)
    np.testing.assert_allclose(each.interval, peer.confidence_interval())
    assert (each.num_control, each.num_treatment) == (len(a), len(b))
    assert each.difference == pytest.approx(b.mean() - a.mean())
    assert each.lift == pytest.approx(b.mean() / a.mean() - 1)
    assert each.lift_interval[0] < each.lift < each.lift_interval[1]
    assert each.variance_reduction is None
  corrected = holm(np.array([each.p_value for each in found]))
  np.testing.assert_allclose([each.p_holm for each in found], corrected)


def test_cuped_is_that_of_its_module():
  arm, clicks, _, before = planted(1, lift=0.2)
  (found,) = effects([Measured("clicks", clicks, None, before)], arm)
  peer = cuped(clicks, before, arm)
  assert found.p_value == pytest.approx(peer.p_value)
  assert found.difference == pytest.approx(peer.effect)
  assert found.variance_reduction == pytest.approx(peer.variance_reduction)


@pytest.mark.parametrize("is_known", [False, True])
def test_ratios_and_lifts_hold_their_rates(is_known):
  """With 20% more clicks an impression, and with none."""
  alarms, covered, lifts = [], [], []
  for seed in range(400):
    for lift in (0.0, 0.2):
      arm, clicks, shown, before = planted(seed, lift=lift)
      known = before if is_known else None
      (found,) = effects([Measured("ctr", clicks, shown, known)], arm)
      low, high = found.lift_interval
      covered.append(low <= lift <= high)
      if lift:
        lifts.append(found.lift)
      else:
        alarms.append(found.p_value < 0.05)
  # Four standard errors of a share of 400, or of 800 draws.
  assert np.mean(alarms) == pytest.approx(0.05, abs=0.044)
  assert np.mean(covered) == pytest.approx(0.95, abs=0.031)
  assert np.mean(lifts) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_the_smallest_difference_is_seen_four_times_in_five(spread):
  """The small arm varies more, or as much."""
  found = []
  for seed in range(300):
    random = np.random.default_rng(seed)
    arm = np.repeat([0, 1], [300, 60])
    values = random.normal(size=360) * np.where(arm, spread, 1.0)
    (pilot,) = effects([Measured("x", values)], arm)
    (each,) = effects([Measured("x", values + pilot.smallest * arm)], arm)
    found.append(each.p_value < 0.05)
  assert np.mean(found) == pytest.approx(0.8, abs=0.092)


@pytest.mark.parametrize("lift", [-0.5, 1.0])
def test_large_lifts_less_what_was_known(lift):
  """Nine tenths of the variance were known, of an effect that adds."""
  covered = []
  for seed in range(400):
    random = np.random.default_rng(seed)
    arm = random.integers(0, 2, 400)
    known = random.normal(scale=3.0, size=400)
    values = 4.0 + known + random.normal(size=400) + 4.0 * lift * arm
    metric = Measured("x", values, None, known[:, None])
    (found,) = effects([metric], arm)
    low, high = found.lift_interval
    covered.append(low <= lift <= high)
  assert np.mean(covered) == pytest.approx(0.95, abs=0.044)


def test_skewness_tells_where_the_p_value_is_rough():
  random = np.random.default_rng(0)
  rare = random.binomial(1, 0.005, 3000)
  for num_small, low, high in ((300, 0.4, 1.5), (1500, 0.0, 0.01)):
    arm = np.repeat([0, 1], [3000 - num_small, num_small])
    (found,) = effects([Measured("x", rare)], arm)
    assert low <= abs(found.skewness) <= high


def test_a_control_near_zero_has_no_lift():
  random = np.random.default_rng(0)
  arm = np.repeat([0, 1], 100)
  (found,) = effects([Measured("x", random.normal(size=200) + arm)], arm)
  assert math.isnan(found.lift) and math.isnan(found.lift_interval[0])
  assert found.difference == pytest.approx(1.0, abs=0.5)


def test_mistakes_are_told():
  arm, clicks, shown, _ = planted(0, num=100)
  good = Measured("clicks", clicks)
  for call, error, message in (
    (lambda: effects([], arm), ConfigError, "needs a metric"),
    (lambda: effects([good], arm, alpha=0.7), ConfigError, "alpha"),
    (lambda: effects([good], np.zeros_like(arm)), DataError, r"\[100\] units"),
    (lambda: effects([good], arm * 2), DataError, ", 0, "),
    (lambda: effects([Measured("m", np.ones(100))], arm), DataError,
     "m: all units .* one value"),
    # Of rounding alone.
    (lambda: effects([Measured("m", np.full(100, 0.1))], arm), DataError,
     "m: all units .* one value"),
    (lambda: effects([Measured("m", clicks, None, clicks[:, None])], arm),
     DataError, "none that was known before"),
    (lambda: effects([Measured("m", np.where(arm, np.nan, 1))], arm), DataError,
     "m: a value is NaN"),
  ):  # fmt: skip
    with pytest.raises(error, match=message):
      call()
