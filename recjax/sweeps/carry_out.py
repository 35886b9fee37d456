"""A sweep from its file to its last trial."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from recjax.errors import ConfigError, RunError
from recjax.sweeps import folder as folders
from recjax.sweeps import shapes, trials
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.jobs import Job
from recjax.sweeps.launchers.launcher import Launcher
from recjax.sweeps.live_table import LiveTable
from recjax.sweeps.scheduler import Scheduler, Watch, curve_of
from recjax.sweeps.search import Tried, next_combination
from recjax.sweeps.shapes import Combination
from recjax.sweeps.spec import Sweep
from recjax.sweeps.trials import Refused, Trial


@dataclasses.dataclass(frozen=True)
class Places:
  """Where a sweep finds what it needs.

  Attributes:
    data_dir: the folder of raw data sets.
    cache_dir: where prepared data lie; None is the default.
    compilation_dir: where trials share compiled programs.
  """

  data_dir: str
  cache_dir: str | None
  compilation_dir: str


@dataclasses.dataclass(frozen=True)
class Made:
  """The trials that a sweep starts from.

  Attributes:
    trials: in the order in which they run.
    metric: the validation metric that selects weights.
    refused: what a search has drawn in vain.
  """

  trials: list[Trial]
  metric: str
  refused: list[Refused] = dataclasses.field(default_factory=list)


def make(
  sweep: Sweep,
  earlier: Sequence[Trial] = (),
  refused: Sequence[Refused] = (),
) -> Made:
  """All trials that can be known beforehand, read and checked.

  Of a Bayesian search those are the first combination, or those that earlier
  calls came to, each with all seeds.

  Args:
    sweep: as its file says.
    earlier: the trials of earlier calls.
    refused: what earlier calls have drawn in vain.

  Raises:
    ConfigError: a setting is unknown, unused or refused. What levels of a
      search refuse together is left out instead.
  """
  trials.check_factors(sweep)
  vain: list[Refused] = []
  if not sweep.is_search:
    found = trials.make_trials(sweep, shapes.combinations(sweep))
  elif sweep.shape == "bayesian" and earlier:
    groups = by_combination(earlier).items()
    found = trials.make_trials(
      sweep, [Combination(name, dict(old[0].levels)) for name, old in groups]
    )
    vain = list(refused)
  else:
    trials.check_levels(sweep)
    found, vain = _first_drawn(sweep)
  first = Combination(found[0].combination, found[0].levels)
  _, run = trials.make_trial(sweep, first, sweep.seeds[0])
  return Made(found, trials.select_metric(run, sweep), vain)


def _first_drawn(sweep: Sweep) -> tuple[list[Trial], list[Refused]]:
  """All combinations of a random search; of a Bayesian one the first."""
  most = sweep.num_trials if sweep.shape == "random" else 1
  found: dict[str, list[Trial]] = {}
  refused: dict[str, Refused] = {}
  tried: list[Tried] = []
  while len(tried) < sweep.num_trials and len(found) < most:
    chosen = next_combination(sweep, tried, less_is_better=False)
    if chosen.name not in found and chosen.name not in refused:
      read = _read(sweep, chosen)
      if isinstance(read, Refused):
        refused[chosen.name] = read
      else:
        found[chosen.name] = read
    tried.append(Tried(chosen.levels, failed=chosen.name in refused))
  if not found:
    last = list(refused.values())[-1]
    raise ConfigError(
      f"all {sweep.num_trials} combinations that the search drew are refused,"
      f" the last one: {last.reason}"
    )
  by_seed = [trial for each in zip(*found.values()) for trial in each]
  return by_seed, list(refused.values())


def _read(sweep: Sweep, chosen: Combination) -> list[Trial] | Refused:
  """The trials of a combination that was drawn, if it can run."""
  try:
    return trials.make_trials(sweep, [chosen])
  except ConfigError:
    if reason := trials.refusal(sweep, chosen):
      return Refused(chosen.name, chosen.levels, reason)
    raise  # It is the seeds.


def carry_out(
  sweep: Sweep,
  made: Made,
  folder: SweepFolder,
  launcher: Launcher,
  places: Places,
) -> list[Trial]:
  """Runs what is open, and for a search what follows from it.

  Args:
    sweep: as its file says.
    made: its trials, see `make`.
    folder: taken up and locked.
    launcher: where trials run.
    places: where they find what they need.

  Returns:
    All trials, those of earlier calls with them.

  Raises:
    RunError: see `check_configs`.
  """
  known, refused = _merged(made.trials, folder.read_trials()), [*made.refused]
  folder.write_trials(known, made.metric, refused)
  with _table(sweep, folder, made.metric) as table:
    table.add(known)
    watch = Watch(made.metric, sweep.stop, table.show, sweep.metric)
    scheduler = Scheduler(
      folder, launcher, watch, lambda trial: _job(trial, folder, places)
    )

    def more() -> list[Trial]:
      keys = {trial.key for trial in known}
      fresh: list[Trial] = []
      while sweep.shape == "bayesian" and not fresh:
        found = _next(sweep, folder, known, refused, watch)
        if not found:
          break
        if isinstance(found, Refused):
          refused.append(found)
          found = []
        known.extend(found)
        folder.write_trials(known, made.metric, refused)
        table.add(found)
        # Another name of a config that is known starts nothing.
        fresh = [trial for trial in _once(found) if trial.key not in keys]
      return fresh

    scheduler.run(_once(known), more)
  return known


def check_configs(made: Made, folder: SweepFolder) -> None:
  """Raises RunError where a trial was planned as another config."""
  _merged(made.trials, folder.read_trials())


def _merged(made: Sequence[Trial], earlier: Sequence[Trial]) -> list[Trial]:
  """The trials of this call and of earlier ones.

  Raises:
    RunError: a combination and seed came to another config then.
  """
  found = {(trial.combination, trial.seed): trial for trial in made}
  for old in earlier:
    new = found.setdefault((old.combination, old.seed), old)
    if new.key != old.key:
      raise RunError(
        f"{old.combination!r}, seed {old.seed}, was planned as config"
        f" {old.key} and comes to {new.key} today: a gin file, or a default of"
        " the code, was changed meanwhile. One row must not mix the two: choose"
        " another workdir, or take the change back."
      )
  return list(found.values())


def _once(trials: Sequence[Trial]) -> list[Trial]:
  """The first trial of each config."""
  first: dict[str, Trial] = {}
  for trial in trials:
    first.setdefault(trial.key, trial)
  return list(first.values())


@contextlib.contextmanager
def _table(
  sweep: Sweep, folder: SweepFolder, metric: str
) -> Iterator[LiveTable]:
  table = LiveTable(sweep.title, folder, metric)
  try:
    yield table
  finally:
    table.close()


def _job(trial: Trial, folder: SweepFolder, places: Places) -> Job:
  absolute = lambda path: str(path.absolute())
  return Job(
    trial.key,
    trial.gin_files,
    trial.bindings,
    absolute(folder.workdir(trial.key)),
    absolute(folder.log_path(trial.key)),
    places.data_dir,
    places.cache_dir,
    places.compilation_dir,
  )


def by_combination(known: Sequence[Trial]) -> dict[str, list[Trial]]:
  """The trials of each combination, one a seed, in their order."""
  found: dict[str, list[Trial]] = {}
  for trial in known:
    found.setdefault(trial.combination, []).append(trial)
  return found


def _next(
  sweep: Sweep,
  folder: SweepFolder,
  known: Sequence[Trial],
  refused: Sequence[Refused],
  watch: Watch,
) -> list[Trial] | Refused:
  """The trials of the next combination that is new; none at the end."""
  past = {
    name: _tried(folder, group, watch)
    for name, group in by_combination(known).items()
  }
  past |= {x.combination: Tried(x.levels, failed=True) for x in refused}
  tried = list(past.values())
  while len(tried) < sweep.num_trials:
    chosen = next_combination(sweep, tried, less_is_better=watch.less_is_better)
    if chosen.name not in past:
      found = _read(sweep, chosen)
      if isinstance(found, Refused):
        # Unless each level still runs, a gin file was spoiled meanwhile.
        trials.check_levels(sweep)
      return found
    # Few levels: it was tried already, and its value is known.
    tried.append(past[chosen.name])
  return []


def _tried(folder: SweepFolder, group: list[Trial], watch: Watch) -> Tried:
  """What validation says of a combination, the mean over its seeds."""
  levels = group[0].levels
  states = [folder.state(t.key) for t in group]
  if folders.FAILED in states:
    return Tried(levels, failed=True)
  if folders.OPEN in states:
    return Tried(levels)
  values = [best_validation(folder, t.key, watch) for t in group]
  if None in values:
    return Tried(levels, failed=True)
  return Tried(levels, float(np.mean(np.array(values, np.float64))))


def best_validation(
  folder: SweepFolder, key: str, watch: Watch
) -> float | None:
  """The best validation value that a trial reached."""
  values = [value for _, value in curve_of(folder, key, watch.metric)]
  choose: Callable[..., Any] = min if watch.less_is_better else max
  return choose(values, default=None)


def notes(
  sweep: Sweep, known: Sequence[Trial], refused: Sequence[Refused]
) -> list[str]:
  """What the user should know of the trials of a whole sweep.

  Args:
    sweep: as its file says.
    known: all its trials.
    refused: what a search has drawn in vain.
  """
  found = trials.aliases(known)
  if refused:
    found.append(
      f"{len(refused)} combinations are refused and count as failed, the first"
      f" is {refused[0].combination!r}: {refused[0].reason}"
    )
  num = len({trial.key for trial in known if trial.seed == sweep.seeds[0]})
  if num + len(refused) < sweep.num_trials:
    found.append(
      f"{sweep.num_trials} draws came to {num} configs that run: what was drawn"
      " again ran once."
    )
  return found


def retry_failed(folder: SweepFolder) -> int:
  """Gives all failed trials new attempts; returns how many there are."""
  found = failed(folder, _once(folder.read_trials()))
  for trial in found:
    folder.forget_crashes(trial.key)
  return len(found)


def failed(folder: SweepFolder, known: Sequence[Trial]) -> list[Trial]:
  """The trials that have failed for good."""
  return [
    trial
    for trial in known
    if folder.state(trial.key, thorough=True) == folders.FAILED
  ]
