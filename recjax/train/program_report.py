"""What a compiled step asks of a device: memory, work, and the interconnect.

The roofline time of a step is the largest of three, each at the full speed of
the chip (`recjax.train.topologies`):

  compute       FLOPs / peak
  memory        bytes accessed / memory bandwidth
  interconnect  bytes sent / bandwidth of all links

A collective over a group of g devices with a result of b bytes on each has a
device send b (g - 1) / g of them; an all-reduce twice that, a reduce-scatter g
times that. An all-to-all of all D devices also brings D b / 4 bytes across
the middle of the slice each way, which takes the longer time on a large one.
"""

import dataclasses
import math
import re
from collections import Counter
from typing import Any

from recjax.embeddings.collectives import collectives
from recjax.embeddings.plans import bytes_text
from recjax.train import hlo_text
from recjax.train.program_checks import SPARSE_TABLES, table_faults
from recjax.train.topologies import Topology, parse_topology

NOT_MODELLED = """\
The roofline takes each of the three at full speed and all at once, so it is a
bound from below. It leaves out: the start of each operation and collective,
waits of one for another, how far apart the members of a group of devices lie,
gathers and scatters of rows that are slower than a plain read, vector and
scalar units, input from the host, and all rounds but the first of loops whose
length is not in the program. FLOPs and bytes accessed are XLA's estimate; it
counts each loop body once, and reads of the on-chip memory as well."""
_NUM_VALUES = 5
_MIN_BYTES = 2**20
"""Smaller values are not worth a line."""


@dataclasses.dataclass(frozen=True)
class Memory:
  """Of a device, in bytes.

  Attributes:
    argument_bytes: tables, parameters, batch.
    output_bytes: results.
    alias_bytes: results that lie where donated arguments lay.
    temp_bytes: everything in between, at the moment at which it is most.
    code_bytes: the program.
    capacity_bytes: that a program may fill.
  """

  argument_bytes: int
  output_bytes: int
  alias_bytes: int
  temp_bytes: int
  code_bytes: int
  capacity_bytes: int

  @property
  def peak_bytes(self) -> int:
    """All of it at once."""
    # Not XLA's own peak: for a TPU that has on-chip buffers in it.
    results = self.output_bytes - self.alias_bytes
    return self.argument_bytes + results + self.temp_bytes + self.code_bytes

  @property
  def shortfall_bytes(self) -> int:
    """What the device lacks; negative is what is left."""
    return self.peak_bytes - self.capacity_bytes


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Collectives of one kind and shape.

  Attributes:
    kind: such as "all-to-all".
    shape: of the result on a device.
    bytes: of the result.
    group_size: devices that take part in one together.
    count: in the text of the program.
    times: that a step runs them, all together.
    is_exact: False if a loop of unknown length or a branch is around one; it
      is counted once then.
  """

  kind: str
  shape: str
  bytes: int
  group_size: int
  count: int
  times: int
  is_exact: bool

  @property
  def sent_bytes(self) -> int:
    """What a device sends in a step."""
    size = max(self.group_size, 1)
    share = (size - 1) / size
    factor = {
      "all-reduce": 2 * share,
      "reduce-scatter": size * share,
      "collective-permute": 1.0,
    }.get(self.kind, share)
    return math.ceil(factor * self.bytes * self.times)

  def secs(self, topology: Topology) -> float:
    """The least time it takes, in a step."""
    secs = self.sent_bytes / topology.link_bytes_per_sec
    if self.kind.endswith("all-to-all") and (
      self.group_size == topology.num_devices
    ):
      across = topology.num_devices * self.bytes * self.times / 4
      secs = max(secs, across / topology.bisection_bytes_per_sec)
    return secs


@dataclasses.dataclass(frozen=True)
class ProgramReport:
  """A compiled program, weighed for a slice.

  Attributes:
    topology: name of the slice.
    mesh_shape: devices along the axes of the mesh; empty if it is not known.
    memory: of a device.
    flops: of a device in a step.
    accessed_bytes: of a device in a step.
    traffic: collectives, those that send most first.
    parameters: the arguments of the program.
    values: the largest that are made and not written in place; with the memory
      that they have in common they need not fit beside each other.
    open_loops: loops whose length is not in the program.
    faults: what it does to whole tables, of `program_checks.table_faults`.
    compile_secs: 0 if it was not measured.
  """

  topology: str
  mesh_shape: dict[str, int]
  memory: Memory
  flops: float
  accessed_bytes: float
  traffic: tuple[Traffic, ...]
  parameters: tuple[hlo_text.Parameter, ...]
  values: tuple[hlo_text.Value, ...]
  open_loops: int
  faults: tuple[str, ...] = ()
  compile_secs: float = 0.0

  @property
  def fits(self) -> bool:
    """Whether a device has the memory."""
    return self.memory.shortfall_bytes <= 0

  def roofline_secs(self) -> dict[str, float]:
    """The least time of a step by "compute", "memory" and "interconnect"."""
    topology = parse_topology(self.topology)
    chip = topology.generation
    return {
      "compute": self.flops / chip.flops_per_sec,
      "memory": self.accessed_bytes / chip.memory_bytes_per_sec,
      "interconnect": sum(t.secs(topology) for t in self.traffic),
    }

  def to_dict(self) -> dict[str, Any]:
    """For JSON; `from_dict` reads it."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return fields | {
      "memory": dataclasses.asdict(self.memory),
      "traffic": [dataclasses.asdict(t) for t in self.traffic],
      "parameters": [p._asdict() for p in self.parameters],
      "values": [v._asdict() for v in self.values],
      "fits": self.fits,
      "peak_bytes": self.memory.peak_bytes,
      "roofline_secs": self.roofline_secs(),
    }

  @classmethod
  def from_dict(cls, values: dict[str, Any]) -> "ProgramReport":
    """Of what `to_dict` gave."""
    known = {
      field.name: values[field.name] for field in dataclasses.fields(cls)
    }
    return cls(
      **known
      | {
        "memory": Memory(**known["memory"]),
        "traffic": tuple(Traffic(**t) for t in known["traffic"]),
        "parameters": tuple(
          hlo_text.Parameter(**p) for p in known["parameters"]
        ),
        "values": tuple(hlo_text.Value(**v) for v in known["values"]),
        "faults": tuple(known["faults"]),
      }
    )

  def describe(self) -> str:
    """For people: memory, collectives, roofline, and what it leaves out."""
    devices = parse_topology(self.topology).num_devices
    mesh = " x ".join(f"{axis}={n}" for axis, n in self.mesh_shape.items())
    title = f"{self.topology}: {devices} devices"
    title += f" ({mesh})" if mesh else ""
    if self.compile_secs:
      title += f", compiled in {self.compile_secs:.1f} s"
    parts = [title, "", *_memory_lines(self), "", *_table_lines(self), ""]
    parts += [*_traffic_lines(self.traffic), "", *_roofline_lines(self)]
    return "\n".join([*parts, "", NOT_MODELLED])


