"""Compiles a step for TPUs that are not there, in a process of its own.

The compiler of libtpu looks for a TPU, and for a network that knows of one,
unless variables of the environment say otherwise before JAX is loaded. So a
command that wants programs compiled runs itself once more as a child:

  if not ahead.is_child():
    reports = ahead.run_child(["-m", "recjax.cli", "plan", *arguments])
  else:
    ahead.compile_all(lower, ["v5e:4x4", "v6e:8x8"], model=4)

where `lower` takes a mesh of devices to the lowered step, with shapes in place
of arrays. What the child prints is passed on; reports come as lines of JSON.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from recjax.embeddings.plans import bytes_text
from recjax.errors import ConfigError, DataError, RunError
from recjax.train.program_report import ProgramReport, make_report
from recjax.train.topologies import (
  Topology,
  parse_topology,
  topology_mesh,
)

_CHILD = "RECJAX_COMPILES_AHEAD"
ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  "TPU_SKIP_MDS_QUERY": "1",
  # libtpu lets one process in at a time, for a TPU has one user. A process that
  # only compiles uses none.
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  _CHILD: "1",
}
"""What the child needs before it loads JAX."""

_MARK = "recjax-ahead:"
_ERRORS = {
  error.__name__: error for error in (ConfigError, DataError, RunError)
}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_LIMIT = re.compile(
  r"(?:\(|Used )(?P<needed>[\d.]+)(?P<unit>[KMGT]?)\)? "
  r"(?:exceeds available \w+ \(|of )(?P<limit>[\d.]+)(?P<limit_unit>[KMGT]?)"
)


@dataclasses.dataclass(frozen=True)
class TooLarge:
  """A step that the compiler refuses, for a device has not the memory.

  Attributes:
    topology: name of the slice.
    mesh_shape: devices along the axes of the mesh.
    needed_bytes: of a device, arguments included; 0 if the compiler does not
      tell.
    capacity_bytes: of a device.
    message: of the compiler.
  """

  topology: str
  mesh_shape: dict[str, int]
  needed_bytes: int
  capacity_bytes: int
  message: str

  @property
  def fits(self) -> bool:
    """No."""
    return False

  def to_dict(self) -> dict[str, Any]:
    """For JSON; `from_dict` reads it."""
    return dataclasses.asdict(self) | {"fits": False}

  @classmethod
  def from_dict(cls, values: dict[str, Any]) -> "TooLarge":
    """Of what `to_dict` gave."""
    return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls)})

  def describe(self) -> str:
    """For people."""
    mesh = " x ".join(f"{axis}={n}" for axis, n in self.mesh_shape.items())
    capacity = bytes_text(self.capacity_bytes)
    if not self.needed_bytes:
      verdict = f"A device has {capacity}, and the step does not fit."
    else:
      over = bytes_text(self.needed_bytes - self.capacity_bytes)
      verdict = (
        f"A device needs {bytes_text(self.needed_bytes)} of its {capacity}: it"
        f" does not fit by {over}."
      )
    return f"{self.topology} ({mesh})\n\n{verdict}\n{self.message}"


Outcome = ProgramReport | TooLarge


def is_child() -> bool:
  """Whether this process was started to compile for TPUs."""
  return os.environ.get(_CHILD) == "1"


def compile_for(
  lower: Callable[[Mesh], Any], topology: Topology, *, model: int = 1
) -> Outcome:
  """Compiles a step for a slice, and weighs it.

  Args:
    lower: takes a mesh to the lowered step, a `jax.stages.Lowered`.
    topology: the slice.
    model: devices along the axis "model".

  Returns:
    The report, or that a device has not the memory.
  """
  mesh = topology_mesh(topology, model)
  shape: dict[str, int] = dict(mesh.shape)
  lowered = lower(mesh)
  start = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return _too_large(topology, shape, str(error))
  secs = time.monotonic() - start
  return make_report(compiled, topology, mesh_shape=shape, compile_secs=secs)


def _too_large(topology: Topology, shape, message: str) -> TooLarge:
  found = _LIMIT.search(message)
  needed, capacity = 0, topology.generation.memory_bytes
  if found:
    needed = int(float(found["needed"]) * _UNITS[found["unit"]])
    capacity = int(float(found["limit"]) * _UNITS[found["limit_unit"]])
  return TooLarge(topology.name, shape, needed, capacity, message.strip())


def compile_all(
  lower: Callable[[Mesh], Any], names: Sequence[str], *, model: int = 1
) -> None:
  """In the child: compiles for each slice, and sends the outcomes on.

  An error that recjax raises is sent on as well, to be raised in the parent.

  Args:
    lower: as for `compile_for`.
    names: of topologies.
    model: devices along the axis "model".
  """
  try:
    for topology in [parse_topology(name) for name in names]:
      send_outcome(compile_for(lower, topology, model=model))
  except tuple(_ERRORS.values()) as error:
    send_error(error)


def send_outcome(outcome: Outcome) -> None:
  """In the child: hands an outcome to the parent."""
  _send("outcome", outcome)


def send_error(error: Exception) -> None:
  """In the child: has the parent raise an error of `recjax.errors`."""
  name = type(error).__name__
  _send("error", {"class": name, "message": str(error)})


def _send(kind: str, value: Any) -> None:
  if isinstance(value, Outcome):
    value = {"class": type(value).__name__} | value.to_dict()
  print(f"{_MARK}{kind} {json.dumps(value)}", flush=True)


def run_child(
  arguments: Sequence[str],
  *,
  log: Callable[[str], object] = print,
  on_outcome: Callable[[Outcome], object] | None = None,
) -> list[Outcome]:
  """In the parent: starts the child, and takes what it sends.

  Args:
    arguments: of the Python interpreter, such as ["-m", "recjax.cli", ...].
    log: takes the other lines that the child prints, as they come.
    on_outcome: takes each outcome as it comes.

  Returns:
    All outcomes.

  Raises:
    ConfigError, DataError: as the child sent them.
    RunError: the child failed otherwise, with the end of what it had to say.
  """
  outcomes: list[Outcome] = []
  command = [sys.executable, *arguments]
  with tempfile.TemporaryFile("w+") as errors:
    with subprocess.Popen(
      command,
      env=os.environ | ENVIRONMENT,
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
    ) as child:
      try:
        for line in child.stdout or ():
          if not line.startswith(_MARK):
            log(line.rstrip("\n"))
            continue
          outcomes.append(_receive(line.removeprefix(_MARK)))
          if on_outcome:
            on_outcome(outcomes[-1])
      except BaseException:
        child.terminate()
        raise
    if child.returncode:
      errors.seek(0)
      raise RunError(
        "the process that compiles ended with status"
        f" {child.returncode}:\n{''.join(errors.readlines()[-20:])}"
      )
  return outcomes


def _receive(line: str) -> Outcome:
  kind, _, text = line.partition(" ")
  values = json.loads(text)
  if kind == "error":
    raise _ERRORS[values["class"]](values["message"])
  if values["class"] == TooLarge.__name__:
    return TooLarge.from_dict(values)
  return ProgramReport.from_dict(values)
