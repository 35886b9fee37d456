"""Jobs of SLURM, through submitit; or of processes here, to try it out.

All machines must see the workdir of the sweep, the data and the code under the
same paths.
"""

import dataclasses
import importlib
import pathlib
import time
from typing import Any

from recjax import errors, files
from recjax.sweeps.jobs import Job, Outcome


class SlurmLauncher:
  """One job of SLURM a trial.

  Attributes:
    num_slots: jobs at once.
  """

  def __init__(
    self,
    folder: files.PathLike,
    num_slots: int = 1,
    *,
    cluster: str = "slurm",
    parameters: dict[str, Any] | None = None,
  ):
    """Submits nothing before there is a job.

    Args:
      folder: where submitit keeps its files; seen by all machines.
      num_slots: jobs at once.
      cluster: "slurm", or "local" for processes of this machine.
      parameters: of submitit, such as timeout_min, slurm_partition, mem_gb,
        cpus_per_task and gpus_per_node.

    Raises:
      ConfigError: submitit is not installed, there is no SLURM, or it knows
        no such parameter.
    """
    try:
      self._submitit = submitit = importlib.import_module("submitit")
    except ImportError as error:
      raise errors.ConfigError(
        "the launcher 'slurm' needs submitit: pip install 'recjax[slurm]'."
      ) from error
    errors.check_range("the number of trials at once", num_slots, 1)
    self.num_slots = num_slots
    try:
      self._executor = submitit.AutoExecutor(
        folder=pathlib.Path(folder), cluster=cluster
      )
      self._executor.update_parameters(
        **({"timeout_min": 24 * 60} | (parameters or {}))
      )
    except (RuntimeError, NameError, ValueError, TypeError) as error:
      raise errors.ConfigError(f"submitit: {error}") from error
    self._jobs: dict[str, Any] = {}

  def start(self, job: Job) -> None:
    """Submits the job."""
    self._jobs[job.key] = self._executor.submit(
      _run_logged, dataclasses.asdict(job.absolute())
    )

  def wait(self, timeout_secs: float) -> list[Outcome]:
    """The outcomes of jobs that ended."""
    done = [key for key, job in self._jobs.items() if job.done()]
    if not done:
      time.sleep(timeout_secs)
    return [self._outcome(key, self._jobs.pop(key)) for key in done]

  def _outcome(self, key: str, job: Any) -> Outcome:
    kinds = self._submitit.core.utils
    lost = kinds.UncompletedJobError
    try:
      outcome = Outcome(**job.result())
    except Exception as error:  # Whatever the job raised, or its loss.
      failed = isinstance(error, kinds.FailedJobError)
      text = str(error)
      if failed:  # What follows its stack are the paths of submitit's files.
        text = text.rpartition("\n---")[0] or text
      lines = text.strip().splitlines() or [type(error).__name__]
      # Else it was preempted, or its machine is gone.
      return Outcome(
        key,
        f"SLURM job {job.job_id}: {lines[-1]}",
        lost=isinstance(error, lost) and not failed,
      )
    # At the end of its time submitit raises this in the midst of the trial.
    if outcome.error.startswith(f"{lost.__name__}:"):
      return dataclasses.replace(outcome, lost=True)
    return outcome

  def close(self) -> None:
    """Cancels what is under way."""
    for job in self._jobs.values():
      job.cancel(check=False)


def _run_logged(values: dict[str, Any]) -> dict[str, Any]:
  """A job in a process of the cluster, printing into its log."""
  from recjax.sweeps import jobs  # Of that process.

  return dataclasses.asdict(jobs.run_logged(jobs.job_of(values)))
