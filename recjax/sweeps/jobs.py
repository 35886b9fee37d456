"""A trial as a job: plain values that any launcher can carry anywhere."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import jax

from recjax.named_run import read_run, train_command
from recjax.runs.record import RunRecord
from recjax.sweeps.folder import STOP

_SHOWN_CHARACTERS = 2000
"""Of an error, so that a report can be read."""


@dataclasses.dataclass(frozen=True)
class Job:
  """What a process needs to carry out a trial.

  Attributes:
    key: of the trial.
    gin_files: of the run.
    bindings: of the run.
    workdir: of the run.
    log_path: where it prints to.
    data_dir: the folder of raw data sets.
    cache_dir: where prepared data lie; None is the default.
    compilation_dir: where compiled programs are shared; "" shares none.
  """

  key: str
  gin_files: tuple[str, ...]
  bindings: tuple[str, ...]
  workdir: str
  log_path: str
  data_dir: str
  cache_dir: str | None = None
  compilation_dir: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a job ended.

  Attributes:
    key: of the trial.
    error: what went wrong; "" where nothing did.
  """

  key: str
  error: str = ""


class _Stopped(Exception):
  """The sweep asked this trial to stop."""


class _StoppableRecord(RunRecord):
  """A record that looks, whenever a line is logged, for a wish to stop."""

  def log(self, step: int, **scalars: Any) -> None:
    super().log(step, **scalars)
    if (self.workdir / STOP).exists():
      raise _Stopped


def run_job(job: Job) -> Outcome:
  """Carries out a trial, or goes on with it; never raises.

  A trial that another process still works on is waited for: after a sweep was
  killed, its last worker may live a moment longer.
  """
  try:
    _share_compilations(job.compilation_dir)
    with _only_one(pathlib.Path(job.workdir)):
      _run(job)
  except _Stopped:
    return Outcome(job.key)
  except Exception as error:
    traceback.print_exc()  # Into the log of the trial.
    text = f"{type(error).__name__}: {error}"
    return Outcome(job.key, text[:_SHOWN_CHARACTERS])
  return Outcome(job.key)


def _run(job: Job) -> None:
  run = read_run(job.gin_files, job.bindings)
  record = _StoppableRecord(job.workdir)
  run.take_up(record)
  if record.is_finished():
    return
  try:
    run.train(
      record,
      job.data_dir,
      job.cache_dir,
      command=train_command(job.gin_files, job.bindings, job.workdir),
    )
  finally:
    record.close()


def _share_compilations(folder: str) -> None:
  """Programs of one shape are compiled once for all trials and processes."""
  if folder:
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextlib.contextmanager
def _only_one(workdir: pathlib.Path) -> Iterator[None]:
  path = workdir.parent / f".{workdir.name}.lock"
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def job_of(values: dict[str, Any]) -> Job:
  """The job of `dataclasses.asdict`, as it comes back from JSON."""
  rest = dict(values)
  names, bindings = (tuple(rest.pop(k)) for k in ("gin_files", "bindings"))
  return Job(gin_files=names, bindings=bindings, **rest)


def run_logged(job: Job) -> Outcome:
  """`run_job`, printing into the log of the trial from now on.

  The streams of the whole process go there: what XLA prints belongs to the
  trial, too.
  """
  path = pathlib.Path(job.log_path)
  path.parent.mkdir(parents=True, exist_ok=True)
  log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
  command = train_command(job.gin_files, job.bindings, job.workdir)
  os.write(log, f"$ {command}\n".encode())
  for stream in (1, 2):
    os.dup2(log, stream)
  os.close(log)
  outcome = run_job(job)
  sys.stdout.flush()
  sys.stderr.flush()
  return outcome
