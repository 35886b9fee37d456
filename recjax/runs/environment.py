"""Where and with what a run was made: versions, commit, devices, command."""

import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax

import recjax

PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "gin-config",
  "numpy",
  "pyarrow",
  "scann",
  "faiss-cpu",
  "tensorflow-datasets",
  "libtpu",
  "jax-cuda12-plugin",
  "jax-cuda13-plugin",
)


def package_versions() -> dict[str, str]:
  """The versions of Python, recjax and the installed PACKAGES."""
  versions = {
    "recjax": recjax.__version__,
    "python": platform.python_version(),
  }
  for package in PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return versions


# Of a checkout, what a run is made of.
_MAKE_A_RUN = ("recjax", "gin")


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  command = ("git", "-C", str(folder), *arguments)
  try:
    result = subprocess.run(
      command, capture_output=True, text=True, check=True, timeout=30
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return result.stdout.strip()


def code_version(folder: pathlib.Path | None = None) -> dict[str, Any]:
  """The commit of a checkout, and whether its code or gin files differ.

  Results and docs may: a reproduction writes them while it goes on.

  Args:
    folder: of the checkout; recjax's own by default.

  Returns:
    {"commit": hex, "dirty": bool}, or both None outside a checkout.
  """
  folder = folder or pathlib.Path(recjax.__file__).parent.parent
  if not (folder / ".git").exists():
    return {"commit": None, "dirty": None}
  commit = _git(folder, "rev-parse", "HEAD")
  changes = _git(
    folder, "status", "--porcelain", "--untracked-files=no", "--", *_MAKE_A_RUN
  )
  dirty = None if changes is None else bool(changes)
  return {"commit": commit, "dirty": dirty}


def _processor() -> str:
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines()
  except OSError:
    return platform.processor() or platform.machine()
  for line in lines:
    key, _, value = line.partition(":")
    if key.strip() == "model name":
      return value.strip()
  return platform.machine()


def device_text() -> str:
  """The devices in words: "NVIDIA H100 80GB HBM3", "CPU, 8 cores (...)"."""
  devices = jax.devices()
  if devices[0].platform == "cpu":
    meshed = f"{len(devices)} devices on " if len(devices) > 1 else ""
    return f"{meshed}CPU, {os.cpu_count()} cores ({_processor()})"
  times = f"{len(devices)} x " if len(devices) > 1 else ""
  return f"{times}{devices[0].device_kind}"


def command_text(arguments: Sequence[str] | None = None) -> str:
  """The command line as one would type it.

  Args:
    arguments: as in sys.argv, which is the default.
  """
  program, *rest = sys.argv if arguments is None else arguments
  name = pathlib.Path(program).name
  if name == "__main__.py":
    name = f"python -m {pathlib.Path(program).parent.name}"
  elif name.endswith(".py"):
    name = f"python {program}"
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.origin == program:
      name = f"python -m {spec.name}"
  return " ".join((name, *map(shlex.quote, rest)))


def collect(
  *,
  data_fingerprint: str = "",
  protocol_hash: str = "",
  command: str | None = None,
) -> dict[str, Any]:
  """What goes into env.json.

  Args:
    data_fingerprint: of the Interactions.
    protocol_hash: of the evaluation protocol.
    command: the command line; this process's by default.
  """
  devices = jax.devices()
  return {
    "versions": package_versions(),
    **code_version(),
    "device": device_text(),
    "platform": devices[0].platform,
    "device_kind": devices[0].device_kind,
    "num_devices": len(devices),
    "num_processes": jax.process_count(),
    "operating_system": platform.platform(),
    "data_fingerprint": data_fingerprint,
    "protocol_hash": protocol_hash,
    "command": command_text() if command is None else command,
  }
