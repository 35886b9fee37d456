"""Numbers of papers beside ours: published.toml, results.json and READMEs.

`published.toml` of an experiment lists the cells of the paper:

    paper = "Authors. Title. Venue Year."
    link = "https://..."

    [[cell]]
    run = "sasrec_ml1m_full_bce"    # `name` in result.json of our runs
    dataset = "ml-1m"
    model = "SASRec"
    metric = "ndcg@10"
    published = 0.134
    tolerance = 0.01                # or: range = [0.124, 0.144]
    source = "Table 3"
    protocol = "full catalogue, seen items filtered"
    protocol_hash = "..."           # optional: that of our runs
    name = "..."                    # optional; `run` by default
    why = "..."                     # why ours is outside, or there is none
    missing = "data"                # or "model": what a run would need

A cell without a source is refused. How its runs are made is told by tables
[[recipe]], see `recjax.runs.recipes`.

`results.json` is written from the records of finished runs and from nothing
else. The tables in READMEs and docs/results.md are made from it.
"""

import dataclasses
import json
import pathlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recjax import errors, files
from recjax.runs import collection
from recjax.runs.recipes import Recipe, make_recipe

MISSING = ("data", "model")
_NUMBERS = ("published", "tolerance")
_NO_SOURCE = (
  ": a number that nobody can look up is not published. Say which table of "
  "which paper, file or page holds it."
)


@dataclasses.dataclass(frozen=True)
class PublishedCell:
  """A number of a paper that a run is to reproduce.

  Attributes:
    run: `name` of our runs.
    dataset: of our runs.
    model: how the paper calls it.
    metric: such as "ndcg@10".
    published: the number.
    source: where it stands: paper and table.
    protocol: how the paper measured it, in words.
    tolerance: how far ours may be from it; 0 with `range`.
    range: the bounds of ours, instead of a tolerance.
    protocol_hash: of our runs, if it is to be checked.
    name: of the row in results.json; `run` by default.
    why: why ours is outside the bounds, or why there is none.
    missing: what a run would need and we do not have: "data" or "model"; ""
      where nothing is missing.
  """

  run: str
  dataset: str
  model: str
  metric: str
  published: float
  source: str
  protocol: str
  tolerance: float = 0.0
  range: tuple[float, float] | None = None
  protocol_hash: str = ""
  name: str = ""
  why: str = ""
  missing: str = ""

  def __post_init__(self) -> None:
    errors.check_range("tolerance", self.tolerance, 0.0)
    if self.missing:
      errors.check_choice("missing", self.missing, MISSING)
      if not self.why:
        raise errors.ConfigError(
          f"missing = {self.missing!r} needs a `why` that tells which."
        )
    if self.range is not None:
      low, high = self.range
      errors.check_range("the high end of range", high, low)
    if (self.range is None) == (self.tolerance == 0):
      raise errors.ConfigError(
        "give a tolerance above 0, or a range = [low, high], and not both; "
        f"got tolerance {self.tolerance!r} and range {self.range!r}."
      )

  @property
  def key(self) -> tuple[str, str]:
    """Name and metric: a row of results.json has the same."""
    return self.name or self.run, self.metric

  def holds(self, measured: float) -> bool:
    """Whether `measured` reproduces the cell."""
    if self.range is not None:
      return self.range[0] <= measured <= self.range[1]
    # Two decimal numbers that are equal on paper shall be within.
    return abs(measured - self.published) <= self.tolerance + 1e-12


@dataclasses.dataclass(frozen=True)
class Published:
  """The content of a published.toml.

  Attributes:
    paper: authors, title, venue and year.
    link: where to read it.
    cells: the numbers.
    recipes: how the runs are made; `recipe` gives that of a run.
  """

  paper: str
  link: str
  cells: tuple[PublishedCell, ...]
  recipes: tuple[Recipe, ...] = ()

  def recipe(self, run: str) -> Recipe:
    """The recipe of a run: that of the file, or the plain one."""
    found = [recipe for recipe in self.recipes if recipe.run == run]
    return found[0] if found else Recipe(run)


def load_published(path: files.PathLike) -> Published:
  """Reads and checks a published.toml.

  Raises:
    ConfigError: the file is missing, is no TOML, or a cell is wrong.
  """
  try:
    content = tomllib.loads(pathlib.Path(path).read_text("utf-8"))
  except FileNotFoundError:
    raise errors.ConfigError(f"there is no file {path}.") from None
  except (OSError, ValueError) as error:
    raise errors.ConfigError(f"{path} is no TOML: {error}.") from error
  for key in content:
    known = ("paper", "link", "cell", "recipe")
    errors.check_choice(f"{path}: a key", key, known)
  cells = content.get("cell")
  if not isinstance(cells, list) or not cells:
    raise errors.ConfigError(f"{path} has no [[cell]].")
  published = Published(
    str(content.get("paper", "")),
    str(content.get("link", "")),
    tuple(
      _make_cell(values, f"{path}: cell {number}")
      for number, values in enumerate(cells, 1)
    ),
    tuple(
      make_recipe(values, f"{path}: recipe {number}")
      for number, values in enumerate(content.get("recipe", ()), 1)
    ),
  )
  _check_recipes(published, path)
  keys = [cell.key for cell in published.cells]
  for key in keys:
    if keys.count(key) > 1:
      raise errors.ConfigError(
        f"{path}: two cells are called {key[0]!r} with metric {key[1]!r}: "
        "give them names."
      )
  return published


def _check_recipes(published: Published, path: files.PathLike) -> None:
  runs = [recipe.run for recipe in published.recipes]
  for run in runs:
    if runs.count(run) > 1:
      raise errors.ConfigError(f"{path}: two recipes are called {run!r}.")
    cells = sorted({cell.run for cell in published.cells})
    errors.check_choice(f"{path}: the run of a recipe", run, cells)


