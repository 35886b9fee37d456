"""Lookups travel to the devices that hold the table they read.

Which table a lookup reads is known before the batch is, and so is how many
lookups go to each device: one all-to-all of a fixed size serves all, whatever
the ids. Its size is that of the device that is asked most, so it suits stacks
of tables of about one size and use. It runs on each device of a mesh, within
`jax.shard_map`, as `RowExchange` does.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from recjax.embeddings.collection import ArrayLayout
from recjax.embeddings.exchange import Write, local_rows, move_bits
from recjax.embeddings.rows import PADDING_ROW, gather_rows
from recjax.embeddings.strategies import Partition


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TableRoute:
  """Lookups of a device, and those that were sent to it.

  Attributes:
    rows: of the lookups of this device.
    asked: rows that this device is asked for, PADDING_ROW where none.
    columns: place of the table of each lookup of an example.
  """

  # Any: the same class also holds shardings.
  rows: Any
  asked: Any
  columns: tuple[int, ...] = dataclasses.field(metadata=dict(static=True))


def table_owners(layout: ArrayLayout, partition: Partition) -> list[range]:
  """The devices on which each table of an array lies; mostly one each."""
  block = partition.block
  return [
    range(start // block, (start + spec.ids_rows - 1) // block + 1)
    for spec, start in zip(layout.tables, layout.starts, strict=True)
  ]


def sent_columns(
  layout: ArrayLayout, partition: Partition, columns: tuple[int, ...]
) -> list[list[int]]:
  """For each device, which lookups of an example go to it.

  Args:
    layout: tables.
    partition: devices.
    columns: place of the table of each lookup of an example.
  """
  owners = table_owners(layout, partition)
  return [
    [c for c, table in enumerate(columns) if device in owners[table]]
    for device in range(partition.row_shards)
  ]


@dataclasses.dataclass(frozen=True)
class TableExchange:
  """Sends lookups by the table they read.

  Attributes:
    partition: of the array, cut along its rows alone.
    layout: where its tables lie.
  """

  partition: Partition
  layout: ArrayLayout

  def route(
    self, rows: Int[Array, " n"], columns: tuple[int, ...]
  ) -> TableRoute:
    """Tells the owners which rows are wanted.

    Args:
      rows: of the lookups of this device, example by example.
      columns: place of the table of each lookup of an example.

    Returns:
      The route.
    """
    part = self.partition
    sent, _ = self._places(columns)
    # [batch, devices, width]: what each device is asked by each example.
    wanted = rows.reshape(-1, len(columns))[:, np.maximum(sent, 0)]
    device = np.arange(part.row_shards, dtype=np.int32)[None, :, None]
    mine = (sent >= 0)[None] & (wanted // part.block == device)
    wanted = jnp.where(mine, wanted, PADDING_ROW)
    asked = lax.all_to_all(jnp.swapaxes(wanted, 0, 1), part.rows, 0, 0)
    return TableRoute(rows, asked.reshape(-1), columns)

  def fetch(
    self, table: Float[Array, "block dim"], route: TableRoute
  ) -> Float[Array, "n dim"]:
    """The rows of the lookups of this device, as float32; padding is zero."""
    part = self.partition
    sent, place = self._places(route.columns)
    batch, width = route.rows.shape[0] // len(route.columns), sent.shape[1]
    answer = gather_rows(table, local_rows(part, route.asked))
    answer = move_bits(
      lambda x: lax.all_to_all(x, part.rows, 0, 0),
      answer.reshape(part.row_shards, batch * width, part.dim),
    )
    rows = route.rows.reshape(batch, -1)
    inside = (rows >= 0) & (rows < part.num_rows)
    owner = jnp.where(inside, rows // part.block, 0)
    example = jnp.arange(batch, dtype=jnp.int32)[:, None]
    column = jnp.arange(rows.shape[1], dtype=jnp.int32)[None]
    index = (owner * batch + example) * width
    index += jnp.asarray(place)[owner, column]
    index = jnp.where(inside, index, PADDING_ROW).reshape(-1)
    rows = gather_rows(answer.reshape(-1, part.dim), index)
    return rows.astype(jnp.float32)

  def deliver(
    self,
    state: Any,
    route: TableRoute,
    grads: Float[Array, "n dim"],
    write: Write,
  ) -> Any:
    """Brings the gradients of this device's lookups to the owners.

    Args:
      state: what `write` changes, such as this device's piece of a table.
      route: of the lookups.
      grads: of what `fetch` gave.
      write: see `RowExchange.deliver`; called once.

    Returns:
      The state after it.
    """
    part = self.partition
    sent, _ = self._places(route.columns)
    grads = grads.reshape(-1, len(route.columns), part.dim)
    grads = jnp.swapaxes(grads[:, np.maximum(sent, 0)], 0, 1)
    grads = lax.all_to_all(grads, part.rows, 0, 0)
    return write(
      state, local_rows(part, route.asked), grads.reshape(-1, part.dim)
    )

  def _places(self, columns):
    """Lookups sent to each device, -1 where fewer, and where each stands."""
    lists = sent_columns(self.layout, self.partition, columns)
    width = max(map(len, lists))
    sent = np.full((len(lists), width), -1, np.int32)
    place = np.zeros((len(lists), len(columns)), np.int32)
    for device, row in enumerate(lists):
      sent[device, : len(row)] = row
      place[device, row] = np.arange(len(row))
    return sent, place
