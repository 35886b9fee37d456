"""Plans how the arrays of tables are cut over a mesh, and says why.

Where a table leaves it to the planner (`sharding="auto"`), every strategy that
the mesh allows is priced by the formulas of `recjax.embeddings.costs`. A price
is

  exchanged bytes + latency_bytes x collectives + memory_price x memory

for a collective takes its time however little it moves, and memory is worth
something even where there is enough. Each array gets the strategy of the least
price. While all of them together do not fit on a device, that array goes to
another strategy for which this adds the least price a byte of memory saved.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from recjax.embeddings.choices import PlanConfig, choose, workloads
from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.compression import Hashing
from recjax.embeddings.plans import Plan, bytes_text
from recjax.embeddings.row_optimizers import RowWiseAdagrad
from recjax.embeddings.tables import LARGE_ROW_MULTIPLE, TableSpec
from recjax.errors import ConfigError, check_choice

_MAX_DOUBLINGS = 10


def plan(
  collection: EmbeddingCollection,
  *,
  batch: Mapping[str, Any],
  mesh_shape: Mapping[str, int],
  strategies: Mapping[str, str] | None = None,
  config: PlanConfig | None = None,
) -> Plan:
  """Chooses a strategy for every array of a collection.

  Strategies that are asked for are kept. No device is needed: the mesh may be
  one that is not there.

  Args:
    collection: tables and features.
    batch: ids of all devices' examples in one step, or anything with their
      shapes. On arrays capacities and imbalance are measured; on shapes an
      even spread of the rows is assumed.
    mesh_shape: devices along "data" and "model", as `Mesh.shape`.
    strategies: array name -> one of `strategies.STRATEGIES`, or "auto"; arrays
      that are not named follow `TableSpec.sharding`.
    config: memory and prices; None takes the defaults.

  Returns:
    The plan. It may not fit: see `Plan.check`.

  Raises:
    ConfigError: a strategy that is asked for is not possible on the mesh, or
      the devices do not divide the batch.
  """
  config = config or PlanConfig()
  strategies = dict(strategies or {})
  for name in strategies:
    check_choice("an array of plan(strategies=...)", name, collection.arrays)
  asked = {
    name: strategies.get(name, layout.spec.sharding)
    for name, layout in collection.arrays.items()
  }
  work = workloads(collection, batch, math.prod(mesh_shape.values()))
  batch_size = max((w.batch_size for w in work.values()), default=0)
  found = Plan(
    choose(collection, work, mesh_shape, asked, config),
    dict(mesh_shape),
    batch_size,
    config.other_bytes,
    config.memory_bytes,
  )
  if not found.shortfall_bytes:
    return found
  attempt = _Attempt(collection, batch, found, asked, config)
  return dataclasses.replace(found, remedies=tuple(_remedies(attempt)))


class _Attempt(NamedTuple):
  """A plan that does not fit, and what it was made of."""

  collection: EmbeddingCollection
  batch: Mapping[str, Any]
  found: Plan
  asked: Mapping[str, str]
  config: PlanConfig

  def again(
    self,
    specs: Sequence[TableSpec] | None = None,
    mesh_shape: Mapping[str, int] | None = None,
    asked: Mapping[str, str] | None = None,
  ) -> Plan:
    """The plan for other tables or another mesh; the rows spread evenly."""
    mesh_shape = mesh_shape or self.found.mesh_shape
    collection = self.collection
    if specs is not None:
      collection = dataclasses.replace(collection, tables=tuple(specs))
    work = {
      name: dataclasses.replace(of_array, rows=None)
      for name, of_array in workloads(
        collection, self.batch, self.found.num_devices
      ).items()
    }
    num_devices = math.prod(mesh_shape.values())
    work = {
      name: dataclasses.replace(of_array, num_devices=num_devices)
      for name, of_array in work.items()
    }
    asked = asked or self.asked
    arrays = choose(collection, work, mesh_shape, asked, self.config)
    return dataclasses.replace(self.found, arrays=arrays)


def _remedies(attempt: _Attempt) -> Iterator[str]:
  """What would make a plan fit, each tried by itself."""
  specs = attempt.collection.tables
  changed = lambda **fields: [dataclasses.replace(s, **fields) for s in specs]
  row_wise = dict.fromkeys(attempt.collection.arrays, "row_wise")
  tried: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dtype='bfloat16'", {"specs": changed(dtype="bfloat16")}),
    ("sharding='row_wise'", {"asked": row_wise}),
    (
      "optimizer=RowWiseAdagrad(), which remembers one number a row,",
      {"specs": changed(optimizer=RowWiseAdagrad())},
    ),
  )
  for text, changes in tried:
    try:
      new = attempt.again(**changes)
    except ConfigError:
      continue  # Rows that the devices do not divide.
    if new.device_bytes < 0.99 * attempt.found.device_bytes:
      yield f"{text} for all tables: {_outcome(new)}"
  yield from _more_devices(attempt)
  yield _compressed(attempt)


def _more_devices(attempt: _Attempt) -> Iterator[str]:
  """The smallest mesh, by doubling, on which the tables fit."""
  shape, last = dict(attempt.found.mesh_shape), None
  for _ in range(_MAX_DOUBLINGS):
    shape[min(shape, key=lambda axis: shape[axis])] *= 2
    try:
      new = attempt.again(mesh_shape=shape)
    except ConfigError:
      break
    last = dict(shape), new
    if not new.shortfall_bytes:
      break
  if last:
    shape, new = last
    mesh = " x ".join(f"{axis}={size}" for axis, size in shape.items())
    yield f"{math.prod(shape.values())} devices ({mesh}): {_outcome(new)}"


def _compressed(attempt: _Attempt) -> str:
  """The largest table with fewer rows."""
  found = attempt.found
  array = max(found.arrays, key=lambda a: a.cost.memory_bytes)
  layout = attempt.collection.arrays[array.name]
  table = max(layout.tables, key=lambda spec: spec.ids_rows)
  of_rows = array.cost.table_bytes + array.cost.slot_bytes
  excess = found.shortfall_bytes * layout.num_rows / of_rows
  left = table.ids_rows - math.ceil(excess) - 2 * LARGE_ROW_MULTIPLE
  if left < 1:
    return f"compression of {table.name!r} alone does not do it"
  new = attempt.again(
    [
      dataclasses.replace(spec, compression=Hashing(left))
      if spec == table
      else spec
      for spec in attempt.collection.tables
    ]
  )
  return (
    f"compression=Hashing({left}) for {table.name!r}, which has"
    f" {table.ids_rows:,} rows: {_outcome(new)}"
  )


def _outcome(plan: Plan) -> str:
  needed = f"{bytes_text(plan.device_bytes)} a device"
  if not plan.shortfall_bytes:
    return f"{needed}, which fits"
  return f"{needed}, still {bytes_text(plan.shortfall_bytes)} too much"
