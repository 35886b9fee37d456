"""The finished trials of a sweep, put together for tables and plots."""

import dataclasses
import functools
import math
import pathlib
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
from recjax.sweeps.scheduler import MAX_ATTEMPTS
from recjax.sweeps.trials import Trial


@dataclasses.dataclass(frozen=True)
class Missing:
  """A trial that is in no table, and why."""

  trial: Trial
  state: str
  reason: str


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

  def numbers(self, metric: str) -> Float[np.ndarray, " seed"]:
    """The test metric of each seed; NaN where it is undefined."""
    found = [
      self.runs[seed].result["metrics"].get(metric) for seed in self.seeds
    ]
    return np.array([math.nan if x is None else x for x in found], np.float64)

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
    rows: combinations with a finished run, in the order of the sweep; the
      baseline is the first where it has one.
    missing: trials that are in no table.
  """

  path: pathlib.Path
  sweep: dict[str, Any]
  metric: str
  select: str
  rows: tuple[Combined, ...]
  missing: tuple[Missing, ...]

  @property
  def first(self) -> dict[str, Any]:
    """The result of one of the runs, for what they share."""
    return next(iter(self.rows[0].runs.values())).result

  @property
  def metrics(self) -> list[str]:
    """The test metrics that all runs have, the reported one first."""
    runs = [run for row in self.rows for run in row.runs.values()]
    shared = [
      name
      for name in self.first["metrics"]
      if all(name in run.result["metrics"] for run in runs)
    ]
    return [self.metric, *(name for name in shared if name != self.metric)]

  @functools.cached_property
  def common_seeds(self) -> tuple[int, ...]:
    """The seeds that all combinations have finished."""
    shared = set(self.rows[0].seeds).intersection(*(r.seeds for r in self.rows))
    return tuple(sorted(shared))

  def values(
    self, row: Combined, seeds: tuple[int, ...]
  ) -> Float[np.ndarray, "seed user"]:
    """The values of each user, or of each seed where no users are kept."""
    tables = [self._per_user(row.runs[seed]) for seed in seeds]
    if all(self.metric in table for table in tables):
      return np.stack([table[self.metric] for table in tables])
    of_seeds = dict(zip(row.seeds, row.numbers(self.metric)))
    return np.array([[of_seeds[seed]] for seed in seeds], np.float64)

  @functools.cached_property
  def _tables(self) -> dict[pathlib.Path, dict[str, np.ndarray]]:
    return {}

  def _per_user(self, run: Run) -> dict[str, np.ndarray]:
    if run.workdir not in self._tables:
      path = run.workdir / "per_user" / "test.npz"
      table = RunRecord(run.workdir).load_per_user("test") if (
        path.exists()
      ) else {}  # fmt: skip
      self._tables[run.workdir] = table
    return self._tables[run.workdir]


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
  sweep = folder.read_sweep()
  rows, missing = [], []
  for name, trials in by_combination(folder.read_trials()).items():
    runs = {}
    for trial in trials:
      run, lost = _load(folder, trial)
      if run is not None:
        runs[trial.seed] = run
      elif lost is not None:
        missing.append(lost)
    if runs:
      rows.append(Combined(name, dict(trials[0].levels), runs))
  if not rows:
    reasons = "".join(
      f"\n  {each.trial.combination}, seed {each.trial.seed}: {each.state}"
      f"{': ' if each.reason else ''}{each.reason}"
      for each in missing[:10]
    )
    raise errors.RunError(f"no trial of {path} has finished.{reasons}")
  _check_comparable(rows)
  found = SweepResults(
    folder.path,
    sweep,
    metric or sweep["metric"] or _select_metric(folder, rows),
    folder.read_select(),
    tuple(rows),
    tuple(missing),
  )
  for run in rows[0].runs.values():
    errors.check_choice("the metric of the sweep", found.metric,
      run.result["metrics"])  # fmt: skip
  return found


def _load(
  folder: SweepFolder, trial: Trial
) -> tuple[Run | None, Missing | None]:
  state = folder.state(trial.key, max_attempts=MAX_ATTEMPTS)
  if state == folders.FINISHED:
    runs, failures = load_runs([folder.workdir(trial.key)])
    if runs:
      return runs[0], None
    return None, Missing(trial, folders.FAILED, failures[0].reason)
  reason = "not finished: the same command goes on"
  if state == folders.STOPPED:
    reason = folder.stop_reason(trial.key)
  elif state == folders.FAILED:
    reason = folder.crashes(trial.key)[-1]["error"]
  return None, Missing(trial, state, reason)


def _select_metric(folder: SweepFolder, rows: list[Combined]) -> str:
  """What selects weights, where test results have it; else their first."""
  known = next(iter(rows[0].runs.values())).result["metrics"]
  select = folder.read_select()
  return select if select in known else next(iter(known))


def _check_comparable(rows: list[Combined]) -> None:
  """Runs of one seed share data and protocol; seeds may draw data anew."""
  for seed in sorted({seed for row in rows for seed in row.seeds}):
    groups = [Group((r.runs[seed],)) for r in rows if seed in r.runs]
    check_comparable(groups)
