"""Rules of early stopping, against their words."""

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.sweeps.stopping import HalvingRule, MedianRule, make_rule

# Validated at steps 10, 20, 30.
CURVES = {
  "a": [(10, 0.1), (20, 0.3), (30, 0.5)],
  "b": [(10, 0.2), (20, 0.2), (30, 0.2)],
  "c": [(10, 0.4), (20, 0.6), (30, 0.8)],
  "d": [(10, 0.1), (20, 0.1)],
}


def test_the_median_of_running_means():
  rule = MedianRule(after=2, min_trials=3)
  # Up to step 20: means .2, .2 and .5, median .2; d has .1 at best.
  assert rule.is_hopeless("d", CURVES, less_is_better=False)
  better = CURVES | {"d": [(10, 0.1), (20, 0.25)]}
  assert not rule.is_hopeless("d", better, less_is_better=False)
  assert not rule.is_hopeless("d", CURVES, less_is_better=True)
  worse = CURVES | {"d": [(10, 0.9), (20, 0.7)]}
  assert rule.is_hopeless("d", worse, less_is_better=True)


def test_the_median_rule_waits():
  late = MedianRule(after=3, min_trials=3)
  assert not late.is_hopeless("d", CURVES, less_is_better=False)
  alone = MedianRule(after=2, min_trials=4)
  assert not alone.is_hopeless("d", CURVES, less_is_better=False)
  # Two others have not come to step 20 yet.
  short = CURVES | {"a": CURVES["a"][:1], "b": CURVES["b"][:1]}
  rule = MedianRule(after=2, min_trials=3)
  assert not rule.is_hopeless("d", short, less_is_better=False)


def test_the_median_rule_is_that_of_vizier_on_random_curves():
  random = np.random.default_rng(0)
  values = random.uniform(size=(9, 12))
  curves = {
    str(number): [(10 * k, float(v)) for k, v in enumerate(row, 1)]
    for number, row in enumerate(values)
  }
  rule = MedianRule(after=1, min_trials=1)
  for num in (1, 5, 12):
    for number in range(9):
      mine = curves | {str(number): curves[str(number)][:num]}
      others = np.delete(values, number, 0)[:, :num].mean(axis=1)
      expected = values[number, :num].max() < np.median(others)
      found = rule.is_hopeless(str(number), mine, less_is_better=False)
      assert found == expected


def test_halving_keeps_the_best_third():
  rule = HalvingRule(first=2, factor=3)
  curves = {
    name: [(10, 0.0), (20, value)]
    for name, value in zip("abcdef", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
  }
  found = [
    name
    for name in curves
    if rule.is_hopeless(name, curves, less_is_better=False)
  ]
  assert found == ["a", "b", "c", "d"]
  found = [
    name
    for name in curves
    if rule.is_hopeless(name, curves, less_is_better=True)
  ]
  # The lowest value of all is 0, at step 10: nobody is worse.
  assert found == []


def test_halving_looks_at_rungs_alone():
  rule = HalvingRule(first=1, factor=2)
  curves = {
    "good": [(10, 0.9), (20, 0.9), (30, 0.9)],
    "late": [(10, 0.8), (20, 0.1), (30, 0.1)],
    "low": [(10, 0.1)],
  }
  # At the first rung, of three one goes on.
  assert rule.is_hopeless("low", curves, less_is_better=False)
  # At the second rung (two validations), of two one goes on.
  assert rule.is_hopeless("late", curves, less_is_better=False)
  assert not rule.is_hopeless("good", curves, less_is_better=False)
  alone = {"low": curves["low"]}
  assert not rule.is_hopeless("low", alone, less_is_better=False)
  nothing = {"low": [], "good": curves["good"]}
  assert not rule.is_hopeless("low", nothing, less_is_better=False)


def test_rules_of_a_file():
  assert make_rule(None, "here") is None
  made = make_rule({"rule": "halving", "factor": 4}, "here")
  assert made == HalvingRule(factor=4)
  assert made is not None and made.to_dict() == {
    "rule": "halving",
    "first": 1,
    "factor": 4,
  }
  with pytest.raises(ConfigError, match="must be a table"):
    make_rule("median", "here")
