"""Searches choose by what was tried, and alike after a restart."""

import sys

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.sweeps.search import Tried, next_combination, outermost
from recjax.sweeps.spec import make_sweep

FACTORS = [
  {"name": "rate", "binding": "RATE", "range": [1e-4, 1e-1], "log": True},
  {"name": "depth", "binding": "A.b", "range": [1, 4], "integer": True},
  {"name": "loss", "levels": {"x": ["L = 1"], "y": ["L = 2"]}},
]


def sweep(shape, factors=FACTORS, **changes):
  content = {
    "gin_files": ["a.gin"],
    "factor": factors,
    "shape": shape,
    "num_trials": 50,
  }
  return make_sweep(content | changes, "here.toml")


def search(found, num, value=lambda levels: 0.0, less=False):
  tried = []
  for _ in range(num):
    levels = next_combination(found, tried, less_is_better=less).levels
    tried.append(Tried(levels, value(levels)))
  return tried


@pytest.mark.parametrize("shape", ["random", "bayesian"])
def test_choices_lie_in_their_ranges_and_are_the_same_again(shape):
  tried = search(sweep(shape), 12)
  assert [t.levels for t in tried] == [
    t.levels for t in search(sweep(shape), 12)
  ]
  other = search(sweep(shape, search_seed=1), 12)
  assert [t.levels for t in tried] != [t.levels for t in other]
  rates = [float(t.levels["rate"]) for t in tried]
  assert all(1e-4 <= rate <= 1e-1 for rate in rates)
  # Evenly drawn logarithms: about two thirds lie below .01.
  assert 3 <= sum(rate < 1e-2 for rate in rates)
  assert {t.levels["depth"] for t in tried} <= {"1", "2", "3", "4"}
  assert {t.levels["loss"] for t in tried} == {"x", "y"}


def distance(levels):
  return abs(np.log10(float(levels["rate"])) + 2.5)


def test_the_bayesian_search_beats_the_random_one():
  late = {
    shape: [
      each.value
      for seed in range(3)
      for each in search(
        sweep(shape, FACTORS[:1], search_seed=seed), 30, distance, less=True
      )[15:]
    ]
    for shape in ("random", "bayesian")
  }
  assert np.mean(late["bayesian"]) < 0.8 * np.mean(late["random"])


def test_more_and_less_are_mirrors():
  found = sweep("bayesian", FACTORS[:1])
  less = search(found, 20, distance, less=True)
  more = search(found, 20, lambda levels: -distance(levels))
  assert [t.levels for t in less] == [t.levels for t in more]
  wrong = search(found, 20, distance)
  assert [t.levels for t in less] != [t.levels for t in wrong]


def test_what_runs_or_failed_is_taken_into_account():
  tried = search(sweep("bayesian"), 11)
  pending = [*tried[:-1], Tried(tried[-1].levels)]
  failed = [*tried[:-1], Tried(tried[-1].levels, failed=True)]
  for past in (pending, failed):
    found = next_combination(sweep("bayesian"), past, less_is_better=False)
    assert set(found.levels) == {"rate", "depth", "loss"}


def test_a_name_tells_the_levels():
  found = next_combination(sweep("random"), [], less_is_better=False)
  rate, depth, loss = (found.levels[k] for k in ("rate", "depth", "loss"))
  assert found.name == f"rate {rate}, depth {depth}, loss {loss}"
  assert found.chosen(sweep("random"))[0].bindings == (f"RATE = {rate}",)
  assert len(rate.lstrip("0.")) <= 8


def test_the_outermost_of_a_factor_are_spelled_as_it_draws_them():
  rate, depth, loss = sweep("random").factors
  assert outermost(rate) == ["0.0001", "0.1"]
  assert outermost(depth) == ["1", "4"] and outermost(loss) == ["x", "y"]


def test_without_optuna_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "optuna", None)
  with pytest.raises(ConfigError, match=r"pip install 'recjax\[search\]'"):
    next_combination(sweep("random"), [], less_is_better=False)
