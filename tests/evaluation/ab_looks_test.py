"""Looks at an A/B test while units come: oracle, false alarms, bad input."""

import numpy as np
import pytest

from recjax.errors import ConfigError, DataError
from recjax.evaluation.ab_looks import over_time
from recjax.evaluation.ab_test import effects
from recjax.evaluation.ab_values import Measured
from tests.evaluation.ab_planted import planted


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
  for seed in range(120):
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


@pytest.mark.parametrize("draw", ["rare", "heavy"])
def test_rare_events_in_a_small_arm_are_no_alarm(draw):
  """Welch's variance would find a quarter of these tests, and 7%."""
  alarms, lost = 0, 0
  for seed in range(200):
    random = np.random.default_rng(seed)
    arm = (random.random(3000) < 0.1).astype(np.int64)
    values = {
      "rare": random.binomial(1, 0.005, 3000),
      "heavy": random.lognormal(0, 2, 3000),
    }[draw]
    (seen,) = over_time([Measured("x", values)], arm, np.arange(3000))
    alarms += seen.stop is not None
    lost += 20 - len(seen.num_units)
  assert alarms <= 5
  # The first units had no event at all, and one look waits for 200 of an arm.
  assert lost > 0


def test_mistakes_are_told():
  arm, clicks, _, _ = planted(0, num=1000)
  good = Measured("clicks", clicks)
  for call, error, message in (
    (lambda: over_time([good], arm[:100], np.arange(100)), DataError,
     "need 200 units in each arm"),
    (lambda: over_time([good], arm, np.arange(1000), num_looks=0), ConfigError,
     "num_looks"),
    (lambda: over_time([Measured("m", np.ones(1000))], arm, np.arange(1000)),
     DataError, "m: all units"),
  ):  # fmt: skip
    with pytest.raises(error, match=message):
      call()
