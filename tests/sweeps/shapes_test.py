"""Which combinations each shape has."""

import pytest

from recjax.errors import ConfigError
from recjax.sweeps.shapes import combinations, named
from recjax.sweeps.spec import make_sweep

FACTORS = [
  {"name": "depth", "levels": {"1": ["A.b = 1"], "2": ["A.b = 2"]}},
  {"name": "loss", "levels": {"x": ["L = 1"], "y": ["L = 2"], "z": ["L = 3"]}},
]


def sweep(shape, factors=FACTORS):
  content = {"gin_files": ["a.gin"], "factor": factors, "shape": shape}
  return make_sweep(content, "here.toml")


@pytest.mark.parametrize(
  ("shape", "expected"),
  [
    (
      "grid",
      [
        ("depth 1, loss x", {"depth": "1", "loss": "x"}),
        ("depth 1, loss y", {"depth": "1", "loss": "y"}),
        ("depth 1, loss z", {"depth": "1", "loss": "z"}),
        ("depth 2, loss x", {"depth": "2", "loss": "x"}),
        ("depth 2, loss y", {"depth": "2", "loss": "y"}),
        ("depth 2, loss z", {"depth": "2", "loss": "z"}),
      ],
    ),
    (
      "one_at_a_time",
      [
        ("baseline", {"depth": "1", "loss": "x"}),
        ("depth 2", {"depth": "2", "loss": "x"}),
        ("loss y", {"depth": "1", "loss": "y"}),
        ("loss z", {"depth": "1", "loss": "z"}),
      ],
    ),
    (
      "remove_one",
      [
        ("full", {}),
        ("1", {"depth": "1"}),
        ("2", {"depth": "2"}),
        ("x", {"loss": "x"}),
        ("y", {"loss": "y"}),
        ("z", {"loss": "z"}),
      ],
    ),
  ],
)
def test_combinations(shape, expected):
  found = combinations(sweep(shape))
  assert [(each.name, dict(each.levels)) for each in found] == expected


def test_the_chosen_levels_set_what_they_say():
  found = combinations(sweep("grid"))[-1]
  chosen = found.chosen(sweep("grid"))
  assert [level.bindings for level in chosen] == [("A.b = 2",), ("L = 3",)]
  assert combinations(sweep("remove_one"))[0].chosen(sweep("remove_one")) == []


def test_a_single_factor_needs_no_name():
  assert [x.name for x in combinations(sweep("grid", FACTORS[1:]))] == [
    "x",
    "y",
    "z",
  ]
  assert named(sweep("grid"), {"depth": "2", "loss": "y"}).name == (
    "depth 2, loss y"
  )


def test_removals_of_one_name_are_told_apart():
  twice = [
    {"name": "in", "levels": {"none": ["A.b = 1"]}},
    {"name": "out", "levels": {"none": ["A.c = 1"]}},
  ]
  names = [each.name for each in combinations(sweep("remove_one", twice))]
  assert names == ["full", "in none", "out none"]


def test_combinations_of_one_name_are_refused():
  same = [
    {"name": "a", "levels": {"x": ["A.b = 1"], "b c": ["A.b = 2"]}},
    {"name": "a b", "levels": {"x": ["A.c = 1"], "c": ["A.c = 2"]}},
  ]
  assert len(combinations(sweep("grid", same))) == 4
  with pytest.raises(ConfigError, match="two combinations would be called"):
    combinations(sweep("one_at_a_time", same))
