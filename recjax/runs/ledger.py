"""The ledger: every published number we claim, beside what we have of it.

It is made of the folders of `experiments/`: cells and recipes of
published.toml, rows of results.json. Nothing is trained, no gin file is read
and no data set is looked for here; a `Check` brings in what this machine says
of a recipe.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import recjax
from recjax import errors, files
from recjax.runs import published
from recjax.runs.published import PublishedCell
from recjax.runs.recipes import Recipe

WITHIN = "within"
OUTSIDE = "outside"
NO_RESULT = "no result"
NO_DATA = "data not at hand"
NO_MODEL = "no model yet"
STATUSES = (WITHIN, OUTSIDE, NO_RESULT, NO_DATA, NO_MODEL)


@dataclasses.dataclass(frozen=True)
class Check:
  """What this machine says of a recipe.

  Attributes:
    config_hash: of its first seed, as the code is now; "" with a problem.
    problem: why its config can not be read, such as a gin file that is not
      there; "" where it can.
    missing_data: the file that is not there and where it was looked for; ""
      where all are.
  """

  config_hash: str = ""
  problem: str = ""
  missing_data: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
  """A published cell, its recipe and our result.

  Attributes:
    folder: of the experiment.
    paper: authors, title, venue and year.
    link: where to read it.
    cell: the published number.
    recipe: how our runs are made; None where there is no model yet.
    row: of results.json; None without a result.
    check: what this machine says; None where it was not asked.
  """

  folder: pathlib.Path
  paper: str
  link: str
  cell: PublishedCell
  recipe: Recipe | None
  row: Mapping[str, Any] | None = None
  check: Check | None = None

  @property
  def name(self) -> str:
    """What `recjax reproduce` calls it: the name of its runs."""
    return self.cell.run

  @property
  def status(self) -> str:
    """One of STATUSES."""
    if self.row is not None:
      return WITHIN if self.cell.holds(self.row["measured"]) else OUTSIDE
    if self.cell.missing == "model":
      return NO_MODEL
    missing = self.cell.missing == "data"
    if self.check is not None and not self.check.problem:
      missing = bool(self.check.missing_data)
    return NO_DATA if missing else NO_RESULT

  @property
  def why(self) -> str:
    """Why ours is not within the bounds, as far as somebody told."""
    if self.status == WITHIN:
      return ""
    found = "" if self.check is None else self.check.missing_data
    return self.cell.why or (found if self.row is None else "")

  @property
  def minutes_a_seed(self) -> float | None:
    """What one seed costs: as measured, or as the recipe tells."""
    wall_secs = (self.row or {}).get("wall_secs")
    if wall_secs is not None:
      return wall_secs / 60
    return (self.recipe.minutes if self.recipe else 0.0) or None

  @property
  def config_is_current(self) -> bool | None:
    """Whether the code would make our row of the same config.

    A setting that did not exist when the row was made counts as a change,
    also where it has its default. None where it is not known.
    """
    if self.row is None or self.check is None or self.check.problem:
      return None
    return self.row.get("config_hash") == self.check.config_hash

  @property
  def command(self) -> str:
    """The command that makes our number; "" without a model."""
    if self.recipe is None:
      return ""
    return f"recjax reproduce {self.name} --workdir=DIR --data_dir=DIR"

  def to_dict(self) -> dict[str, Any]:
    """Plain values, for JSON; what is not known is None."""
    cell, recipe, row, check = self.cell, self.recipe, self.row, self.check
    found = row or {}
    measured = ("measured", "ci95", "seeds", "wall_secs", "device", "commit")
    minutes = self.minutes_a_seed
    return {
      "name": cell.key[0],
      "run": cell.run,
      "experiment": self.folder.name,
      "dataset": cell.dataset,
      "model": cell.model,
      "metric": cell.metric,
      "status": self.status,
      "within": None if row is None else self.status == WITHIN,
      "why": self.why,
      "published": cell.published,
      "source": cell.source,
      "paper": self.paper,
      "link": self.link,
      "published_protocol": cell.protocol,
      "tolerance": None if cell.range else cell.tolerance,
      "range": None if cell.range is None else list(cell.range),
      **{key: found.get(key) for key in measured},
      "protocol": found.get("protocol"),
      "protocol_hash": found.get("protocol_hash") or cell.protocol_hash or None,
      "config_hash": found.get("config_hash"),
      "config_is_current": self.config_is_current,
      "data_fingerprint": found.get("data_fingerprint"),
      "made_by": found.get("command"),
      "command": self.command,
      "recipe": None if recipe is None else dataclasses.asdict(recipe),
      "minutes": recipe and minutes and round(minutes * len(recipe.seeds), 2),
      "problem": None if check is None else check.problem,
      "missing_data": None if check is None else check.missing_data,
    }


@dataclasses.dataclass(frozen=True)
class Ledger:
  """All cells of a folder `experiments/`, by experiment in the order of files.

  Attributes:
    experiments: the folder.
    entries: the cells.
  """

  experiments: pathlib.Path
  entries: tuple[Entry, ...]

  @property
  def names(self) -> tuple[str, ...]:
    """The names of all runs, each once."""
    return tuple(dict.fromkeys(entry.name for entry in self.entries))

  def of(self, name: str) -> tuple[Entry, ...]:
    """The cells of the runs of a name.

    Raises:
      ConfigError: there are none; tells the nearest name.
    """
    errors.check_choice("the NAME of a recipe", name, self.names)
    return tuple(entry for entry in self.entries if entry.name == name)

  def only(self, names: Iterable[str]) -> "Ledger":
    """The part of it that some names stand for.

    Raises:
      ConfigError: a name is not in it.
    """
    found = tuple(entry for name in names for entry in self.of(name))
    return dataclasses.replace(self, entries=found)

  def checked(self, checks: Mapping[str, Check]) -> "Ledger":
    """The ledger with what this machine says of some recipes, by name."""
    entries = tuple(
      dataclasses.replace(entry, check=checks.get(entry.name))
      for entry in self.entries
    )
    return dataclasses.replace(self, entries=entries)

  @property
  def counts(self) -> dict[str, int]:
    """How many cells there are of each status."""
    found = collections.Counter(entry.status for entry in self.entries)
    return {status: found[status] for status in STATUSES}

  def to_dict(self) -> dict[str, Any]:
    """Plain values, for JSON."""
    cells = [entry.to_dict() for entry in self.entries]
    return {"counts": self.counts, "cells": cells}


def find_experiments(given: files.PathLike | None = None) -> pathlib.Path:
  """The folder `experiments/`: the given one, or that of a checkout.

  Raises:
    ConfigError: there is none; tells where it was looked for.
  """
  here = pathlib.Path() / "experiments"
  ours = pathlib.Path(recjax.__file__).parent.parent / "experiments"
  places = (here, ours) if given is None else (pathlib.Path(given),)
  for place in places:
    if next(place.glob("*/published.toml"), None) is not None:
      return place
  looked_in = ", ".join(dict.fromkeys(str(path.absolute()) for path in places))
  raise errors.ConfigError(
    "no folder of experiments with NAME/published.toml; looked in "
    f"{looked_in}. It lies in a checkout of recjax and not in the installed "
    "package: go there, or name it by --experiments=DIR."
  )


def load_ledger(experiments: files.PathLike) -> Ledger:
  """Reads all published.toml and results.json in the folders of a folder.

  Raises:
    ConfigError: a cell is refused (see `published.load_published`), a result
      is of no cell, or runs of two experiments share a name.
  """
  experiments = pathlib.Path(experiments)
  folders = {
    path.parent
    for name in ("published.toml", "results.json")
    for path in experiments.glob(f"*/{name}")
  }
  entries: list[Entry] = []
  owners: dict[str, pathlib.Path] = {}
  for folder in sorted(folders):
    found = load_entries(folder)
    for entry in found:
      if owners.setdefault(entry.name, folder) != folder:
        raise errors.ConfigError(
          f"{owners[entry.name]} and {folder} both have cells of runs called "
          f"{entry.name!r}: a name belongs to one experiment."
        )
    entries += found
  return Ledger(experiments, tuple(entries))


def load_entries(folder: files.PathLike) -> list[Entry]:
  """The cells of one experiment, see `load_ledger`."""
  folder = pathlib.Path(folder)
  paper = published.load_published(folder / "published.toml")
  path = folder / "results.json"
  rows = {(r["name"], r["metric"]): r for r in published.load_results(path)}
  keys = [cell.key for cell in paper.cells]
  for name, metric in rows:
    if (name, metric) not in keys:
      raise errors.ConfigError(
        f"{path} has {metric} of {name!r}, and no cell of published.toml "
        f"claims it.{errors.nearest(name, [key[0] for key in keys])}"
      )
  declared = {recipe.run for recipe in paper.recipes}
  return [
    Entry(
      folder,
      paper.paper,
      paper.link,
      cell,
      None
      if cell.missing == "model" and cell.run not in declared
      else paper.recipe(cell.run),
      rows.get(cell.key),
    )
    for cell in paper.cells
  ]
