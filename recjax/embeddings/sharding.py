"""The tables of a collection on a mesh of devices.

A `ShardedCollection` does for a step what an `EmbeddingCollection` does, with
each array cut over the mesh by its strategy (`recjax.embeddings.strategies`)
and collectives written out (`recjax.embeddings.exchange`). Batches, lookups,
rows, their gradients and embeddings are cut over all devices along their first
axis; a batch that arrives otherwise is cut before it is read.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from recjax.embeddings.collection import Arrays, EmbeddingCollection
from recjax.embeddings.column_optimizers import across_columns
from recjax.embeddings.draws import can_draw, draw_piece
from recjax.embeddings.exchange import RowExchange
from recjax.embeddings.rows import update_rows
from recjax.embeddings.strategies import (
  MESH_AXES,
  Partition,
  lookup_columns,
  make_partition,
)
from recjax.embeddings.table_exchange import TableExchange, TableRoute
from recjax.errors import ConfigError, check_choice

_ALL = PartitionSpec(MESH_AXES)

Exchange = RowExchange | TableExchange


@dataclasses.dataclass(frozen=True, eq=False)
class ShardedCollection:
  """A collection whose arrays are cut over a mesh.

  Its methods are those of `EmbeddingCollection`, and give the same numbers up
  to the order of sums; on a mesh of one device they are its methods. Routes are
  opaque: what `routes` gives is for `gather` and `update` alone.

  Attributes:
    collection: tables and features.
    strategies: array name -> one of `strategies.STRATEGIES`.
    mesh: with the axes "data" and "model".
    capacities: array name -> rows that go from a device to another in one
      round, as a plan measured them; arrays that are not named take
      `exchange.default_capacity`.
  """

  collection: EmbeddingCollection
  strategies: Mapping[str, str]
  mesh: Mesh
  capacities: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    arrays = self.collection.arrays
    for what in ("strategies", "capacities"):
      for name in getattr(self, what):
        check_choice(f"an array of ShardedCollection.{what}", name, arrays)
    missing = [name for name in arrays if name not in self.strategies]
    if missing:
      raise ConfigError(
        "ShardedCollection.strategies must name every array; there is none for"
        f" {', '.join(missing)}. recjax.embeddings.planner.plan chooses them."
      )
    _ = self.partitions, self._optimizers  # What is wrong is told at once.

  @functools.cached_property
  def partitions(self) -> dict[str, Partition]:
    """How each array is cut."""
    return {
      name: make_partition(layout, self.strategies[name], self.mesh.shape)
      for name, layout in self.collection.arrays.items()
    }

  @functools.cached_property
  def _exchanges(self) -> dict[str, Exchange]:
    return {
      name: TableExchange(part, self.collection.arrays[name])
      if part.by_table
      else RowExchange(part, self.capacities.get(name, 0))
      for name, part in self.partitions.items()
    }

  @functools.cached_property
  def _optimizers(self) -> dict[str, Any]:
    """Of the sparse arrays: (optimizer of a piece, its max norm)."""
    out = {}
    for name, part in self.partitions.items():
      spec = self.collection.arrays[name].spec
      if spec.optimizer is not None and part.columns:
        out[name] = (
          across_columns(spec.optimizer, spec.max_norm, part.columns),
          0.0,
        )
      elif spec.optimizer is not None:
        out[name] = spec.optimizer, spec.max_norm
    return out

  @property
  def arrays(self):
    """The arrays of the collection, by name."""
    return self.collection.arrays

  def is_sparse(self, array: str) -> bool:
    """Whether an array has a row-wise optimizer."""
    return self.collection.is_sparse(array)

  def shardings(
    self,
  ) -> tuple[dict[str, NamedSharding], dict[str, dict[str, NamedSharding]]]:
    """Where each array lies, and each slot of the sparse ones."""
    place = functools.partial(NamedSharding, self.mesh)
    slots = jax.eval_shape(self.collection.init_slots)
    return (
      {name: place(part.spec) for name, part in self.partitions.items()},
      {
        name: {
          slot: place(self.partitions[name].slot_spec(shape.ndim))
          for slot, shape in shapes.items()
        }
        for name, shapes in slots.items()
      },
    )

  def init(self, key: Key[Array, ""]) -> Arrays:
    """Draws all arrays where they lie, the same numbers on every mesh."""
    tables, _ = self.shardings()
    if self.mesh.size == 1 or not can_draw(key):
      return jax.jit(self.collection.init, out_shardings=tables)(key)
    specs = {name: part.spec for name, part in self.partitions.items()}
    return jax.jit(self._map(self._draw, (PartitionSpec(),), specs))(key)

  def init_slots(self) -> dict[str, Arrays]:
    """What the row-wise optimizers remember, where it lies."""
    _, slots = self.shardings()
    return jax.jit(self.collection.init_slots, out_shardings=slots)()

  def routes(self, batch: Mapping[str, Array]) -> dict[str, Any]:
    """The row of every lookup of each array, on the device that looks it up.

    Args:
      batch: ids of the features; the batch axis is a multiple of the devices.

    Returns:
      Array name -> rows, flat, or a `TableRoute` of them; leaves of several
      batches may be joined along their axis.

    Raises:
      ConfigError: as of `EmbeddingCollection.routes`, or the devices do not
        divide the batch.
    """
    if self.mesh.size == 1:
      return self.collection.routes(batch)
    columns = lookup_columns(self.collection, batch)
    inputs = self._inputs(batch)
    # Whole shapes are checked before pieces of them are seen.
    jax.eval_shape(self.collection.routes, inputs)

    rows = self._map(self.collection.routes, (_ALL,), _ALL)(inputs)
    return {
      name: TableRoute(rows[name], columns[name])
      if part.by_table
      else rows[name]
      for name, part in self.partitions.items()
    }

  def gather(
    self, tables: Mapping[str, Array], routes: Mapping[str, Any]
  ) -> dict[str, Float[Array, "_n _dim"]]:
    """The rows that the routes name, as float32.

    The derivative by a table, as a dense table needs it, exchanges the
    gradients of the lookups and adds them up where their rows lie.
    """
    if self.mesh.size == 1:
      return self.collection.gather(tables, routes)
    return {
      name: self._gather(name)(tables[name], route)
      for name, route in routes.items()
    }

  def embed(
    self,
    rows: Mapping[str, Float[Array, "_n _dim"]],
    batch: Mapping[str, Array],
  ) -> dict[str, Float[Array, "..."]]:
    """The embeddings of all lookups; no device needs another for them."""
    if self.mesh.size == 1:
      return self.collection.embed(rows, batch)
    local = self._map(self.collection.embed, (_ALL, _ALL), _ALL)
    out = local(dict(rows), self._inputs(batch))
    # In their order, which trees of arrays do not keep.
    names = [lookup.output for lookup in self.collection.lookups]
    return {name: out[name] for name in names}

  def update(
    self,
    tables: Mapping[str, Array],
    slots: Mapping[str, Arrays],
    routes: Mapping[str, Any],
    grads: Mapping[str, Float[Array, "_n _dim"]],
    step: Int[Array, ""],
    rows: Mapping[str, Float[Array, "_n _dim"]] | None = None,
  ) -> tuple[Arrays, dict[str, Arrays]]:
    """Trains the rows that were looked up, where they lie.

    Args:
      tables: by array.
      slots: of `init_slots`.
      routes: of `routes`.
      grads: of the loss by what `gather` gave.
      step: how many steps were taken before.
      rows: what `gather` gave; only one device makes use of it.

    Returns:
      Tables and slots after the step.
    """
    if self.mesh.size == 1:
      return self.collection.update(tables, slots, routes, grads, step, rows)
    new_tables, new_slots = dict(tables), dict(slots)
    for name in self._optimizers:
      if name in slots:
        new_tables[name], new_slots[name] = self._update(
          name, tables[name], slots[name], routes[name], grads[name], step
        )
    return new_tables, new_slots

  def _update(self, name, table, slots, route, grads, step):
    """Trains an array."""
    part, exchange = self.partitions[name], self._exchanges[name]
    optimizer, max_norm = self._optimizers[name]

    def local(table, slots, route, grads, step):
      def write(state, rows, sums):
        table, slots = state
        return update_rows(
          table,
          slots,
          rows,
          sums,
          step,
          optimizer=optimizer,
          max_norm=max_norm,
        )

      return exchange.deliver((table, slots), route, grads, write)

    slot_specs = {
      slot: part.slot_spec(array.ndim) for slot, array in slots.items()
    }
    return self._map(
      local,
      (part.spec, slot_specs, _ALL, _ALL, PartitionSpec()),
      (part.spec, slot_specs),
    )(table, slots, route, grads, step)

  def _draw(self, key):
    """What this device holds of all arrays."""
    names = [spec.name for spec in self.collection.tables]
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))

    def first(axes, size):
      return lax.axis_index(axes) * size if axes else jnp.int32(0)

    return {
      name: draw_piece(
        self.arrays[name],
        keys,
        first(part.rows, part.block),
        first(part.columns, part.width),
        num_rows=part.block,
        num_columns=part.width,
      )
      for name, part in self.partitions.items()
    }

  def _gather(self, name):
    """A function (table, route) -> rows, with a derivative by the table."""
    part, exchange = self.partitions[name], self._exchanges[name]
    dtype = self.collection.arrays[name].spec.dtype
    fetch = self._map(exchange.fetch, (part.spec, _ALL), _ALL)

    def add(total, rows, grads):
      return total.at[rows].add(grads, mode="drop")

    def local_gradient(route, grads):
      zeros = jnp.zeros((part.block, part.width), jnp.float32)
      return exchange.deliver(zeros, route, grads, add).astype(dtype)

    gradient = self._map(local_gradient, (_ALL, _ALL), part.spec)
    gather = jax.custom_vjp(fetch)
    gather.defvjp(
      lambda table, route: (fetch(table, route), route),
      lambda route, grads: (gradient(route, grads), None),
    )
    return gather

  def _inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    """What the lookups read of a batch."""
    lookups = self.collection.lookups
    names = {lookup.feature for lookup in lookups}
    names |= {lookup.weights for lookup in lookups if lookup.weights}
    for name in names & set(batch):
      if batch[name].shape[0] % self.mesh.size:
        raise ConfigError(
          f"the batch must be a multiple of the {self.mesh.size} devices of"
          f" the mesh; {name!r} has {batch[name].shape[0]} examples."
        )
    return {name: batch[name] for name in sorted(names & set(batch))}

  def _map(self, function, in_specs, out_specs) -> Callable[..., Any]:
    return jax.shard_map(
      function,
      mesh=self.mesh,
      in_specs=in_specs,
      out_specs=out_specs,
      check_vma=False,  # It can not see that replicas do the same.
    )
