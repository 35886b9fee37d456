"""Jobs in processes of this machine, each on cores of its own."""

import dataclasses
import json
import os
import selectors
import subprocess
import sys
from typing import IO

from recjax import errors
from recjax.sweeps import worker
from recjax.sweeps.jobs import Job, Outcome

_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclasses.dataclass
class _Worker:
  """A process, the job it is at, and what it has answered so far."""

  process: subprocess.Popen[bytes]
  key: str | None = None
  answered: bytes = b""


class LocalLauncher:
  """Keeps `num_slots` processes, and starts one anew where it died.

  The cores of this process are dealt out among them, and so are the GPUs of
  CUDA_VISIBLE_DEVICES where it names as many as there are processes.

  Attributes:
    num_slots: processes.
  """

  def __init__(self, num_slots: int = 1):
    """Starts no process before there is a job.

    Raises:
      ConfigError: there are fewer cores than slots.
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
    if found is None:
      found = self._workers[place] = self._make_worker(place)
    found.key = job.key
    line = json.dumps(dataclasses.asdict(job)) + "\n"
    stdin: IO[bytes] = found.process.stdin  # pyright: ignore
    try:
      stdin.write(line.encode())
      stdin.flush()
    except BrokenPipeError:
      pass  # It died; `wait` will tell.

  def _make_worker(self, place: int) -> _Worker:
    env = dict(os.environ)
    devices = [name for name in env.get(_GPUS, "").split(",") if name]
    if len(devices) >= self.num_slots:
      env[_GPUS] = ",".join(devices[place :: self.num_slots])
    process = subprocess.Popen(
      [sys.executable, "-m", worker.__name__, *map(str, self._cores[place])],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      env=env,
    )
    made = _Worker(process)
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
    return outcomes

  def _bury(self, found: _Worker) -> list[Outcome]:
    """Forgets a process that ended by itself, with the job it was at."""
    assert found.process.stdout is not None and found.process.stdin is not None
    self._selector.unregister(found.process.stdout)
    status = found.process.wait()
    found.process.stdout.close()
    found.process.stdin.close()
    self._workers[self._workers.index(found)] = None
    if found.key is None:
      return []
    how = f"signal {-status}" if status < 0 else f"status {status}"
    why = " (out of memory?)" if status == -9 else ""
    return [Outcome(found.key, f"its process ended with {how}{why}.")]

  def close(self) -> None:
    """Ends all processes; trials under way go on from their checkpoints."""
    for found in self._workers:
      if found is not None:
        found.process.kill()
        self._bury(found)
    self._selector.close()
