"""A sweep as data: a base run, factors with levels, a shape, seeds.

    title = "The loss of SASRec"
    gin_files = ["runs/sasrec_beauty_full_bce.gin"]
    bindings = ["TrainConfig.num_epochs = 20"]    # of all trials
    shape = "grid"
    seeds = [0, 1, 2]
    metric = "ndcg@10"

    [[factor]]
    name = "loss"
    [factor.levels]
    "BCE" = ["Experiment.objective = @objectives.BinaryCrossEntropy()"]
    "CE" = ["Experiment.objective = @objectives.FullSoftmax()"]

A level is a list of gin bindings, or a table with `bindings` and `gin_files`,
overlays that are read after the base. A factor of a search may have a `range`
instead:

    [[factor]]
    name = "rate"
    binding = "ParamGroup.learning_rate"
    range = [1e-4, 1e-2]
    log = true                                     # or: integer = true

Shapes:

  grid           all combinations of levels
  one_at_a_time  the first level of all factors, and each other level alone
  remove_one     the base run, and each level alone changing it: an ablation
  random         `num_trials` draws of levels and ranges
  bayesian       the same, by the tree-structured Parzen estimator of Optuna

Searches are judged by the validation metric that selects weights, never by
test rows.
"""

import dataclasses
import pathlib
import sys
import tomllib
from collections.abc import Mapping
from typing import Any

from recjax import errors, files
from recjax.sweeps.stopping import StopRule, make_rule

SHAPES = ("grid", "one_at_a_time", "remove_one", "random", "bayesian")
SEARCHES = ("random", "bayesian")
FULL = "full"
"""How the base run of a `remove_one` is called."""


@dataclasses.dataclass(frozen=True)
class Level:
  """One level of a factor.

  Attributes:
    name: how tables call it.
    bindings: NAME=VALUE of gin.
    gin_files: read after those of the base.
  """

  name: str
  bindings: tuple[str, ...] = ()
  gin_files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Factor:
  """What is varied: some levels, or a range of numbers.

  Attributes:
    name: how tables call it.
    levels: in their order; empty where there is a range.
    binding: the gin name that takes a number of the range.
    low: the least number.
    high: the largest.
    log: the logarithm is drawn evenly.
    integer: whole numbers alone.
  """

  name: str
  levels: tuple[Level, ...] = ()
  binding: str = ""
  low: float | int = 0
  high: float | int = 0
  log: bool = False
  integer: bool = False

  def level(self, name: str) -> Level:
    """The level of that name, or of a number of the range, as text."""
    if not self.levels:
      return Level(name, (f"{self.binding} = {name}",))
    return next(level for level in self.levels if level.name == name)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """All that a sweep file says.

  Attributes:
    title: of the report.
    gin_files: of the base run.
    bindings: of all trials, after the files.
    factors: in the order of the file.
    shape: one of SHAPES.
    seeds: each combination is run with all of them.
    seed: the macro or parameter that takes the seed.
    metric: the test metric that is reported first; "" is the one that
      selects weights.
    num_trials: combinations of a search; else 0.
    search_seed: of the draws of a search.
    stop: when a trial is stopped early; None is never.
  """

  title: str
  gin_files: tuple[str, ...]
  factors: tuple[Factor, ...]
  shape: str = "grid"
  bindings: tuple[str, ...] = ()
  seeds: tuple[int, ...] = (0,)
  seed: str = "SEED"
  metric: str = ""
  num_trials: int = 0
  search_seed: int = 0
  stop: StopRule | None = None

  @property
  def is_search(self) -> bool:
    """Whether combinations are drawn one after another."""
    return self.shape in SEARCHES

  def to_dict(self) -> dict[str, Any]:
    """Plain values, for JSON."""
    return dataclasses.asdict(self) | {
      "stop": None if self.stop is None else self.stop.to_dict()
    }


