"""A plan: how each array is cut, what it costs a device, and why."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from recjax.embeddings.costs import Cost
from recjax.embeddings.strategies import Partition
from recjax.errors import ConfigError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclasses.dataclass(frozen=True)
class ArrayPlan:
  """How an array is cut.

  Attributes:
    name: of the array.
    strategy: one of `strategies.STRATEGIES`.
    partition: what the strategy makes of it.
    lookups: of a device in a step.
    cost: of a device.
    reason: why this strategy.
  """

  name: str
  strategy: str
  partition: Partition
  lookups: int
  cost: Cost
  reason: str


@dataclasses.dataclass(frozen=True)
class Plan:
  """How all arrays of a collection are cut over a mesh.

  Attributes:
    arrays: one plan each.
    mesh_shape: devices along "data" and "model".
    batch_size: examples of a step, on all devices.
    other_bytes: of a device, that no table takes.
    memory_bytes: of a device; 0 is not known.
    remedies: what would make a plan fit that does not.
  """

  arrays: tuple[ArrayPlan, ...]
  mesh_shape: Mapping[str, int]
  batch_size: int
  other_bytes: int = 0
  memory_bytes: int = 0
  remedies: tuple[str, ...] = ()

  @property
  def strategies(self) -> dict[str, str]:
    """Array name -> strategy, as `ShardedCollection` takes them."""
    return {array.name: array.strategy for array in self.arrays}

  @property
  def capacities(self) -> dict[str, int]:
    """Array name -> capacity, as `ShardedCollection` takes them."""
    return {a.name: a.cost.capacity for a in self.arrays if a.cost.capacity}

  @property
  def num_devices(self) -> int:
    """Of the mesh."""
    return math.prod(self.mesh_shape.values())

  @property
  def device_bytes(self) -> int:
    """Memory that a device needs."""
    tables = sum(array.cost.memory_bytes for array in self.arrays)
    return self.other_bytes + tables

  @property
  def exchanged_bytes(self) -> int:
    """What a device receives in a step."""
    return sum(array.cost.exchanged_bytes for array in self.arrays)

  @property
  def shortfall_bytes(self) -> int:
    """Memory that a device lacks; 0 if the plan fits."""
    if not self.memory_bytes:
      return 0
    return max(0, self.device_bytes - self.memory_bytes)

  def check(self) -> None:
    """Raises ConfigError if the plan does not fit: by how much, what would."""
    if self.shortfall_bytes:
      raise ConfigError(self._verdict())

  def to_dict(self) -> dict[str, Any]:
    """For JSON."""
    return {
      "mesh_shape": dict(self.mesh_shape),
      "batch_size": self.batch_size,
      "device_bytes": self.device_bytes,
      "exchanged_bytes": self.exchanged_bytes,
      "memory_bytes": self.memory_bytes,
      "shortfall_bytes": self.shortfall_bytes,
      "remedies": list(self.remedies),
      "arrays": [
        {
          "name": array.name,
          "strategy": array.strategy,
          "rows": array.partition.num_rows,
          "dim": array.partition.dim,
          "reason": array.reason,
          **dataclasses.asdict(array.cost),
        }
        for array in self.arrays
      ],
    }

  def describe(self) -> str:
    """The plan as a table, with the reasons under it."""
    if not self.arrays:
      return f"There are no sparse tables to plan. {self._verdict()}"
    header = (
      "array",
      "strategy",
      "rows",
      "dim",
      "pieces",
      "bytes/device",
      "exchanged/step",
      "capacity",
      "imbalance",
    )
    rows = [header, *map(_row, self.arrays)]
    total = [""] * len(header)
    total[0] = "all"
    total[5] = bytes_text(self.device_bytes)
    total[6] = bytes_text(self.exchanged_bytes)
    rows.append(tuple(total))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
      "  ".join(
        cell.ljust(width) if index < 2 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
      ).rstrip()
      for row in rows
    ]
    mesh = " x ".join(f"{axis}={n}" for axis, n in self.mesh_shape.items())
    title = (
      f"{self.num_devices} devices ({mesh}), batch of"
      f" {self.batch_size:,} examples"
    )
    reasons = [f"{array.name}: {array.reason}" for array in self.arrays]
    return "\n".join([title, *lines, "", *reasons, "", self._verdict()])

  def _verdict(self) -> str:
    needed = bytes_text(self.device_bytes)
    parts = f" ({bytes_text(self.other_bytes)} of them no tables)"
    parts = parts if self.other_bytes else ""
    if not self.memory_bytes:
      return f"A device needs {needed}{parts}."
    memory = bytes_text(self.memory_bytes)
    if not self.shortfall_bytes:
      return f"A device needs {needed}{parts} of its {memory}: the plan fits."
    lines = [
      f"A device needs {needed}{parts} and has {memory}: the plan does not"
      f" fit by {bytes_text(self.shortfall_bytes)}.",
      *(f"- {remedy}" for remedy in self.remedies),
    ]
    return "\n".join(lines)


def _row(array: ArrayPlan) -> tuple[str, ...]:
  part, cost = array.partition, array.cost
  pieces = f"{part.row_shards} x {part.column_shards}"
  if part.num_replicas > 1:
    pieces += f" ({part.num_replicas} copies)"
  return (
    array.name,
    array.strategy,
    f"{part.num_rows:,}",
    f"{part.dim:,}",
    pieces,
    bytes_text(cost.memory_bytes),
    bytes_text(cost.exchanged_bytes),
    f"{cost.capacity:,}" if cost.capacity else "-",
    f"{cost.imbalance:.2f}",
  )


def bytes_text(count: int) -> str:
  """Bytes for people, such as "1.5 GiB"."""
  size, unit = float(count), 0
  while size >= 1023.95 and unit < len(_UNITS) - 1:
    size, unit = size / 1024, unit + 1
  return f"{count:,} B" if unit == 0 else f"{size:,.1f} {_UNITS[unit]}"
