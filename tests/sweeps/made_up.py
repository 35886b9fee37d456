"""Sweeps with made-up numbers, and a launcher that follows a script."""

import dataclasses
import pathlib

import numpy as np

from recjax.runs.record import RunRecord
from recjax.sweeps.folder import STOP, SweepFolder
from recjax.sweeps.jobs import Job, Outcome
from recjax.sweeps.shapes import combinations
from recjax.sweeps.spec import Sweep, make_sweep
from recjax.sweeps.trials import Trial

NUM_USERS = 40


def finish(
  workdir: pathlib.Path,
  seed: int,
  values: np.ndarray,
  *,
  curve: list[float] | None = None,
  users: bool = True,
  **changes,
) -> None:
  """A finished run whose users have the given NDCG@10."""
  record = RunRecord(workdir)
  record.create_or_resume("", "", "0" * 12)
  mean = float(np.mean(values))
  curve = [0.5 * mean, 0.9 * mean, mean] if curve is None else curve
  for place, value in enumerate(curve, 1):
    record.log(10 * place, **{"validation/ndcg@10": value})
  record.close()
  if users:
    ids = np.arange(1, len(values) + 1)
    record.save_per_user("test", user_id=ids, **{"ndcg@10": values})
  record.write_result(
    {
      "name": "run",
      "dataset": "made up",
      "model": "M",
      "seed": seed,
      "metrics": {"hit_rate@10": 2 * mean, "ndcg@10": mean},
      "intervals": {"ndcg@10": [mean - 0.01, mean + 0.01]},
      "validation": {"ndcg@10": max(curve)},
      "best_step": 30,
      "protocol": {"split": "rows"},
      "protocol_hash": "a" * 12,
      "protocol_text": "all items",
      "config_hash": workdir.name,
      "data_fingerprint": "f" * 64,
      "wall_secs": 60.0 * (1 + seed),
      "device": "CPU, 2 cores (AMD EPYC)",
      "versions": {},
    }
    | changes
  )


def trials_of(sweep: Sweep) -> list[Trial]:
  """The trials of a sweep whose gin files are never read."""
  return [
    Trial(
      f"{combination.name.replace(' ', '').replace(',', '')}-{seed}",
      combination.name,
      dict(combination.levels),
      seed,
      sweep.gin_files,
      (),
    )
    for seed in sweep.seeds
    for combination in combinations(sweep)
  ]


def sweep_of(shape: str = "grid", num_seeds: int = 3, **changes) -> Sweep:
  """Two factors, depth 1 and 2, size s and l."""
  factors = [
    {"name": "depth", "levels": {"1": ["A.b = 1"], "2": ["A.b = 2"]}},
    {"name": "size", "levels": {"s": ["C.d = 1"], "l": ["C.d = 2"]}},
  ]
  content = {
    "title": "Depth and size",
    "gin_files": ["runs/sasrec_planted.gin"],
    "factor": factors,
    "shape": shape,
    "seeds": list(range(num_seeds)),
  }
  return make_sweep(content | changes, "here.toml")


def value_of(trial: Trial) -> np.ndarray:
  """Depth 2 adds .05, size l adds .1 with depth 2 alone."""
  random = np.random.default_rng(trial.seed)
  users = 0.3 + 0.05 * random.normal(size=NUM_USERS)
  extra = np.random.default_rng([trial.seed, *map(ord, trial.combination)])
  users += 0.01 * extra.normal(size=NUM_USERS)
  deep, large = (
    trial.levels.get(k) == v for k, v in (("depth", "2"), ("size", "l"))
  )
  return users + 0.05 * deep + 0.1 * (deep and large)


@dataclasses.dataclass
class ScriptedLauncher:
  """Carries out each job by a function, in the order of their starting."""

  act: object
  num_slots: int = 2
  started: list[str] = dataclasses.field(default_factory=list)
  running: list[Job] = dataclasses.field(default_factory=list)
  most: int = 0

  def start(self, job: Job) -> None:
    self.started.append(job.key)
    self.running.append(job)
    self.most = max(self.most, len(self.running))

  def wait(self, timeout_secs: float) -> list[Outcome]:
    del timeout_secs
    for job in list(self.running):
      outcome = self.act(job)  # None: it goes on.
      if outcome is not None:
        self.running.remove(job)
        return [outcome]
    return []

  def close(self) -> None:
    self.running.clear()


def job_of_trial(folder: SweepFolder):
  """Makes the jobs of a scheduler."""
  return lambda trial: Job(
    trial.key, (), (), str(folder.workdir(trial.key)), "", ""
  )


def log_value(job: Job, step: int, value: float) -> bool:
  """Logs a validation value; whether the trial was asked to stop."""
  record = RunRecord(job.workdir)
  record.create_or_resume("", "", "0" * 12)
  record.log(step, **{"validation/ndcg@10": value})
  record.close()
  return (pathlib.Path(job.workdir) / STOP).exists()
