"""Sweep files: what they say, and what is told of a wrong one."""

import copy
import pathlib

import pytest

from recjax.errors import ConfigError
from recjax.sweeps.spec import Factor, Level, load_sweep, make_sweep
from recjax.sweeps.stopping import MedianRule

ROOT = pathlib.Path(__file__).parents[2]
GRID = {
  "title": "a title",
  "gin_files": ["runs/sasrec_planted.gin"],
  "bindings": ["TrainConfig.num_epochs = 2"],
  "seeds": [3, 5],
  "factor": [
    {"name": "depth", "levels": {"1": ["A.b = 1"], "2": ["A.b = 2"]}},
    {
      "name": "size",
      "levels": {
        "small": {"gin_files": ["overlays/tiny.gin"]},
        "large": {"bindings": ["C.d = 'x'", "C.e = 2"]},
      },
    },
  ],
}
SEARCH = {
  "gin_files": ["runs/sasrec_planted.gin"],
  "shape": "bayesian",
  "num_trials": 7,
  "factor": [
    {"name": "rate", "binding": "RATE", "range": [1e-4, 1e-2], "log": True},
    {"name": "depth", "binding": "A.b", "range": [1, 4], "integer": True},
  ],
}


def changed(content, *path, value):
  """A copy with one value changed; `path` leads to it."""
  content = copy.deepcopy(content)
  node = content
  for key in path[:-1]:
    node = node[key]
  if value is None:
    del node[path[-1]]
  else:
    node[path[-1]] = value
  return content


def test_a_grid():
  sweep = make_sweep(GRID, "here.toml")
  assert sweep.title == "a title" and sweep.shape == "grid"
  assert sweep.gin_files == ("runs/sasrec_planted.gin",)
  assert sweep.seeds == (3, 5) and sweep.seed == "SEED"
  depth, size = sweep.factors
  assert depth.levels == (Level("1", ("A.b = 1",)), Level("2", ("A.b = 2",)))
  assert size.level("large").bindings == ("C.d = 'x'", "C.e = 2")
  assert size.level("small").gin_files == ("overlays/tiny.gin",)
  assert not sweep.is_search and sweep.stop is None


def test_a_search():
  sweep = make_sweep(
    SEARCH | {"stop": {"rule": "median", "after": 2}}, "here.toml"
  )
  rate, depth = sweep.factors
  assert rate == Factor("rate", (), "RATE", 1e-4, 1e-2, True, False)
  assert depth.integer and not depth.log
  assert rate.level("0.001").bindings == ("RATE = 0.001",)
  assert sweep.is_search and sweep.num_trials == 7
  assert sweep.title == "here" and sweep.stop == MedianRule(after=2)


def test_a_file_is_read(tmp_path):
  path = tmp_path / "it.toml"
  path.write_text(
    'gin_files = ["a.gin"]\n[[factor]]\nname = "f"\n[factor.levels]\n'
    'b = ["X = 1"]\na = ["X = 2"]\n'
  )
  (factor,) = load_sweep(path).factors
  assert [level.name for level in factor.levels] == ["b", "a"]


def test_all_sweeps_of_the_experiments_are_read():
  paths = [
    path
    for path in (ROOT / "experiments").glob("*/*.toml")
    if path.name != "published.toml"
  ]
  assert paths and all(load_sweep(path).factors for path in paths)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (changed(GRID, "sedes", value=[1]), "'sedes'.*Did you mean 'seeds'"),
    (changed(GRID, "shape", value="gird"), "'gird'.*Did you mean 'grid'"),
    (changed(GRID, "factor", value=None), "lacks 'factor'"),
    (changed(GRID, "gin_files", value=None), "lacks 'gin_files'"),
    (changed(GRID, "factor", 0, "levels", "1", value=[]),
     "factor 1 .depth.: level '1' is empty: it sets nothing"),
    (changed(GRID, "factor", 0, "levels", "1", value={"binding": ["a"]}),
     "'binding'.*Did you mean 'bindings'"),
    (changed(GRID, "factor", 0, "levels", "1", value=["A.b = 1", " "]),
     "holds an empty text"),
    (changed(GRID, "factor", 0, "levels", "1", value="A.b = 1"),
     "must be a list of texts"),
    (changed(GRID, "factor", 0, "levels", "1", value=None),
     "one level, '2', so it varies nothing"),
    (changed(GRID, "factor", 1, "name", value="depth"),
     "two factors are called 'depth'"),
    (changed(GRID, "factor", 1, "name", value=None), "factor 2 lacks 'name'"),
    (changed(GRID, "factor", 1, "binding", value="A.b"),
     "has levels, so 'binding' has no meaning"),
    (changed(GRID, "seeds", value=[]), "seeds must be a list of numbers"),
    (changed(GRID, "seeds", value=[1, 1]), "a seed stands twice"),
    (changed(GRID, "seeds", value=[-1]), "a seed must lie in"),
    (changed(GRID, "num_trials", value=3), "num_trials is for the shapes"),
    (changed(GRID, "stop", value={"rule": "mean"}), "rule must be one of"),
    (changed(GRID, "stop", value={"rule": "median", "afer": 1}),
     "'afer'.*Did you mean 'after'"),
    (changed(GRID, "stop", value={"rule": "median", "after": 0}),
     "after must lie in"),
    (changed(SEARCH, "num_trials", value=None), "num_trials.*must lie in"),
    (changed(SEARCH, "shape", value="grid"), "a range is for the shapes"),
    (changed(SEARCH, "factor", 0, "range", value=[1e-4]), "range = .low, high"),
    (changed(SEARCH, "factor", 0, "range", value=[0, 1]), "low must lie in"),
    (changed(SEARCH, "factor", 0, "range", value=[1e-4, float("inf")]),
     "high must lie in"),
    (changed(SEARCH, "factor", 0, "range", value=[2.0, 1.0]),
     "high must lie in"),
    (changed(SEARCH, "factor", 1, "range", value=[1, 2.5]),
     "high must be an integer"),
    (changed(SEARCH, "factor", 1, "binding", value=None), "lacks 'binding'"),
    (changed(SEARCH, "factor", 0, "log", value="false"),
     "factor 1 .rate.: log must be true or false.*'false'"),
    (changed(SEARCH, "factor", 1, "integer", value="no"),
     "factor 2 .depth.: integer must be true or false.*'no'"),
    (changed(SEARCH, "factor", 1, "integer", value=1),
     "integer must be true or false"),
    (changed(GRID, "factor", value=3), "as a table .*factor.*got 3"),
    (changed(GRID, "factor", value={"name": "depth"}),
     "as a table .*factor.*'depth'"),
    (changed(GRID, "factor", value=["depth"]), "factor 1: write it as a table"),
  ],
)  # fmt: skip
def test_what_is_wrong_is_told(content, message):
  with pytest.raises(ConfigError, match=message) as error:
    make_sweep(content, "here.toml")
  assert str(error.value).startswith(("here.toml", "stop"))


def test_full_is_no_name_of_a_removal():
  content = GRID | {
    "shape": "remove_one",
    "factor": [{"name": "f", "levels": {"full": ["A.b = 1"]}}],
  }
  with pytest.raises(ConfigError, match="'full' is the name of the base run"):
    make_sweep(content, "here.toml")


def test_a_missing_and_a_broken_file(tmp_path):
  with pytest.raises(ConfigError, match="there is no sweep file"):
    load_sweep(tmp_path / "none.toml")
  (tmp_path / "broken.toml").write_text("a = [")
  with pytest.raises(ConfigError, match="is no TOML"):
    load_sweep(tmp_path / "broken.toml")
