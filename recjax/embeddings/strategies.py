"""How an array of tables is cut over a mesh, by name.

A strategy says over which mesh axes the rows of an array are cut and over
which its columns; over the axes left it is replicated. Batches are cut over all
devices, so that no device looks up what another does.

| name | rows over | columns over | replicas over |
| --- | --- | --- | --- |
| data_parallel | | | all |
| row_wise | all | | |
| row_wise_replicated | model | | data |
| column_wise | | model | data |
| table_wise | all, known by table | | |
| two_dimensional | data | model | |

Cuts are even and the array keeps its shape, so a checkpoint does not know the
mesh it was written on. The tables of a stack lie one after the other: under
`table_wise` a device owns those of its block, and a table that crosses the edge
of a block lies on both.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jax.sharding import PartitionSpec

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.layouts import ArrayLayout
from recjax.errors import ConfigError, check_choice

MESH_AXES = ("data", "model")


@dataclasses.dataclass(frozen=True)
class Strategy:
  """Mesh axes over which rows and columns are cut.

  Attributes:
    rows: axes.
    columns: axes.
    by_table: lookups are sent by the table they read, which is known before
      the batch is, and not by their row.
  """

  rows: tuple[str, ...] = ()
  columns: tuple[str, ...] = ()
  by_table: bool = False


STRATEGIES = {
  "data_parallel": Strategy(),
  "row_wise": Strategy(rows=MESH_AXES),
  "row_wise_replicated": Strategy(rows=("model",)),
  "column_wise": Strategy(columns=("model",)),
  "table_wise": Strategy(rows=MESH_AXES, by_table=True),
  "two_dimensional": Strategy(rows=("data",), columns=("model",)),
}


@dataclasses.dataclass(frozen=True)
class Partition:
  """An array cut over a mesh.

  Attributes:
    num_rows: of the array.
    dim: of the array.
    rows: axes that cut the rows.
    columns: axes that cut the columns.
    replicas: axes over which the pieces are repeated.
    row_shards: pieces along the rows.
    column_shards: pieces along the columns.
    num_replicas: of each piece.
    by_table: see `Strategy`.
  """

  num_rows: int
  dim: int
  rows: tuple[str, ...]
  columns: tuple[str, ...]
  replicas: tuple[str, ...]
  row_shards: int
  column_shards: int
  num_replicas: int
  by_table: bool

  @property
  def block(self) -> int:
    """Rows of a piece."""
    return self.num_rows // self.row_shards

  @property
  def width(self) -> int:
    """Columns of a piece."""
    return self.dim // self.column_shards

  @property
  def spec(self) -> PartitionSpec:
    """Of the array."""
    return PartitionSpec(self.rows or None, self.columns or None)

  def slot_spec(self, ndim: int) -> PartitionSpec:
    """Of a slot with so many axes; one with a number a row has one."""
    return self.spec if ndim > 1 else PartitionSpec(self.rows or None)


def make_partition(
  layout: ArrayLayout, strategy: str, mesh_shape: Mapping[str, int]
) -> Partition:
  """Cuts an array over a mesh.

  Args:
    layout: the array.
    strategy: one of STRATEGIES.
    mesh_shape: devices along "data" and "model".

  Returns:
    The partition; axes of one device cut nothing and are left out.

  Raises:
    ConfigError: no such strategy, a mesh of other axes, or rows or columns
      that the devices do not divide.
  """
  owner = f"the array {layout.name!r}"
  check_choice(f"the strategy of {owner}", strategy, STRATEGIES)
  if set(mesh_shape) != set(MESH_AXES):
    raise ConfigError(
      f"a mesh for tables must have the axes {', '.join(MESH_AXES)}; got"
      f" {', '.join(mesh_shape) or 'none'}. See recjax.train.mesh."
    )
  chosen = STRATEGIES[strategy]
  many = lambda axes: tuple(a for a in axes if mesh_shape[a] > 1)
  size = lambda axes: math.prod(mesh_shape[a] for a in axes)
  rows, columns = many(chosen.rows), many(chosen.columns)
  dim = layout.spec.dim
  for total, what, axes in (
    (layout.num_rows, "rows", rows),
    (dim, "columns", columns),
  ):
    if total % size(axes):
      raise ConfigError(
        f"the {total} {what} of {owner} must be a multiple of the"
        f" {size(axes)} devices along {' and '.join(axes)} for"
        f" {strategy!r}; choose another strategy, or another mesh."
      )
  replicas = tuple(a for a in many(MESH_AXES) if a not in rows + columns)
  return Partition(
    num_rows=layout.num_rows,
    dim=dim,
    rows=rows,
    columns=columns,
    replicas=replicas,
    row_shards=size(rows),
    column_shards=size(columns),
    num_replicas=size(replicas),
    by_table=chosen.by_table,
  )


def lookup_columns(
  collection: EmbeddingCollection, batch: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
  """Which table each lookup of an example reads, by array.

  Args:
    collection: tables and features.
    batch: ids, or anything with their `shape`.

  Returns:
    Array name -> place of the table in the array, for each lookup in the order
    of `EmbeddingCollection.routes`.
  """
  place = {
    spec.name: (name, index, spec)
    for name, layout in collection.arrays.items()
    for index, spec in enumerate(layout.tables)
  }
  out: dict[str, list[int]] = {name: [] for name in collection.arrays}
  for lookup in collection.lookups:
    check_choice(f"Lookup({lookup.output!r}).feature", lookup.feature, batch)
    array, index, spec = place[lookup.table]
    parts = 1 if spec.compression is None else spec.compression.num_parts
    width = math.prod(batch[lookup.feature].shape[1:]) * parts
    out[array] += [index] * width
  return {name: tuple(columns) for name, columns in out.items()}
