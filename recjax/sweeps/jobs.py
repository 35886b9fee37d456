"""A trial as a job: plain values that any launcher can carry anywhere."""

import contextlib
import dataclasses
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import jax

from recjax.errors import ConfigError, DataError, RunError
from recjax.named_run import read_run, train_command
from recjax.runs.record import RunRecord
from recjax.sweeps.folder import STOP, is_finished
from recjax.sweeps.locks import holding

_TOLD = (ConfigError, DataError, RunError)
"""Errors that a setting or a file explains."""
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

  def absolute(self) -> "Job":
    """The same job for a process that runs in another folder."""
    return dataclasses.replace(
      self,
      gin_files=tuple(
        _absolute(name) if pathlib.Path(name).is_file() else name
        for name in self.gin_files
      ),
      workdir=_absolute(self.workdir),
      log_path=_absolute(self.log_path),
      data_dir=_absolute(self.data_dir),
      cache_dir=self.cache_dir and _absolute(self.cache_dir),
      compilation_dir=self.compilation_dir and _absolute(self.compilation_dir),
    )


def _absolute(path: str) -> str:
  return str(pathlib.Path(path).absolute())


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a job ended.

  Attributes:
    key: of the trial.
    error: what went wrong; "" where nothing did.
    unexpected: no setting or file explains the error, so its process may be
      unfit for another trial: device memory, caches.
    lost: its process was taken away by a cluster, and did not fail by itself.
  """

  key: str
  error: str = ""
  unexpected: bool = False
  lost: bool = False


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
    workdir = pathlib.Path(job.workdir)
    tell = lambda holder: print(f"{holder} is at {workdir}: waiting.")
    with holding(workdir.parent / f".{workdir.name}.lock", tell):
      _run(job)
  except _Stopped:
    return Outcome(job.key)
  except Exception as error:
    traceback.print_exc()  # Into the log of the trial.
    text = f"{type(error).__name__}: {error}"
    unexpected = not isinstance(error, _TOLD)
    return Outcome(job.key, text[:_SHOWN_CHARACTERS], unexpected)
  return Outcome(job.key)


def _run(job: Job) -> None:
  run = read_run(job.gin_files, job.bindings)
  if run.config_hash != job.key:
    raise RunError(
      f"the config of the trial {job.key} has the hash {run.config_hash} here:"
      " the code or a gin file is not what the sweep was made with. Another"
      " workdir starts a sweep with what is here."
    )
  record = _StoppableRecord(job.workdir)
  run.take_up(record)
  if is_finished(record, job.key):
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


def job_of(values: dict[str, Any]) -> Job:
  """The job of `dataclasses.asdict`, as it comes back from JSON."""
  rest = dict(values)
  names, bindings = (tuple(rest.pop(k)) for k in ("gin_files", "bindings"))
  return Job(gin_files=names, bindings=bindings, **rest)


def run_logged(job: Job) -> Outcome:
  """`run_job`, printing into the log of the trial meanwhile.

  The streams of the whole process go there: what XLA prints belongs to the
  trial, too. Its programs are dropped afterwards, so that memory does not grow
  over trials; those on disk stay.
  """
  path = pathlib.Path(job.log_path)
  path.parent.mkdir(parents=True, exist_ok=True)
  command = train_command(job.gin_files, job.bindings, job.workdir)
  with _streams_into(path):
    os.write(1, f"$ {command}\n".encode())
    outcome = run_job(job)
  jax.clear_caches()
  return outcome


@contextlib.contextmanager
def _streams_into(path: pathlib.Path) -> Iterator[None]:
  """The standard output and error of the process, appended to a file."""
  log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
  sys.stdout.flush()
  before = {stream: os.dup(stream) for stream in (1, 2)}
  for stream in before:
    os.dup2(log, stream)
  os.close(log)
  try:
    yield
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    for stream, copy in before.items():
      os.dup2(copy, stream)
      os.close(copy)
