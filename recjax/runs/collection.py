"""The runs of some workdirs: read, told apart, and grouped over seeds."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.stats

from recjax import errors, files
from recjax.runs import record

_MARKS = ("operative.gin", "config.gin", "result.json", "metrics.jsonl")


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run.

  Attributes:
    workdir: where it is.
    result: content of result.json.
    metrics: lines of metrics.jsonl.
    env: content of env.json.
    config_text: of operative.gin, or of config.gin without it.
  """

  workdir: pathlib.Path
  result: dict[str, Any]
  metrics: list[dict[str, Any]]
  env: dict[str, Any]
  config_text: str

  @property
  def group_key(self) -> tuple[str, str, str]:
    """Equal for runs that differ in the seed alone."""
    result = self.result
    config = result.get("config_hash_without_seed") or result["config_hash"]
    return result["protocol_hash"], result["data_fingerprint"], config


@dataclasses.dataclass(frozen=True)
class Failure:
  """A folder that has no finished run, and why."""

  workdir: pathlib.Path
  reason: str


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A metric over the seeds of a group.

  Attributes:
    mean: over seeds.
    std: over seeds, with n - 1 below; None for one seed.
    low: of the 95% interval: the bootstrap over users for one seed,
      Student's t over seeds for several.
    high: of the interval; both are None where it is not known.
    num_seeds: how many.
  """

  mean: float
  std: float | None
  low: float | None
  high: float | None
  num_seeds: int


def estimate_of(
  values: Sequence[float], interval: Sequence[float | None] | None
) -> Estimate:
  """The estimate of a metric.

  Args:
    values: one a seed.
    interval: of the value of a single seed, if it is known.
  """
  if len(values) == 1:
    low, high = interval or (None, None)
    low, high = (None if end is None else float(end) for end in (low, high))
    return Estimate(float(values[0]), None, low, high, 1)
  mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
  half = scipy.stats.t.ppf(0.975, len(values) - 1) * std
  half = float(half) / math.sqrt(len(values))
  return Estimate(mean, std, mean - half, mean + half, len(values))


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs of one config, data set and protocol, one a seed."""

  runs: tuple[Run, ...]

  @property
  def first(self) -> dict[str, Any]:
    """The result of one of the runs, for what they share."""
    return self.runs[0].result

  @property
  def seeds(self) -> tuple[int, ...]:
    """The seeds, sorted."""
    return tuple(run.result["seed"] for run in self.runs)

  @property
  def wall_secs(self) -> float | None:
    """The mean wall time of a run."""
    times = [run.result["wall_secs"] for run in self.runs]
    return None if None in times else float(np.mean(times))

  def mean(self, key: str, metric: str) -> float | None:
    """The mean of `result[key][metric]`, such as of "floor"."""
    values = [(r.result.get(key) or {}).get(metric) for r in self.runs]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None

  def estimate(self, metric: str) -> Estimate | None:
    """The test metric over the seeds, or None where a run lacks it."""
    values = [run.result["metrics"].get(metric) for run in self.runs]
    if any(value is None for value in values):
      return None
    return estimate_of(values, self.first["intervals"].get(metric))


def find_workdirs(
  folders: Iterable[files.PathLike],
) -> tuple[pathlib.Path, ...]:
  """The workdirs among `folders` and up to two levels inside of them.

  A folder without any stands for itself, to be listed as a failure.
  """
  found: list[pathlib.Path] = []
  for folder in map(pathlib.Path, folders):
    if any((folder / mark).exists() for mark in _MARKS):
      found.append(folder)
      continue
    inside = {
      path.parent
      for mark in _MARKS
      for pattern in (f"*/{mark}", f"*/*/{mark}")
      for path in folder.glob(pattern)
    }
    found += sorted(inside) or [folder]
  return tuple(dict.fromkeys(found))


def load_runs(
  folders: Iterable[files.PathLike],
) -> tuple[list[Run], list[Failure]]:
  """Reads all workdirs; what is unfinished or broken comes second.

  Args:
    folders: workdirs, or folders that hold some.

  Returns:
    The finished runs, and the other workdirs with the reason.
  """
  runs, failures = [], []
  for workdir in find_workdirs(folders):
    try:
      runs.append(_load(workdir))
    except (errors.RunError, OSError) as error:
      failures.append(Failure(workdir, str(error)))
  return runs, failures


def _load(workdir: pathlib.Path) -> Run:
  run = record.RunRecord(workdir)
  if not workdir.is_dir():
    raise errors.RunError(f"there is no folder {workdir}.")
  if not any((workdir / mark).exists() for mark in _MARKS):
    raise errors.RunError("no run was started here.")
  metrics = run.read_metrics()
  if not run.is_finished():
    step = metrics[-1]["step"] if metrics else 0
    raise errors.RunError(
      f"not finished: the last logged step is {step:,}. The same command on "
      "the same workdir resumes it."
    )
  config_text = run.read_text("operative.gin") or run.read_text("config.gin")
  return Run(workdir, run.read_result(), metrics, run.read_env(), config_text)


def _seed_order(seed: Any) -> tuple[bool, int, str]:
  """Numbers in their order, then all that is no number."""
  is_number = isinstance(seed, int)
  return (not is_number, seed if is_number else 0, str(seed))


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[Failure]]:
  """Puts the seeds of one config together.

  Args:
    runs: finished runs.

  Returns:
    The groups by data set and name, and the runs left out because another
    one of the same config and seed was finished later.
  """
  groups: dict[tuple[str, str, str], dict[Any, Run]] = {}
  left_out = []
  for run in sorted(runs, key=lambda run: run.result.get("finished_at", "")):
    seeds = groups.setdefault(run.group_key, {})
    seed = run.result["seed"]
    if seed in seeds:
      left_out.append(
        Failure(
          seeds[seed].workdir,
          f"left out: {run.workdir} is the same config and seed, and later.",
        )
      )
    seeds[seed] = run
  ordered = [
    Group(tuple(seeds[seed] for seed in sorted(seeds, key=_seed_order)))
    for seeds in groups.values()
  ]
  ordered.sort(key=lambda group: (group.first["dataset"], group.first["name"]))
  return ordered, left_out
