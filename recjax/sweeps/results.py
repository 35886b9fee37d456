"""The finished trials of a sweep, put together for tables and plots."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from recjax import errors, files
from recjax.runs.collection import Group, Run, load_runs
from recjax.runs.comparable import check_comparable
from recjax.runs.record import RunRecord
from recjax.sweeps import folder as folders
from recjax.sweeps.carry_out import by_combination
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.trials import Trial

REFUSED = "refused"
_USER = "user_id"


@dataclasses.dataclass(frozen=True)
class Missing:
  """What is in no table, and why.

  Attributes:
    combination: how tables would call it.
    seed: of the trial; None of a combination that has no trials.
    state: of the trial, or REFUSED.
    reason: in a line.
    key: of the trial.
  """

  combination: str
  seed: int | None
  state: str
  reason: str
  key: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Combined:
  """The finished runs of one combination.

  Attributes:
    name: how tables call it.
    levels: names of levels by factor.
    runs: by seed.
  """

  name: str
  levels: dict[str, str]
  runs: dict[int, Run]

  @property
  def seeds(self) -> tuple[int, ...]:
    """The seeds that are finished, sorted."""
    return tuple(sorted(self.runs))

  @property
  def keys(self) -> tuple[str, ...]:
    """The hashes of the configs, by seed: equal where two names are one."""
    return tuple(self.runs[s].result["config_hash"] for s in self.seeds)

  @property
  def metrics(self) -> list[str]:
    """The test metrics that all of its runs have."""
    first, *others = (run.result["metrics"] for run in self.runs.values())
    return [name for name in first if all(name in other for other in others)]

  def numbers(self, metric: str) -> Float[np.ndarray, " seed"]:
    """The test metric of each seed; NaN where it is undefined."""
    found = [
      self.runs[seed].result["metrics"].get(metric) for seed in self.seeds
    ]
    return np.array([math.nan if x is None else x for x in found], np.float64)

  def mean(self, metric: str) -> float:
    """The mean test metric; NaN where a seed has none."""
    return float(self.numbers(metric).mean())

  def validation(self, metric: str) -> float:
    """The mean validation metric of the weights that were selected."""
    found = [run.result["validation"].get(metric) for run in self.runs.values()]
    return math.nan if None in found else float(np.mean(found))

  def wall_secs(self) -> float:
    """The mean time of a run."""
    return float(np.mean([r.result["wall_secs"] for r in self.runs.values()]))


@dataclasses.dataclass(frozen=True, eq=False)
class SweepResults:
  """What a sweep has found so far.

  Attributes:
    path: its workdir.
    sweep: the content of sweep.json.
    metric: the test metric that is reported first.
    select: the validation metric that selects weights.
    baseline: the name of the combination that others are compared with.
    rows: combinations with a finished run, in the order of the sweep, but
      those of which a seed was stopped early: of bad seeds more are stopped
      than of good ones, so that the mean of the others tells too much.
    missing: trials that are in no table, and combinations that a search drew
      and that can not run.
  """

  path: pathlib.Path
  sweep: dict[str, Any]
  metric: str
  select: str
  baseline: str
  rows: tuple[Combined, ...]
  missing: tuple[Missing, ...]

  @property
  def runs(self) -> list[Run]:
    """All runs that are in a table, each once."""
    found = {r.workdir: r for row in self.rows for r in row.runs.values()}
    return list(found.values())

  @property
  def first(self) -> dict[str, Any]:
    """The result of one of the runs, for what they share."""
    return self.runs[0].result

  @property
  def base(self) -> Combined | None:
    """The baseline; None where no run of it is in a table."""
    return next((r for r in self.rows if r.name == self.baseline), None)

  @property
  def metrics(self) -> list[str]:
    """The test metrics that all runs have, the reported one first."""
    shared = [
      name
      for name in self.rows[0].metrics
      if all(name in row.metrics for row in self.rows)
    ]
    return [self.metric, *(name for name in shared if name != self.metric)]

  @functools.cached_property
  def common_seeds(self) -> tuple[int, ...]:
    """The seeds that all combinations have finished."""
    shared = set(self.rows[0].seeds).intersection(*(r.seeds for r in self.rows))
    return tuple(sorted(shared))

  def values(
    self, row: Combined, seeds: Sequence[int]
  ) -> Float[np.ndarray, "seed user"]:
    """The values of each user, or one a seed where users do not match."""
    if self._has_users:
      return np.stack([self._of_users[row.runs[s].workdir][1] for s in seeds])
    of_seeds = dict(zip(row.seeds, row.numbers(self.metric)))
    return np.array([[of_seeds[seed]] for seed in seeds], np.float64)

  @functools.cached_property
  def _of_users(self) -> dict[pathlib.Path, tuple[np.ndarray, np.ndarray]]:
    """The users of each run that keeps them, and their values."""
    found = {}
    for run in self.runs:
      record = RunRecord(run.workdir)
      if record.per_user_path("test").exists():
        table = record.load_per_user("test", (_USER, self.metric))
        if self.metric in table:
          found[run.workdir] = _by_user(table[_USER], table[self.metric])
    return found

  @functools.cached_property
  def _has_users(self) -> bool:
    """Whether all runs keep values of the same users.

    Raises:
      RunError: runs of one seed keep those of other users.
    """
    tables = self._of_users
    if any(run.workdir not in tables for run in self.runs):
      return False
    for seed in {seed for row in self.rows for seed in row.seeds}:
      first, *others = (r.runs[seed] for r in self.rows if seed in r.runs)
      for other in others:
        one, two = tables[first.workdir][0], tables[other.workdir][0]
        if not np.array_equal(one, two):
          raise errors.RunError(
            f"{first.workdir} and {other.workdir} were judged on other users,"
            " though their seed, data and protocol are the same."
          )
    users = [found for found, _ in tables.values()]
    return all(np.array_equal(users[0], other) for other in users[1:])


def _by_user(
  user_id: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """One value a user, whose mean is that of all queries.

  Where a user has several queries they hang together, and are no sample of
  their own: theirs are summed, and scaled by the mean number of queries.
  """
  users, place = np.unique(user_id, return_inverse=True)
  if len(users) == len(user_id):
    return users, np.asarray(values, np.float64)[np.argsort(user_id)]
  sums = np.bincount(place, np.asarray(values, np.float64))
  return users, sums * len(users) / len(values)


def load_results(path: files.PathLike, metric: str = "") -> SweepResults:
  """Reads what has finished in the workdir of a sweep.

  Args:
    path: of the workdir.
    metric: the test metric to report; by default that of the sweep file, or
      the one that selects weights.

  Raises:
    RunError: no trial has finished, or they are of different data or
      protocols.
    ConfigError: no run has the metric.
  """
  folder = SweepFolder(path)
  sweep, select = folder.read_sweep(), folder.read_select()
  groups = by_combination(folder.read_trials())
  rows, missing = [], []
  for name, trials in groups.items():
    row, lost = _combined(folder, name, trials)
    rows += [] if row is None else [row]
    missing += lost
  if not rows:
    reasons = "".join(
      f"\n  {each.combination}, seed {each.seed}: {each.state}"
      f"{': ' if each.reason else ''}{each.reason}"
      for each in missing[:10]
    )
    raise errors.RunError(f"no trial of {path} is in a table.{reasons}")
  known = rows[0].metrics
  default = select if select in known else known[0]
  metric = metric or sweep["metric"] or default
  names = dict.fromkeys(name for row in rows for name in row.metrics)
  errors.check_choice("the metric of the sweep", metric, names)
  for row in [row for row in rows if metric not in row.metrics]:
    rows.remove(row)
    missing += _left_out(groups[row.name], row, f"its runs have no {metric!r}")
  _check_comparable(rows)
  missing += [
    Missing(each.combination, None, REFUSED, folders.one_line(each.reason))
    for each in folder.read_refused()
  ]
  return SweepResults(
    folder.path,
    sweep,
    metric,
    select,
    next(iter(groups)),
    tuple(rows),
    tuple(missing),
  )


def _combined(
  folder: SweepFolder, name: str, trials: Sequence[Trial]
) -> tuple[Combined | None, list[Missing]]:
  """The runs of a combination, and its trials that are in no table."""
  runs: dict[int, Run] = {}
  missing = []
  for trial in trials:
    try:
      run, lost = _load(folder, trial)
    except errors.RunError as error:
      reason = folders.one_line(str(error))
      run, lost = None, _missing(trial, folders.FAILED, reason)
    if run is not None:
      runs[trial.seed] = run
    elif lost is not None:
      missing.append(lost)
  row = Combined(name, dict(trials[0].levels), runs) if runs else None
  if row and any(each.state == folders.STOPPED for each in missing):
    reason = "another seed of these settings was stopped early"
    return None, missing + _left_out(trials, row, reason)
  return row, missing


def _missing(trial: Trial, state: str, reason: str) -> Missing:
  return Missing(trial.combination, trial.seed, state, reason, trial.key)


def _left_out(
  trials: Sequence[Trial], row: Combined, reason: str
) -> list[Missing]:
  """The finished trials of a row that is in no table."""
  return [
    _missing(trial, folders.FINISHED, f"left out: {reason}")
    for trial in trials
    if trial.seed in row.runs
  ]


def _load(
  folder: SweepFolder, trial: Trial
) -> tuple[Run | None, Missing | None]:
  state = folder.state(trial.key, thorough=True)
  if state == folders.FINISHED:
    runs, failures = load_runs([folder.workdir(trial.key)])
    if failures:
      raise errors.RunError(failures[0].reason)
    return runs[0], None
  reason = "not finished: the same command goes on"
  if state == folders.STOPPED:
    reason = folder.stop_reason(trial.key)
  elif state == folders.FAILED:
    reason = folder.crashes(trial.key)[-1]["error"]
  return None, _missing(trial, state, reason)


def _check_comparable(rows: Sequence[Combined]) -> None:
  """All runs share a protocol; those of a seed, data as well.

  Seeds may draw data of their own, as planted sources do. But then a row that
  shares no seed with the first can not be told from one of other data.
  """
  runs = [run for row in rows for run in row.runs.values()]
  for seed in sorted({seed for row in rows for seed in row.seeds}):
    check_comparable([Group((r.runs[seed],)) for r in rows if seed in r.runs])
  hashes = {run.result["protocol_hash"]: run for run in runs}
  if len(hashes) > 1:
    check_comparable([Group((run,)) for run in hashes.values()])
  if len({run.result["data_fingerprint"] for run in runs}) > 1:
    for row in rows:
      if not set(row.seeds) & set(rows[0].seeds):
        first = rows[0].runs[rows[0].seeds[0]]
        check_comparable([Group((first,)), Group((row.runs[row.seeds[0]],))])