_TABLES = ("factor", "stop")
_LARGEST = sys.float_info.max
_NEEDED = ("gin_files", "factor")


def load_sweep(path: files.PathLike) -> Sweep:
  """Reads and checks a sweep file.

  Raises:
    ConfigError: the file is missing, is no TOML, or a value is wrong.
  """
  try:
    content = tomllib.loads(pathlib.Path(path).read_text("utf-8"))
  except FileNotFoundError:
    raise errors.ConfigError(f"there is no sweep file {path}.") from None
  except (OSError, ValueError) as error:
    raise errors.ConfigError(f"{path} is no TOML: {error}.") from error
  return make_sweep(content, str(path))


def make_sweep(content: Mapping[str, Any], place: str) -> Sweep:
  """A sweep of the plain values of its file.

  Args:
    content: as TOML gives it.
    place: the file, for messages.

  Raises:
    ConfigError: a key is unknown or missing, or a value is wrong.
  """
  known = {field.name for field in dataclasses.fields(Sweep)} - {"factors"}
  for key in content:
    errors.check_choice(f"{place}: a key", key, sorted({*known, *_TABLES}))
  for key in _NEEDED:
    if not content.get(key):
      raise errors.ConfigError(
        f"{place} lacks {key!r}; see docs/sweeps.md for a whole sweep file."
      )
  if not isinstance(content["factor"], (list, tuple)):
    raise errors.ConfigError(
      f"{place}: write each factor as a table [[factor]]; got"
      f" {content['factor']!r}."
    )
  shape = content.get("shape", "grid")
  errors.check_choice(f"{place}: shape", shape, SHAPES)
  factors = tuple(
    _factor(values, f"{place}: factor {number}", shape)
    for number, values in enumerate(content["factor"], 1)
  )
  sweep = Sweep(
    title=_text(content.get("title", pathlib.Path(place).stem), "title", place),
    gin_files=_texts(content["gin_files"], f"{place}: gin_files"),
    factors=factors,
    shape=shape,
    bindings=_texts(content.get("bindings", []), f"{place}: bindings"),
    seeds=_seeds(content.get("seeds", [0]), place),
    seed=_text(content.get("seed", "SEED"), "seed", place),
    metric=_text(content.get("metric", ""), "metric", place),
    num_trials=content.get("num_trials", 0),
    search_seed=content.get("search_seed", 0),
    stop=make_rule(content.get("stop"), f"{place}: stop"),
  )
  _check(sweep, place)
  return sweep


def _check(sweep: Sweep, place: str) -> None:
  names = [factor.name for factor in sweep.factors]
  for name in names:
    if names.count(name) > 1:
      raise errors.ConfigError(f"{place}: two factors are called {name!r}.")
  if sweep.is_search:
    errors.check_range(
      f"{place}: num_trials of a {sweep.shape} search",
      sweep.num_trials,
      1,
      integer=True,
    )
  elif sweep.num_trials:
    raise errors.ConfigError(
      f"{place}: num_trials is for the shapes {' and '.join(SEARCHES)}; the"
      f" shape {sweep.shape!r} has as many trials as its levels give."
    )
  errors.check_range(
    f"{place}: search_seed", sweep.search_seed, 0, integer=True
  )


def _factor(values: Any, place: str, shape: str) -> Factor:
  if not isinstance(values, Mapping):
    raise errors.ConfigError(f"{place}: write it as a table [[factor]].")
  known = ("name", "levels", "binding", "range", "log", "integer")
  for key in values:
    errors.check_choice(f"{place}: a key", key, known)
  name = _text(values.get("name", ""), "name", place)
  if not name:
    raise errors.ConfigError(f"{place} lacks 'name'.")
  place = f"{place} ({name})"
  if "levels" in values:
    for key in ("binding", "range", "log", "integer"):
      if key in values:
        raise errors.ConfigError(
          f"{place} has levels, so {key!r} has no meaning: give levels, or"
          " binding and range."
        )
    return Factor(name, _levels(values["levels"], place, shape))
  return _range(values, name, place, shape)


