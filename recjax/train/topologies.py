"""TPUs that are not there: what a chip can do, and devices to compile for.

`jax.experimental.topologies` and the compiler in the `libtpu` wheel describe
slices of a TPU pod, such as v5e:4x4, on a machine that has none. Programs are
compiled for them and can be weighed, but not run.

Chips (a v5p chip counts as one device), as published and as measured:

| | v5e | v6e | v5p |
| --- | --- | --- | --- |
| bfloat16 FLOP/s | 197e12 | 918e12 | 459e12 |
| memory, published | 16 GB | 32 GB | 95 GiB |
| memory left to a program | 15.75 GiB | 31.25 GiB | 95.74 GiB |
| memory, bytes/s | 819e9 | 1638e9 | 2765e9 |
| links, bytes/s each way | 4 x 50e9 | 4 x 100e9 | 6 x 100e9 |

Sources: https://docs.cloud.google.com/tpu/docs/v5e, .../v6e and .../v5p. They
give the interconnect in both directions, 400, 800 and 1200 GB/s a chip; a link
has half of its share each way. What is left to a program is the limit that
the compiler of libtpu 0.0.42 states when it refuses a larger one.
"""

import dataclasses
import importlib.util
import math
import re
from typing import Any

import numpy as np
from jax.experimental import mesh_utils, topologies
from jax.sharding import Mesh

from recjax.errors import ConfigError, check_choice, nearest

_GIB = 2**30
_NAME = re.compile(r"(?P<generation>\w+):(?P<shape>\d+(x\d+)*)")
_PLANES = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = (
  "2x2x1",
  "2x2x2",
  "2x2x4",
  "2x4x4",
  "4x4x4",
  "4x4x8",
  "4x8x8",
  "8x8x8",
  "8x8x16",
  "8x16x16",
  "16x16x16",
  "16x16x24",
)


@dataclasses.dataclass(frozen=True)
class Generation:
  """A kind of TPU.

  Attributes:
    name: such as "v5e".
    flops_per_sec: of bfloat16 products, which is also how XLA multiplies
      float32 by default.
    memory_bytes: that a program may fill on a chip.
    memory_bytes_per_sec: to and from it.
    num_links: of a chip to its neighbours.
    link_bytes_per_sec: of one, each way.
    ring_multiple: chips along an axis whose ends are joined: a multiple of it.
    shapes: of the slices that are offered, the smallest first.
  """

  name: str
  flops_per_sec: float
  memory_bytes: int
  memory_bytes_per_sec: float
  num_links: int
  link_bytes_per_sec: float
  ring_multiple: int
  shapes: tuple[str, ...]


GENERATIONS = {
  "v5e": Generation(
    "v5e", 197e12, int(15.75 * _GIB), 819e9, 4, 50e9, 16, _PLANES
  ),
  "v6e": Generation(
    "v6e", 918e12, int(31.25 * _GIB), 1638e9, 4, 100e9, 16, _PLANES
  ),
  "v5p": Generation(
    "v5p", 459e12, int(95.74 * _GIB), 2765e9, 6, 100e9, 4, _CUBES
  ),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice: chips of one generation in a grid.

  Attributes:
    generation: of the chips.
    shape: chips along each axis.
  """

  generation: Generation
  shape: tuple[int, ...]

  @property
  def name(self) -> str:
    """As `parse_topology` reads it."""
    return f"{self.generation.name}:{'x'.join(map(str, self.shape))}"

  @property
  def num_devices(self) -> int:
    """Chips; each is a device."""
    return math.prod(self.shape)

  @property
  def link_bytes_per_sec(self) -> float:
    """What a chip sends over all its links at once."""
    chip = self.generation
    return chip.num_links * chip.link_bytes_per_sec

  @property
  def bisection_bytes_per_sec(self) -> float:
    """What goes from one half of the slice to the other, one way.

    The cut goes through the longest axis; a ring is cut twice.
    """
    chip, longest = self.generation, max(self.shape)
    rings = all(
      size % chip.ring_multiple == 0
      for size in (self.shape if len(self.shape) > 2 else (longest,))
    )
    links = self.num_devices // longest * (2 if rings else 1)
    return links * chip.link_bytes_per_sec


def parse_topology(name: str) -> Topology:
  """Reads a name such as "v5e:4x4".

  Args:
    name: generation and chips along each axis.

  Returns:
    The topology.

  Raises:
    ConfigError: there is no such slice.
  """
  found = _NAME.fullmatch(name)
  if not found:
    raise ConfigError(
      "a topology must be a TPU generation and the chips along its axes, such"
      f" as 'v5e:4x4' or 'v5p:4x4x4'; got {name!r}.{_nearest(name)}"
    )
  check_choice(
    f"the TPU generation of {name!r}", found["generation"], GENERATIONS
  )
  generation = GENERATIONS[found["generation"]]
  shape = tuple(int(size) for size in found["shape"].split("x"))
  cubes = len(shape) == 3 and all(size and size % 4 == 0 for size in shape)
  is_offered = "x".join(map(str, shape)) in generation.shapes
  if not is_offered and not (generation.shapes == _CUBES and cubes):
    more = ", and any AxBxC of multiples of 4" * (generation.shapes == _CUBES)
    raise ConfigError(
      f"the slices of {generation.name} are {', '.join(generation.shapes)}"
      f"{more}; got {name!r}.{_nearest(name)}"
    )
  return Topology(generation, shape)


def _nearest(name: str) -> str:
  return nearest(
    name,
    [f"{g.name}:{shape}" for g in GENERATIONS.values() for shape in g.shapes],
  )


def has_compiler() -> bool:
  """Whether the TPU compiler is installed."""
  return importlib.util.find_spec("libtpu") is not None


def topology_devices(topology: Topology) -> list[Any]:
  """Devices that programs can be compiled for, in the order of their ids.

  The process should have been started with `recjax.train.ahead.ENVIRONMENT`:
  else libtpu asks the network what machine this is.

  Raises:
    ConfigError: libtpu is not installed, or does not know the topology.
  """
  if not has_compiler():
    raise ConfigError(
      f"compiling for {topology.name} needs the TPU compiler, the package"
      " libtpu, which is not installed: pip install 'recjax[tpu]'. No TPU is"
      " needed."
    )
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=topology.name
    )
  except Exception as error:  # Of many classes, as libtpu likes.
    raise ConfigError(
      f"libtpu does not know the topology {topology.name!r}: {error}"
    ) from error
  return list(found.devices)


def topology_mesh(topology: Topology, model: int = 1) -> Mesh:
  """A mesh with the axes "data" and "model" over all chips of a slice.

  The axes follow the links: neighbours on the mesh are neighbours on the slice
  wherever the sizes allow it.

  Args:
    topology: the slice.
    model: devices along "model"; the others lie along "data".

  Returns:
    The mesh.

  Raises:
    ConfigError: `model` does not divide the chips; or as `topology_devices`.
  """
  if model < 1 or topology.num_devices % model:
    raise ConfigError(
      f"the devices along 'model' must divide the {topology.num_devices} chips"
      f" of {topology.name}; got {model}."
    )
  shape = (topology.num_devices // model, model)
  devices = topology_devices(topology)
  try:
    grid = mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  except (NotImplementedError, ValueError, AssertionError):
    grid = np.array(devices).reshape(shape)
  return Mesh(grid, ("data", "model"))