def make_report(
  compiled: Any,
  topology: Topology,
  *,
  mesh_shape: dict[str, int] | None = None,
  compile_secs: float = 0.0,
) -> ProgramReport:
  """Weighs a compiled program.

  Args:
    compiled: `jax.jit(step).lower(...).compile()`.
    topology: the chips it is to run on.
    mesh_shape: `dict(mesh.shape)`, to be shown.
    compile_secs: to be shown.

  Returns:
    The report.
  """
  program = hlo_text.parse_program(compiled.as_text())
  stats, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
  return ProgramReport(
    topology=topology.name,
    mesh_shape=dict(mesh_shape or {}),
    memory=Memory(
      stats.argument_size_in_bytes,
      stats.output_size_in_bytes,
      stats.alias_size_in_bytes,
      stats.temp_size_in_bytes,
      stats.generated_code_size_in_bytes,
      topology.generation.memory_bytes,
    ),
    flops=float(cost.get("flops", 0.0)),
    accessed_bytes=float(cost.get("bytes accessed", 0.0)),
    traffic=_traffic(program, topology.num_devices),
    parameters=tuple(hlo_text.parameters(program)),
    values=tuple(hlo_text.values(program)[:_NUM_VALUES]),
    open_loops=_open_loops(program),
    faults=table_faults(compiled),
    compile_secs=compile_secs,
  )