def _make_cell(values: Mapping[str, Any], place: str) -> PublishedCell:
  fields = dataclasses.fields(PublishedCell)
  for key in values:
    errors.check_choice(f"{place}: a key", key, [f.name for f in fields])
  if "run" in values:
    place = f"{place} ({values['run']})"
  for field in fields:
    if field.default is dataclasses.MISSING and field.name not in values:
      reason = _NO_SOURCE if field.name == "source" else "."
      raise errors.ConfigError(f"{place} lacks {field.name!r}{reason}")
  typed: dict[str, Any] = {}
  for key, value in values.items():
    if key in _NUMBERS:
      errors.check_range(f"{place}: {key}", value)
      typed[key] = float(value)
    elif key == "range":
      if not isinstance(value, list) or len(value) != 2:
        raise errors.ConfigError(
          f"{place}: range must be [low, high]; got {value!r}."
        )
      for end in value:
        errors.check_range(f"{place}: an end of range", end)
      typed[key] = (float(value[0]), float(value[1]))
    else:
      if not isinstance(value, str) or not value.strip():
        reason = _NO_SOURCE if key == "source" else "."
        raise errors.ConfigError(
          f"{place}: {key} must be a text; got {value!r}{reason}"
        )
      typed[key] = value
  try:
    return PublishedCell(**typed)
  except errors.ConfigError as error:
    raise errors.ConfigError(f"{place}: {error}") from error


def collect(
  published: Published, workdirs: Iterable[files.PathLike]
) -> list[dict[str, Any]]:
  """The rows of results.json for the cells that have finished runs.

  Several seeds give their mean and Student's 95% interval; one seed gives its
  bootstrap interval over users.

  Args:
    published: the cells.
    workdirs: of runs, or folders that hold some.

  Raises:
    ConfigError: a run is of another protocol or data set than its cell, lacks
      the metric, or two configs share a name.
  """
  runs, _ = collection.load_runs(workdirs)
  groups, _ = collection.group_runs(runs)
  rows = []
  for cell in published.cells:
    found = [group for group in groups if group.first["name"] == cell.run]
    if len(found) > 1:
      which = "; ".join(_describe(group) for group in found)
      raise errors.ConfigError(
        f"runs called {cell.run!r} differ in more than the seed ({which}): "
        "give the workdirs of one of them."
      )
    if found:
      rows.append(_row(cell, found[0]))
  return rows


def _describe(group: collection.Group) -> str:
  first = group.first
  return (
    f"{group.runs[0].workdir}: config {first['config_hash']}, protocol "
    f"{first['protocol_hash']}, data {first['data_fingerprint'][:8]}"
  )


def _row(cell: PublishedCell, group: collection.Group) -> dict[str, Any]:
  first, env = group.first, group.runs[0].env
  estimate = group.estimate(cell.metric)
  if estimate is None:
    raise errors.ConfigError(
      f"{cell.run} has no metric {cell.metric!r}."
      f"{errors.nearest(cell.metric, first['metrics'])}"
    )
  for key in ("protocol_hash", "dataset"):
    wanted = getattr(cell, key)
    if wanted and wanted != first[key]:
      raise errors.ConfigError(
        f"{cell.run}: the cell is for {key} {wanted!r}, but "
        f"{group.runs[0].workdir} has {first[key]!r}; numbers of the two can "
        "not be compared."
      )
  commit = first.get("commit") or env.get("commit") or ""
  dirty = first.get("dirty") or env.get("dirty")
  interval = (estimate.low, estimate.high)
  row = {
    "name": cell.key[0],
    "dataset": cell.dataset,
    "model": cell.model,
    "protocol": first.get("protocol_text") or cell.protocol,
    "protocol_hash": first["protocol_hash"],
    "metric": cell.metric,
    "published": cell.published,
    "source": cell.source,
    "measured": round(estimate.mean, 6),
    "ci95": [None if end is None else round(end, 6) for end in interval],
    "seeds": list(group.seeds),
    "tolerance": cell.tolerance,
    "within": cell.holds(round(estimate.mean, 6)),
    "config_hash": first["config_hash"],
    "data_fingerprint": first["data_fingerprint"],
    "commit": commit + ("-dirty" if commit and dirty else ""),
    "command": first.get("command") or env.get("command") or "",
    "wall_secs": group.wall_secs,
    "device": first["device"],
  }
  if cell.range is not None:
    ends = [abs(end - cell.published) for end in cell.range]
    row |= {"tolerance": round(max(ends), 6), "range": list(cell.range)}
  return row


def load_results(path: files.PathLike) -> list[dict[str, Any]]:
  """The rows of a results.json; none where there is no such file.

  Raises:
    ConfigError: the file is corrupt.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return []
  try:
    rows = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError) as error:
    raise errors.ConfigError(f"{path} is corrupt: {error}.") from error
  if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
    raise errors.ConfigError(f"{path} is corrupt: it is no list of objects.")
  for number, row in enumerate(rows, 1):
    missing = [
      key
      for key in ("name", "metric", "protocol_hash", "measured", "published")
      if key not in row
    ]
    if missing:
      raise errors.ConfigError(f"{path}: row {number} lacks {missing}.")
  return rows


def update_results(
  path: files.PathLike, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """Puts rows in place of those of the same name and metric.

  Args:
    path: of results.json.
    rows: from `collect`.

  Returns:
    All rows, as they are in the file now.
  """
  merged = {(row["name"], row["metric"]): row for row in load_results(path)}
  merged |= {(row["name"], row["metric"]): dict(row) for row in rows}
  files.write_json_atomically(path, list(merged.values()))
  return list(merged.values())
