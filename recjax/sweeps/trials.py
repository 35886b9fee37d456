"""The trials of a sweep: combinations with seeds, read and checked.

All of them are read before the first one starts, so that a mistyped setting of
the last level is told at once. Trials of one config hash are one trial.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from recjax import errors, gin_config
from recjax.named_run import NamedRun, read_run
from recjax.sweeps.search import outermost
from recjax.sweeps.shapes import Combination
from recjax.sweeps.spec import Sweep
from recjax.train.loop import LAST


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run of a sweep.

  Attributes:
    key: the hash of its config, and the name of its workdir.
    combination: what tables call its settings.
    levels: names of levels by factor.
    seed: which seed.
    gin_files: of the base and of the levels.
    bindings: of the sweep, the levels and the seed.
  """

  key: str
  combination: str
  levels: Mapping[str, str]
  seed: int
  gin_files: tuple[str, ...]
  bindings: tuple[str, ...]

  def to_dict(self) -> dict[str, Any]:
    """Plain values, for JSON."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> "Trial":
    """The trial of `to_dict`."""
    rest = dict(values)
    files, bindings = (tuple(rest.pop(k)) for k in ("gin_files", "bindings"))
    return cls(gin_files=files, bindings=bindings, **rest)


@dataclasses.dataclass(frozen=True)
class Refused:
  """A combination of a search whose levels do not go together.

  Attributes:
    combination: what tables would call it.
    levels: names of levels by factor.
    reason: the error.
  """

  combination: str
  levels: Mapping[str, str]
  reason: str

  def to_dict(self) -> dict[str, Any]:
    """Plain values, for JSON."""
    return dataclasses.asdict(self)


def make_trials(
  sweep: Sweep, combinations: Iterable[Combination]
) -> list[Trial]:
  """The trials of some combinations.

  Several names may come to one config: such trials have one key, and one run,
  see `aliases`.

  Args:
    sweep: what they are of.
    combinations: in the order in which they shall run.

  Returns:
    The trials, seed by seed, so that a sweep that is cut short has whole
    seeds.

  Raises:
    ConfigError: a setting is unknown, unused or refused; the message names
      factor and level.
  """
  combinations = list(combinations)
  trials: list[Trial] = []
  first: dict[str, Trial] = {}
  for seed in sweep.seeds:
    for combination in combinations:
      trial, _ = make_trial(sweep, combination, seed)
      same = first.setdefault(trial.key, trial)
      trials.append(trial)
      if same.seed != seed:
        raise errors.ConfigError(
          f"seeds {same.seed} and {seed} give one and the same config:"
          f" {sweep.seed} does not set the seed of the run. Name what does, as"
          " seed = 'NAME'."
        )
  return trials


def aliases(trials: Iterable[Trial]) -> list[str]:
  """Sentences on combinations that come to one config."""
  first: dict[str, Trial] = {}
  notes = []
  for trial in trials:
    same = first.setdefault(trial.key, trial)
    if same.combination != trial.combination:
      notes.append(
        f"{trial.combination!r} and {same.combination!r} are one config"
        f" ({trial.key}) and run once."
      )
  return list(dict.fromkeys(notes))


def make_trial(
  sweep: Sweep, combination: Combination, seed: int
) -> tuple[Trial, NamedRun]:
  """One trial, with what it runs.

  Raises:
    ConfigError: a setting is unknown, unused or refused.
  """
  levels = combination.chosen(sweep)
  gin_files = sweep.gin_files + tuple(f for x in levels for f in x.gin_files)
  bindings = (
    *sweep.bindings,
    *(text for level in levels for text in level.bindings),
    f"{sweep.seed} = {seed}",
  )
  try:
    run = read_run(gin_files, bindings)
  except errors.ConfigError as error:
    raise errors.ConfigError(f"trial {combination.name!r}: {error}") from error
  trial = Trial(
    run.config_hash,
    combination.name,
    dict(combination.levels),
    seed,
    gin_files,
    bindings,
  )
  return trial, run


def check_factors(sweep: Sweep) -> None:
  """Raises ConfigError where factors do not fit the base, or each other.

  A level may set what the base sets; but what one factor sets, no other factor
  may, nor the seed.
  """
  base = (sweep.gin_files, sweep.bindings)
  owners = {
    name: "the seed"
    for name in gin_config.names_set_by((), [f"{sweep.seed} = 0"], beside=base)
  }
  for factor in sweep.factors:
    names: set[str] = set()
    levels = factor.levels or (factor.level(str(factor.low)),)
    for level in levels:
      try:
        names |= gin_config.names_set_by(
          level.gin_files, level.bindings, beside=base
        )
      except errors.ConfigError as error:
        raise errors.ConfigError(
          f"factor {factor.name!r}, level {level.name!r}: {error}"
        ) from error
    for name in sorted(names & set(owners)):
      raise errors.ConfigError(
        f"factor {factor.name!r} and {owners[name]} both set {name}: of two"
        " values the last would win, and the table would tell the other."
      )
    owners |= {name: f"factor {factor.name!r}" for name in names}


def refusal(sweep: Sweep, combination: Combination) -> str:
  """Why a combination can not run; "" where it can."""
  try:
    make_trial(sweep, combination, sweep.seeds[0])
  except errors.ConfigError as error:
    return str(error)
  return ""


def check_levels(sweep: Sweep) -> None:
  """Raises ConfigError where a level of a search can never run.

  The combinations of a search are not known beforehand, but its levels are,
  and the ends of its ranges. A level that the base alone refuses may still go
  with what another factor sets, such as a number of heads with another width.
  """
  names = {factor.name: outermost(factor) for factor in sweep.factors}
  for factor, levels in names.items():
    for name in levels:
      tried = (
        refusal(sweep, Combination(name, {**beside, factor: name}))
        for beside in _surroundings(names)
      )
      first = next(tried)
      if first and all(tried):
        raise errors.ConfigError(f"factor {factor!r}: {first}")


def _surroundings(
  names: Mapping[str, Sequence[str]],
) -> Iterator[dict[str, str]]:
  """What a level may stand beside: nothing, a level, or one of each factor."""
  firsts = {factor: levels[0] for factor, levels in names.items()}
  for beside in ({}, firsts):
    yield beside
    for factor, levels in names.items():
      yield from ({**beside, factor: level} for level in levels)


def select_metric(run: NamedRun, sweep: Sweep) -> str:
  """The validation metric that selects weights, and judges searches.

  Raises:
    ConfigError: a search or an early stop has none to go by.
  """
  name = run.settings.train.select
  if name == LAST and (sweep.is_search or sweep.stop is not None):
    what = "a search" if sweep.is_search else "an early stop"
    raise errors.ConfigError(
      f"{what} goes by the validation metric TrainConfig.select, which is"
      f" {LAST!r} here: name a metric."
    )
  return name
