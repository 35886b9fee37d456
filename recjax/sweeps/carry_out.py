"""A sweep from its file to its last trial."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from recjax.errors import RunError
from recjax.sweeps import folder as folders
from recjax.sweeps import shapes, trials
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.jobs import Job
from recjax.sweeps.launchers.launcher import Launcher
from recjax.sweeps.live_table import LiveTable
from recjax.sweeps.scheduler import MAX_ATTEMPTS, Scheduler, Watch, curve_of
from recjax.sweeps.search import Tried, next_combination
from recjax.sweeps.spec import Sweep
from recjax.sweeps.trials import Trial


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
    notes: sentences on configs that are the same.
  """

  trials: list[Trial]
  metric: str
  notes: list[str]


def make(sweep: Sweep) -> Made:
  """All trials that can be known beforehand, read and checked.

  Of a Bayesian search that is the first one.

  Raises:
    ConfigError: a setting is unknown, unused or refused.
  """
  trials.check_factors(sweep)
  if sweep.is_search:
    chosen = _draw(
      sweep, [], sweep.num_trials if sweep.shape == "random" else 1
    )
  else:
    chosen = shapes.combinations(sweep)
  _, run = trials.make_trial(sweep, chosen[0], sweep.seeds[0])
  metric = trials.select_metric(run, sweep)
  made, notes = trials.make_trials(sweep, chosen)
  return Made(made, metric, notes)


def _draw(
  sweep: Sweep, tried: list[Tried], num: int
) -> list[shapes.Combination]:
  """The next combinations of a random search."""
  found: list[shapes.Combination] = []
  for _ in range(num):
    past = [*tried, *(Tried(each.levels) for each in found)]
    found.append(next_combination(sweep, past, less_is_better=False))
  return found


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
  """
  known = _merged(made.trials, folder.read_trials())
  folder.write_trials(known, made.metric)
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
        found = _next(sweep, folder, known, watch)
        if not found:
          break
        known.extend(found)
        folder.write_trials(known, made.metric)
        table.add(found)
        # Another name of a config that is known starts nothing.
        fresh = [trial for trial in _once(found) if trial.key not in keys]
      return fresh

    scheduler.run(_once(known), more)
  return known


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
  sweep: Sweep, folder: SweepFolder, known: list[Trial], watch: Watch
) -> list[Trial]:
  """The trials of the next combination that is new; none at the end."""
  groups = by_combination(known)
  tried = [_tried(folder, group, watch) for group in groups.values()]
  while len(tried) < sweep.num_trials:
    chosen = next_combination(sweep, tried, less_is_better=watch.less_is_better)
    if chosen.name not in groups:
      return trials.make_trials(sweep, [chosen])[0]
    # Few levels: it was tried already, and its value is known.
    tried.append(_tried(folder, groups[chosen.name], watch))
  return []


def _tried(folder: SweepFolder, group: list[Trial], watch: Watch) -> Tried:
  """What validation says of a combination, the mean over its seeds."""
  levels = group[0].levels
  states = [folder.state(t.key, max_attempts=MAX_ATTEMPTS) for t in group]
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


def retry_failed(folder: SweepFolder) -> int:
  """Gives all failed trials new attempts; returns how many there are."""
  failed = [
    trial.key
    for trial in folder.read_trials()
    if folder.state(trial.key, max_attempts=MAX_ATTEMPTS) == folders.FAILED
  ]
  for key in failed:
    folder.forget_crashes(key)
  return len(failed)
