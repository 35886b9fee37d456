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
from jaxtyping import Array, Float

from recjax.embeddings.exchange import Write, local_rows, move_bits
from recjax.embeddings.layouts import ArrayLayout
from recjax.embeddings.rows import PADDING_ROW, gather_rows
from recjax.embeddings.strategies import Partition


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TableRoute:
  """Lookups whose tables are known.

  Attributes:
    rows: of the lookups, example by example.
    columns: place of the table of each lookup of an example.
  """

  rows: Any  # The same class also holds shardings.
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

  def fetch(
    self, table: Float[Array, "block dim"], route: TableRoute
  ) -> Float[Array, "n dim"]:
    """Reads rows wherever they lie.

    Args:
      table: this device's piece of the array.
      route: the lookups of this device; rows outside the array are padding.

    Returns:
      The rows as float32; zero for padding.
    """
    part = self.partition
    sent, place = self._places(route.columns)
    batch, width = route.rows.shape[0] // len(route.columns), sent.shape[1]
    answer = gather_rows(table, self._asked(route))
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
    found = gather_rows(answer.reshape(-1, part.dim), index)
    return found.astype(jnp.float32)

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
      route: the lookups.
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
    return write(state, self._asked(route), grads.reshape(-1, part.dim))

  def _asked(self, route):
    """Rows of this device's piece that it is asked for by all devices."""
    part = self.partition
    sent, _ = self._places(route.columns)
    # [batch, devices, width]: what each device is asked by each example.
    rows = route.rows.reshape(-1, len(route.columns))[:, np.maximum(sent, 0)]
    device = np.arange(part.row_shards, dtype=np.int32)[None, :, None]
    mine = (sent >= 0)[None] & (rows // part.block == device)
    rows = jnp.where(mine, rows, PADDING_ROW)
    rows = lax.all_to_all(jnp.swapaxes(rows, 0, 1), part.rows, 0, 0)
    return local_rows(part, rows.reshape(-1))

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