def _traffic(program, num_devices: int) -> tuple[Traffic, ...]:
  """All collectives, joined where kind, shape and group are the same."""
  counts, times, lines = Counter(), Counter(), Counter()
  open_ones = set()
  for execution in hlo_text.executions(program):
    made = execution.instruction
    for found in collectives(made.line):
      group = hlo_text.group_size(made, num_devices)
      key = (found.kind, found.shape, found.bytes, group)
      lines[key, made.name] += 1
      counts[key] += lines[key, made.name] == 1
      times[key] += execution.times
      open_ones |= set() if execution.is_exact else {key}
  found = [
    Traffic(kind, shape, size, group, count, times[key], key not in open_ones)
    for key, count in counts.items()
    for kind, shape, size, group in (key,)
  ]
  return tuple(sorted(found, key=lambda t: (-t.sent_bytes, t.kind, t.shape)))


def _open_loops(program) -> int:
  names = {
    (name, made.name)
    for name, computation in program.computations.items()
    for made in computation.instructions.values()
    if made.opcode == "while"
    and hlo_text.loop_rounds(program, computation, made) is None
  }
  return len(names)


def _memory_lines(report: ProgramReport) -> list[str]:
  memory = report.memory
  over = memory.shortfall_bytes
  verdict = (
    f"it does not fit by {bytes_text(over)}"
    if over > 0
    else f"it fits, {bytes_text(-over)} are left"
  )
  padding = sum(p.padded_bytes - p.bytes for p in report.parameters)
  lines = [
    f"A device needs {bytes_text(memory.peak_bytes)} of its"
    f" {bytes_text(memory.capacity_bytes)}: {verdict}.",
    f"  arguments    {bytes_text(memory.argument_bytes)}, of them"
    f" {bytes_text(padding)} to fill up tiles",
    f"  results      {bytes_text(memory.output_bytes)}, of them"
    f" {bytes_text(memory.alias_bytes)} in place of donated arguments",
    f"  temporaries  {bytes_text(memory.temp_bytes)}",
    f"  program      {bytes_text(memory.code_bytes)}",
  ]
  values = [value for value in report.values if value.bytes >= _MIN_BYTES]
  if values:
    lines.append("Largest values that are not written in place:")
  for value in values:
    source = f"  {value.source}" if value.source else ""
    lines.append(
      f"  {bytes_text(value.bytes)}  {value.opcode} {value.shape}{source}"
    )
  return lines


def _table_lines(report: ProgramReport) -> list[str]:
  tables = [p for p in report.parameters if re.search(SPARSE_TABLES, p.name)]
  if not tables:
    return ["No sparse tables."]
  size = bytes_text(sum(table.padded_bytes for table in tables))
  line = f"Sparse tables and their slots: {len(tables)} arrays, {size}"
  if not report.faults:
    return [f"{line}; all donated, no large one copied or moved."]
  return [f"{line}. Whole tables are touched:", *report.faults]


def _traffic_lines(traffic: tuple[Traffic, ...]) -> list[str]:
  if not traffic:
    return ["No collectives."]
  rows = [("collective", "result on a device", "group", "times", "sent a step")]
  rows += [
    (
      t.kind,
      t.shape,
      str(t.group_size),
      f"{t.times}{'' if t.is_exact else '+'}",
      bytes_text(t.sent_bytes),
    )
    for t in traffic
  ]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    "  ".join(
      cell.ljust(width) if index < 2 else cell.rjust(width)
      for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in rows
  ]
  if not all(t.is_exact for t in traffic):
    lines.append(
      "+ in a loop of unknown length, or a branch: counted for one round."
    )
  return lines


def _roofline_lines(report: ProgramReport) -> list[str]:
  secs = report.roofline_secs()
  slowest = max(secs, key=lambda name: secs[name])
  sent = sum(t.sent_bytes for t in report.traffic)
  amounts = {
    "compute": f"{report.flops / 1e9:,.3f} GFLOP",
    "memory": f"{bytes_text(round(report.accessed_bytes))} accessed",
    "interconnect": f"{bytes_text(sent)} sent",
  }
  lines = [
    f"A step takes at least {1e3 * secs[slowest]:.4f} ms, bound by {slowest}:"
  ]
  lines += [
    f"  {name:<12}  {1e3 * secs[name]:10.4f} ms  {amounts[name]}"
    for name in secs
  ]
  if report.open_loops:
    lines.append(
      f"{report.open_loops} loops have a length that is not in the program;"
      " one round of each is counted."
    )
  return lines
