"""The GPUs of this machine, dealt out among processes.

JAX is not asked which there are: it would take their memory for the process
that asks.
"""

import importlib.metadata
import os
import subprocess
from collections.abc import Mapping, Sequence

from recjax import errors

CUDA = "CUDA_VISIBLE_DEVICES"


def visible_gpus(env: Mapping[str, str] = os.environ) -> list[str]:
  """The GPUs that JAX would take here, as CUDA_VISIBLE_DEVICES names them.

  Args:
    env: the environment of the process.

  Returns:
    None of them where JAX has no CUDA, or is told by JAX_PLATFORMS to leave it
    alone.
  """
  platforms = set(env.get("JAX_PLATFORMS", "").split(",")) - {""}
  if platforms and not platforms & {"cuda", "gpu"}:
    return []
  plugins = importlib.metadata.entry_points(group="jax_plugins")
  if not any("cuda" in plugin.name for plugin in plugins):
    return []
  if CUDA not in env:
    return _listed()
  found = []
  for name in env[CUDA].split(","):
    if name.strip() in ("", "-1"):  # CUDA leaves out what follows.
      break
    found.append(name.strip())
  return found


def _listed() -> list[str]:
  """All GPUs, by their UUID: the order of their numbers is not one for all."""
  command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
  try:
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
  except (OSError, subprocess.TimeoutExpired):
    return []
  return found.stdout.split() if found.returncode == 0 else []


def deal_out(gpus: Sequence[str], num_processes: int) -> list[list[str]]:
  """Equal shares, one GPU or more for each process; empty without a GPU.

  Raises:
    ConfigError: there are fewer GPUs than processes.
  """
  if gpus and num_processes > len(gpus):
    raise errors.ConfigError(
      f"{num_processes} trials at once need a GPU each; there"
      f" {'is 1' if len(gpus) == 1 else f'are {len(gpus)}'}"
      f" ({', '.join(gpus)}): --num_workers={len(gpus)}, or JAX_PLATFORMS=cpu"
      " for trials without one."
    )
  share = len(gpus) // num_processes
  return [
    list(gpus[place * share : (place + 1) * share])
    for place in range(num_processes)
  ]
