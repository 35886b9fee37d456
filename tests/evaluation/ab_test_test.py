"""Effects of an A/B test against SciPy, by simulation, and bad input."""

import math

import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError, DataError
from recjax.evaluation.ab_test import Measured, effects, over_time
from recjax.evaluation.cuped import cuped
from recjax.evaluation.significance import holm


def planted(seed, *, num=600, num_arms=2, lift=0.0):
  """Clicks and impressions of users, and their clicks of the week before."""
  random = np.random.default_rng(seed)
  arm = random.integers(0, num_arms, num)
  taste = random.beta(2, 18, num)
  shown = random.geometric(0.1, num)
  before = random.binomial(40, taste)
  rate = np.minimum(taste * (1 + lift * (arm > 0)), 1)
  return arm, random.binomial(shown, rate), shown, before[:, None]


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
  for seed in range(600):
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
  # Four standard errors of a share of 600, or of 1,200 draws.
  assert np.mean(alarms) == pytest.approx(0.05, abs=0.036)
  assert np.mean(covered) == pytest.approx(0.95, abs=0.026)
  assert np.mean(lifts) == pytest.approx(0.2, abs=0.02)


def test_the_smallest_difference_is_seen_four_times_in_five():
  found = []
  for seed in range(500):
    random = np.random.default_rng(seed)
    arm = np.repeat([0, 1], [60, 180])
    values = random.normal(size=240)
    (pilot,) = effects([Measured("x", values)], arm)
    (each,) = effects([Measured("x", values + pilot.smallest * arm)], arm)
    found.append(each.p_value < 0.05)
  assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_a_control_near_zero_has_no_lift():
  random = np.random.default_rng(0)
  arm = np.repeat([0, 1], 100)
  (found,) = effects([Measured("x", random.normal(size=200) + arm)], arm)
  assert math.isnan(found.lift) and math.isnan(found.lift_interval[0])
  assert found.difference == pytest.approx(1.0, abs=0.5)


def test_a_look_is_what_was_known_then():
  arm, clicks, shown, before = planted(3, num=4000, lift=0.3)
  order = np.random.default_rng(0).permutation(4000)
  metric = Measured("ctr", clicks, shown, before)
  (seen,) = over_time([metric], arm, order, num_looks=8)
  assert seen.num_units[-1] == 4000
  for num, difference in zip(seen.num_units, seen.looks.difference):
    come = np.argsort(order)[:num]
    (then,) = effects([metric.rows(come)], arm[come])
    assert difference == pytest.approx(then.difference)
  assert seen.stop is not None and seen.looks.low[seen.stop] > 0
  assert all(seen.looks.low[: seen.stop] <= 0)


def test_looking_at_every_look_gives_no_more_false_alarms():
  alarms, naive = [], []
  for seed in range(300):
    arm, clicks, shown, _ = planted(seed, num=2400)
    metric = Measured("ctr", clicks, shown)
    (seen,) = over_time([metric], arm, np.arange(2400), num_looks=10)
    alarms.append(seen.stop is not None)
    p_values = []
    for num in seen.num_units:
      (then,) = effects([metric.rows(np.arange(num))], arm[:num])
      p_values.append(then.p_value)
    naive.append(min(p_values) < 0.05)
  assert np.mean(alarms) <= 0.05
  assert np.mean(naive) > 0.1  # So there was something to guard against.


def test_the_first_look_waits_for_both_arms():
  arm = np.concatenate([np.zeros(900, int), np.tile([0, 1], 300)])
  values = np.random.default_rng(0).normal(size=len(arm))
  (seen,) = over_time([Measured("x", values)], arm, np.arange(len(arm)))
  assert seen.num_units[0] >= 1300 and len(seen.num_units) < 20


def test_units_of_one_day_are_seen_together():
  arm, clicks, _, _ = planted(0, num=4000)
  day = np.random.default_rng(1).integers(0, 5, 4000)
  (seen,) = over_time([Measured("x", clicks)], arm, day, num_looks=20)
  assert seen.num_units.tolist() == np.cumsum(np.bincount(day)).tolist()


def test_a_planned_end_moves_where_the_interval_is_narrow():
  arm, clicks, _, _ = planted(0, num=4000)
  width = {}
  for planned in (0, 400_000):
    (seen,) = over_time(
      [Measured("x", clicks)], arm, np.arange(4000), planned_units=planned
    )
    width[planned] = seen.looks.high - seen.looks.low
  assert width[400_000][-1] > width[0][-1]


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
    (lambda: effects([Measured("m", np.where(arm, np.nan, 1))], arm), DataError,
     "m: a value is NaN"),
    (lambda: over_time([good], arm, np.arange(100)), DataError,
     "need 200 units in each arm"),
    (lambda: over_time([good], arm, np.arange(100), num_looks=0), ConfigError,
     "num_looks"),
  ):  # fmt: skip
    with pytest.raises(error, match=message):
      call()
