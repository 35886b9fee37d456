"""Jobs in processes of this machine, each on cores of its own."""

import contextlib
import dataclasses
import json
import os
import pathlib
import selectors
import subprocess
import sys
from typing import IO

from recjax import errors, files
from recjax.sweeps import worker
from recjax.sweeps.jobs import Job, Outcome
from recjax.sweeps.launchers import gpus


@dataclasses.dataclass
class _Worker:
  """A process, the job it is at, and what it has answered so far."""

  process: subprocess.Popen[bytes]
  log: str
  key: str | None = None
  answered: bytes = b""


class LocalLauncher:
  """Keeps `num_slots` processes, and starts one anew where it died.

  The cores of this process are dealt out among them, and so are the GPUs. An
  error that nothing explains ends a process as well: what it holds on a device
  or in a cache may spoil the next trial.

  Attributes:
    num_slots: processes.
  """

  def __init__(
    self, num_slots: int = 1, logs_dir: files.PathLike | None = None
  ):
    """Starts no process before there is a job.

    Args:
      num_slots: processes.
      logs_dir: what process N prints beside its trials, such as the stack of a
        native crash, goes to worker-N.log there; None keeps none of it.

    Raises:
      ConfigError: there are fewer cores than slots, or fewer GPUs.
    """
    cores = sorted(os.sched_getaffinity(0))
    errors.check_range(
      "the number of trials at once, on the cores of this machine,",
      num_slots,
      1,
      len(cores),
      integer=True,
    )
    self.num_slots = num_slots
    self._cores = [cores[place::num_slots] for place in range(num_slots)]
    self._gpus = gpus.deal_out(gpus.visible_gpus(), num_slots)
    self._logs_dir = None if logs_dir is None else pathlib.Path(logs_dir)
    self._workers: list[_Worker | None] = [None] * num_slots
    self._selector = selectors.DefaultSelector()

  def start(self, job: Job) -> None:
    """Gives the job to a process that has none."""
    place = next(
      place
      for place, found in enumerate(self._workers)
      if found is None or found.key is None
    )
    found = self._workers[place]
    if found is None or not _send(found, job):  # It died while it had nothing.
      if found is not None:
        self._bury(found)
      found = self._workers[place] = self._make_worker(place)
      _send(found, job)  # Should it die at once, `wait` will tell.
    found.key = job.key

  def _make_worker(self, place: int) -> _Worker:
    env = dict(os.environ)
    if self._gpus[place]:
      env[gpus.CUDA] = ",".join(self._gpus[place])
    name = f"worker-{place}.log"
    with contextlib.ExitStack() as opened:
      stderr = subprocess.DEVNULL
      if self._logs_dir is not None:
        self._logs_dir.mkdir(parents=True, exist_ok=True)
        stderr = opened.enter_context(open(self._logs_dir / name, "ab"))
      process = subprocess.Popen(
        [sys.executable, "-m", worker.__name__, *map(str, self._cores[place])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=env,
      )
    log = "" if self._logs_dir is None else f"{self._logs_dir.name}/{name}"
    made = _Worker(process, log)
    assert process.stdout is not None
    self._selector.register(process.stdout, selectors.EVENT_READ, made)
    return made

  def wait(self, timeout_secs: float) -> list[Outcome]:
    """The outcomes of jobs that ended, and of processes that died."""
    outcomes = []
    for event, _ in self._selector.select(timeout_secs):
      found: _Worker = event.data
      content = os.read(event.fd, 65536)
      if not content:
        outcomes += self._bury(found)
        continue
      *lines, found.answered = (found.answered + content).split(b"\n")
      for line in lines:
        values = json.loads(line)
        if worker.READY not in values:
          found.key = None
          outcomes.append(Outcome(**values))
          if outcomes[-1].unexpected:
            self._end(found)
    return outcomes

  def _end(self, found: _Worker) -> list[Outcome]:
    found.process.kill()
    return self._bury(found)

  def _bury(self, found: _Worker) -> list[Outcome]:
    """Forgets a process that ended by itself, with the job it was at."""
    assert found.process.stdout is not None and found.process.stdin is not None
    self._selector.unregister(found.process.stdout)
    status = found.process.wait()
    found.process.stdout.close()
    with contextlib.suppress(BrokenPipeError):  # Of a job it never read.
      found.process.stdin.close()
    self._workers[self._workers.index(found)] = None
    if found.key is None:
      return []
    how = f"signal {-status}" if status < 0 else f"status {status}"
    why = " (out of memory?)" if status == -9 else ""
    text = f"its process ended with {how}{why}"
    text += f", see {found.log}" if found.log else ""
    return [Outcome(found.key, f"{text}.")]

  def close(self) -> None:
    """Ends all processes; trials under way go on from their checkpoints."""
    for found in self._workers:
      if found is not None:
        self._end(found)
    self._selector.close()


def _send(found: _Worker, job: Job) -> bool:
  """Whether the process could still be told."""
  line = json.dumps(dataclasses.asdict(job)) + "\n"
  stdin: IO[bytes] = found.process.stdin  # pyright: ignore
  try:
    stdin.write(line.encode())
    stdin.flush()
  except BrokenPipeError:
    return False
  return True
