"""Recipes: how the runs behind published numbers are made.

A recipe is a table of published.toml (see `recjax.runs.published`):

    [[recipe]]
    run = "two_tower_gowalla"       # to which cells refer
    gin_files = ["runs/two_tower_gowalla.gin", "all_rows.gin"]
    bindings = ["RandomSplit.seed = 0"]
    seeds = [0]
    seed = "SEED"                   # the macro or parameter of the seed
    minutes = 30                    # of one seed, while no result tells it
    overlay = "overlays/tiny.gin"   # of a smoke run

Only `run` is needed. A gin file is one beside published.toml, or one of the
folder gin/; "runs/RUN.gin" alone by default.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from recjax import errors, files

_TEXTS = ("run", "seed", "overlay")


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What `recjax train` is given for the runs of a cell.

  Attributes:
    run: `name` of the runs.
    gin_files: in their order; the last wins.
    bindings: NAME=VALUE of gin, after the files.
    seeds: a run each.
    seed: the macro or parameter that takes the seed.
    minutes: what one seed costs on two cores, where no result tells it; 0
      where nobody knows.
    overlay: what shrinks a smoke run; "" is that of its kind of experiment.
  """

  run: str
  gin_files: tuple[str, ...] = ()
  bindings: tuple[str, ...] = ()
  seeds: tuple[int, ...] = (0,)
  seed: str = "SEED"
  minutes: float = 0.0
  overlay: str = ""

  def __post_init__(self) -> None:
    if not self.gin_files:
      object.__setattr__(self, "gin_files", (f"runs/{self.run}.gin",))
    errors.check_range("minutes", self.minutes, 0.0)
    if not self.seeds:
      raise errors.ConfigError("seeds must hold a seed; got none.")
    for seed in self.seeds:
      errors.check_range("a seed", seed, 0, 2**31 - 1, integer=True)
      if self.seeds.count(seed) > 1:
        raise errors.ConfigError(f"the seed {seed} stands twice in seeds.")

  def bindings_of(self, seed: int) -> tuple[str, ...]:
    """The bindings of the run with a seed."""
    return (*self.bindings, f"{self.seed}={seed}")

  def files_from_checkout(self, folder: files.PathLike) -> tuple[str, ...]:
    """The gin files as one types them in the checkout.

    Args:
      folder: of published.toml, in the folder experiments/ of a checkout.
    """
    folder = pathlib.Path(folder)
    parent = f"{folder.parent.name}/{folder.name}"
    return tuple(
      f"{parent}/{name}" if (folder / name).is_file() else name
      for name in self.gin_files
    )


def make_recipe(values: Mapping[str, Any], place: str) -> Recipe:
  """The recipe of a table [[recipe]].

  Args:
    values: as TOML gives them.
    place: the file and the number of the table, for messages.

  Raises:
    ConfigError: a key is unknown or missing, or a value is wrong.
  """
  known = [field.name for field in dataclasses.fields(Recipe)]
  for key in values:
    errors.check_choice(f"{place}: a key", key, known)
  if "run" not in values:
    raise errors.ConfigError(f"{place} lacks 'run'.")
  place = f"{place} ({values['run']})"
  typed: dict[str, Any] = {}
  for key, value in values.items():
    if key in _TEXTS:
      if not isinstance(value, str) or not value.strip():
        raise errors.ConfigError(
          f"{place}: {key} must be a text; got {value!r}."
        )
    elif key == "minutes":
      errors.check_range(f"{place}: minutes", value, 0)
      value = float(value)
    else:
      kind = int if key == "seeds" else str
      if not isinstance(value, list) or not all(
        isinstance(each, kind) and each != "" for each in value
      ):
        what = "numbers" if kind is int else "texts"
        raise errors.ConfigError(
          f"{place}: {key} must be a list of {what}; got {value!r}."
        )
      value = tuple(value)
    typed[key] = value
  try:
    return Recipe(**typed)
  except errors.ConfigError as error:
    raise errors.ConfigError(f"{place}: {error}") from error
