"""What carries out jobs, whatever it is."""

from typing import Protocol, runtime_checkable

from recjax.sweeps.jobs import Job, Outcome


@runtime_checkable
class Launcher(Protocol):
  """Carries out jobs, several at a time."""

  num_slots: int

  def start(self, job: Job) -> None:
    """Starts a job; at most `num_slots` are under way."""
    ...

  def wait(self, timeout_secs: float) -> list[Outcome]:
    """Those that ended, waiting for one at most so long."""
    ...

  def close(self) -> None:
    """Ends everything that is under way."""
    ...
