"""Recipes are checked, and say what `recjax train` is given."""

import pytest

from recjax import errors
from recjax.runs import recipes


def test_the_plain_recipe():
  plain = recipes.make_recipe({"run": "lr"}, "a.toml: recipe 1")
  assert plain == recipes.Recipe("lr")
  assert plain.gin_files == ("runs/lr.gin",)
  assert plain.bindings_of(0) == ("SEED=0",)


def test_a_whole_recipe(tmp_path):
  folder = tmp_path / "experiments" / "towers"
  folder.mkdir(parents=True)
  (folder / "all_rows.gin").write_text("")
  recipe = recipes.make_recipe(
    {
      "run": "towers",
      "gin_files": ["runs/towers.gin", "all_rows.gin"],
      "bindings": ["BATCH = 8"],
      "seeds": [3, 1],
      "seed": "RandomSplit.seed",
      "minutes": 2,
      "overlay": "overlays/tiny.gin",
    },
    "a.toml: recipe 1",
  )
  assert recipe.seeds == (3, 1)
  assert recipe.bindings_of(3) == ("BATCH = 8", "RandomSplit.seed=3")
  assert recipe.files_from_checkout(folder) == (
    "runs/towers.gin",
    "experiments/towers/all_rows.gin",
  )


@pytest.mark.parametrize(
  ("values", "expected"),
  [
    ({}, "recipe 1 lacks 'run'"),
    ({"run": "lr", "sed": "SEED"}, "Did you mean 'seed'"),
    ({"run": 3}, "run must be a text; got 3"),
    ({"run": "lr", "seed": " "}, r"\(lr\): seed must be a text"),
    ({"run": "lr", "seeds": 3}, "seeds must be a list of numbers; got 3"),
    ({"run": "lr", "seeds": []}, "seeds must hold a seed"),
    ({"run": "lr", "seeds": [-1]}, "a seed must lie in"),
    ({"run": "lr", "seeds": [True]}, "a seed must be an integer"),
    ({"run": "lr", "seeds": [2, 2]}, "the seed 2 stands twice"),
    ({"run": "lr", "gin_files": "a.gin"}, "must be a list of texts"),
    ({"run": "lr", "bindings": [""]}, "must be a list of texts"),
    ({"run": "lr", "minutes": -1}, "minutes must lie in"),
  ],
)
def test_a_wrong_recipe_is_refused(values, expected):
  with pytest.raises(errors.ConfigError, match=expected) as info:
    recipes.make_recipe(values, "a.toml: recipe 1")
  assert str(info.value).startswith("a.toml: ")
