"""Jobs as tasks of Ray, on this machine or on a cluster.

All machines must see the workdir of the sweep, the data and the code under the
same paths.
"""

import dataclasses
import importlib
import math
import os
from typing import Any

from recjax import errors
from recjax.sweeps.jobs import Job, Outcome


class RayLauncher:
  """One task of Ray a job.

  Attributes:
    num_slots: tasks at once.
  """

  def __init__(
    self,
    num_slots: int = 1,
    *,
    address: str = "",
    cores_per_trial: int | float = 1,
    gpus_per_trial: int | float = 0,
  ):
    """Joins a cluster, or starts one on this machine.

    Args:
      num_slots: tasks at once.
      address: of a cluster; "" is that of RAY_ADDRESS, or this machine alone.
      cores_per_trial: that Ray reserves for a task; up to 1 it may be a part.
      gpus_per_trial: likewise.

    Raises:
      ConfigError: Ray is not installed, the cluster is not there, or a number
        is none that Ray can reserve.
    """
    _check_share("cores_per_trial", cores_per_trial)
    _check_share("gpus_per_trial", gpus_per_trial)
    try:
      self._ray = ray = importlib.import_module("ray")
    except ImportError as error:
      raise errors.ConfigError(
        "the launcher 'ray' needs Ray: pip install 'recjax[ray]'."
      ) from error
    errors.check_range("the number of trials at once", num_slots, 1)
    self.num_slots = num_slots
    path = os.environ.get("PYTHONPATH", "")
    options: dict[str, Any] = {
      "include_dashboard": False,
      "log_to_driver": False,
      "runtime_env": {"env_vars": {"PYTHONPATH": path}},
    }
    address = address or os.environ.get("RAY_ADDRESS", "")
    if address:
      options["address"] = address
    else:
      options["num_cpus"] = math.ceil(num_slots * cores_per_trial)
    try:
      ray.init(**options)
    except (
      ConnectionError,
      RuntimeError,
      ValueError,
      ray.exceptions.RayError,
    ) as error:
      raise errors.ConfigError(f"no Ray at {address!r}: {error}") from error
    # A task is tried once by Ray: the sweep counts its crashes.
    self._run = ray.remote(
      num_cpus=cores_per_trial, num_gpus=gpus_per_trial, max_retries=0
    )(_run_logged)
    self._keys: dict[Any, str] = {}

  def start(self, job: Job) -> None:
    """Hands the job to Ray."""
    reference = self._run.remote(dataclasses.asdict(job.absolute()))
    self._keys[reference] = job.key

  def wait(self, timeout_secs: float) -> list[Outcome]:
    """The outcomes of tasks that ended."""
    if not self._keys:
      return []
    done, _ = self._ray.wait(list(self._keys), timeout=timeout_secs)
    outcomes = []
    for reference in done:
      key = self._keys.pop(reference)
      try:
        outcomes.append(Outcome(**self._ray.get(reference)))
      except self._ray.exceptions.RayError as error:
        text = str(error).splitlines() or [type(error).__name__]
        # Else a process or a machine is gone.
        lost = not isinstance(error, self._ray.exceptions.RayTaskError)
        outcomes.append(Outcome(key, f"Ray: {text[0]}", lost=lost))
    return outcomes

  def close(self) -> None:
    """Cancels what is under way and leaves the cluster."""
    for reference in self._keys:
      self._ray.cancel(reference, force=True)
    self._ray.shutdown()


def _check_share(name: str, value: int | float) -> None:
  errors.check_range(name, value, 0)
  # Ray deals out parts of one core or device, but only whole ones of several.
  errors.check_range(name, value, 0, integer=value > 1)


def _run_logged(values: dict[str, Any]) -> dict[str, Any]:
  """A job in a process of the cluster, printing into its log."""
  from recjax.sweeps import jobs  # Of that process.

  return dataclasses.asdict(jobs.run_logged(jobs.job_of(values)))