def _levels(values: Any, place: str, shape: str) -> tuple[Level, ...]:
  if not isinstance(values, Mapping) or not values:
    raise errors.ConfigError(
      f"{place}: levels must be a table of names with lists of gin bindings;"
      f" got {values!r}."
    )
  levels = tuple(
    _level(name, content, f"{place}: level {name!r}")
    for name, content in values.items()
  )
  if shape != "remove_one" and len(levels) < 2:
    raise errors.ConfigError(
      f"{place} has one level, {next(iter(values))!r}, so it varies nothing."
    )
  if shape == "remove_one" and FULL in values:
    raise errors.ConfigError(
      f"{place}: {FULL!r} is the name of the base run in a remove_one; call"
      " the level otherwise."
    )
  return levels


def _level(name: str, content: Any, place: str) -> Level:
  if isinstance(content, Mapping):
    for key in content:
      errors.check_choice(f"{place}: a key", key, ("bindings", "gin_files"))
    bindings = content.get("bindings", [])
    gin_files = content.get("gin_files", [])
  else:
    bindings, gin_files = content, []
  level = Level(
    name,
    _texts(bindings, f"{place}: bindings"),
    _texts(gin_files, f"{place}: gin_files"),
  )
  if not level.bindings and not level.gin_files:
    raise errors.ConfigError(
      f"{place} is empty: it sets nothing. Say what the base run says, or use"
      " shape = 'remove_one', whose first row is the base run."
    )
  return level


def _range(
  values: Mapping[str, Any], name: str, place: str, shape: str
) -> Factor:
  if shape not in SEARCHES:
    raise errors.ConfigError(
      f"{place} has no levels; a range is for the shapes"
      f" {' and '.join(SEARCHES)}, and this is {shape!r}."
    )
  ends = values.get("range")
  if not isinstance(ends, list) or len(ends) != 2:
    raise errors.ConfigError(
      f"{place} needs levels, or binding and range = [low, high]; got range"
      f" {ends!r}."
    )
  log, integer = (_flag(values, key, place) for key in ("log", "integer"))
  low, high = ends
  errors.check_range(
    f"{place}: low", low, 1e-300 if log else -_LARGEST, integer=integer
  )
  errors.check_range(f"{place}: high", high, low, _LARGEST, integer=integer)
  binding = _text(values.get("binding", ""), "binding", place)
  if not binding:
    raise errors.ConfigError(f"{place} lacks 'binding', which takes a number.")
  return Factor(name, (), binding, low, high, log, integer)


def _flag(values: Mapping[str, Any], key: str, place: str) -> bool:
  value = values.get(key, False)
  if not isinstance(value, bool):
    raise errors.ConfigError(
      f"{place}: {key} must be true or false, without quotes; got {value!r}."
    )
  return value


def _text(value: Any, what: str, place: str) -> str:
  if not isinstance(value, str):
    raise errors.ConfigError(f"{place}: {what} must be a text; got {value!r}.")
  return value


def _texts(values: Any, place: str) -> tuple[str, ...]:
  if not isinstance(values, list) or not all(
    isinstance(value, str) for value in values
  ):
    raise errors.ConfigError(
      f"{place} must be a list of texts; got {values!r}."
    )
  for value in values:
    if not value.strip():
      raise errors.ConfigError(f"{place} holds an empty text.")
  return tuple(values)


def _seeds(values: Any, place: str) -> tuple[int, ...]:
  if not isinstance(values, list) or not values:
    raise errors.ConfigError(
      f"{place}: seeds must be a list of numbers; got {values!r}."
    )
  for value in values:
    errors.check_range(f"{place}: a seed", value, 0, 2**31 - 1, integer=True)
  if len(set(values)) < len(values):
    raise errors.ConfigError(f"{place}: a seed stands twice in {values}.")
  return tuple(values)
