"""Features, the tables they read, and the arrays these tables lie in.

A step does with a sparse table

    routes = collection.routes(batch)            # which rows, per array
    rows = collection.gather(tables, routes)     # not differentiated
    embeddings = collection.embed(rows, batch)   # differentiated by `rows`
    tables, slots = collection.update(
      tables, slots, routes, grads, step, rows
    )

and its cost follows the batch, not the vocabulary. Dense tables are left to
optax: `collection.lookup(tables, batch)` goes the whole way up to the
embeddings and is differentiated by the tables.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from recjax.embeddings.bags import Bag, read_table
from recjax.embeddings.combiners import combine, scale_of
from recjax.embeddings.layouts import ArrayLayout, make_layout
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.rows import PADDING_ROW, gather_rows, update_rows
from recjax.embeddings.tables import TableSpec, init_table
from recjax.errors import ConfigError, DataError, check_choice

Arrays = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class EmbeddingCollection:
  """Tables and the features that read them.

  Attributes:
    tables: no two of one name.
    lookups: no two of one output name.
  """

  tables: tuple[TableSpec, ...]
  lookups: tuple[Lookup, ...]

  def __post_init__(self):
    names = [spec.name for spec in self.tables]
    outputs = [lookup.output for lookup in self.lookups]
    for what, given in (("tables", names), ("lookups", outputs)):
      twice = {name for name in given if given.count(name) > 1}
      if twice:
        raise ConfigError(
          f"EmbeddingCollection.{what} must have different names; got"
          f" {', '.join(sorted(twice))} more than once."
        )
    for lookup in self.lookups:
      check_choice(f"Lookup({lookup.feature!r}).table", lookup.table, names)
    unread = set(names) - {lookup.table for lookup in self.lookups}
    if unread:
      raise ConfigError(
        f"no feature reads the tables {', '.join(sorted(unread))}; leave them"
        " out of EmbeddingCollection.tables, or add a Lookup."
      )
    _ = self.arrays  # Made now, so that a bad stack is told at once.

  @functools.cached_property
  def arrays(self) -> dict[str, ArrayLayout]:
    """The arrays, by name."""
    stacks: dict[str, list[TableSpec]] = {}
    for spec in self.tables:
      stacks.setdefault(spec.stack or spec.name, []).append(spec)
      if spec.stack in self._spec:
        raise ConfigError(
          f"TableSpec({spec.name!r}).stack must not be the name of a table;"
          f" got {spec.stack!r}."
        )
    return {name: make_layout(name, specs) for name, specs in stacks.items()}

  @functools.cached_property
  def _place(self) -> dict[str, tuple[str, int]]:
    """Table -> its array and first row."""
    return {
      spec.name: (layout.name, start)
      for layout in self.arrays.values()
      for spec, start in zip(layout.tables, layout.starts, strict=True)
    }

  @functools.cached_property
  def _spec(self) -> dict[str, TableSpec]:
    return {spec.name: spec for spec in self.tables}

  def is_sparse(self, array: str) -> bool:
    """Whether an array has a row-wise optimizer."""
    return self.arrays[array].spec.optimizer is not None

  def init(self, key: Key[Array, ""]) -> Arrays:
    """Draws all arrays, [num_rows, dim] each."""
    keys = dict(zip(self._spec, jax.random.split(key, len(self.tables))))
    out = {}
    for name, layout in self.arrays.items():
      # A table starts where the rows that the ids of the one before reach end.
      parts = [
        init_table(spec, keys[spec.name])[: spec.ids_rows]
        for spec in layout.tables
      ]
      rows = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
      out[name] = jnp.pad(rows, ((0, layout.num_rows - rows.shape[0]), (0, 0)))
    return out

  def init_slots(self) -> dict[str, Arrays]:
    """What the row-wise optimizers remember, by array and slot."""
    return {
      name: layout.spec.optimizer.slots(layout.num_rows, layout.spec.dim)
      for name, layout in self.arrays.items()
      if layout.spec.optimizer is not None
    }

  def routes(self, batch: Mapping[str, Array]) -> dict[str, Int[Array, " _n"]]:
    """The row of every lookup of each array; PADDING_ROW for padding.

    Padding is id 0, and an id outside the table: `check_ids` finds these.

    Args:
      batch: ids of the features.

    Returns:
      Array name -> rows, flat, in the order in which `embed` reads them.

    Raises:
      ConfigError: a feature is not in the batch, or is no list and has a
        combiner.
    """
    return self._routes(self.lookups, batch)

  def _routes(self, lookups, batch) -> dict[str, Array]:
    """Of these lookups alone, and of the arrays that they read."""
    flat: dict[str, list[Array]] = {name: [] for name in self._read_by(lookups)}
    for lookup in lookups:
      ids = lookup.ids_in(batch)
      array, start = self._place[lookup.table]
      compression = self._spec[lookup.table].compression
      where = self._where(lookup, ids)
      if compression is None:
        rows = ids
      else:
        rows, where = compression.rows(ids), where[..., None]
      rows = jnp.where(where, rows + start, PADDING_ROW)
      flat[array].append(rows.reshape(ids.shape[0], -1))
    # A row of the batch after the other: neighbours in memory stay so.
    return {
      name: jnp.concatenate(parts, axis=1).reshape(-1)
      for name, parts in flat.items()
    }

  def gather(
    self, tables: Mapping[str, Array], routes: Mapping[str, Array]
  ) -> dict[str, Float[Array, "_n _dim"]]:
    """The rows that the routes name, as float32."""
    return {
      name: gather_rows(tables[name], rows).astype(jnp.float32)
      for name, rows in routes.items()
    }

  def embed(
    self,
    rows: Mapping[str, Float[Array, "_n _dim"]],
    batch: Mapping[str, Array],
  ) -> dict[str, Float[Array, "..."]]:
    """The embeddings of all lookups, out of the rows of `gather`.

    Args:
      rows: of `gather`; differentiable.
      batch: as for `routes`.

    Returns:
      Output name -> [batch, dim], or [batch, len, dim] without a combiner.
    """
    return self._embed(self.lookups, rows, batch)

  def lookup(
    self, tables: Mapping[str, Array], batch: Mapping[str, Array]
  ) -> dict[str, Float[Array, "..."]]:
    """The embeddings of all lookups, out of the tables.

    The same as `embed` of `gather`, but lists with a combiner are summed
    without a row for each of their places, see `recjax.embeddings.bags`.

    Args:
      tables: by array; differentiable.
      batch: as for `routes`.

    Returns:
      Output name -> [batch, dim], or [batch, len, dim] without a combiner.
    """
    others = tuple(
      lookup for lookup in self.lookups if not self._is_bag(lookup)
    )
    routes = self._routes(others, batch)
    rows, out = {}, {}
    for name in self.arrays:
      bags = [
        lookup
        for lookup in self.lookups
        if self._is_bag(lookup) and self._place[lookup.table][0] == name
      ]
      none = jnp.zeros((0,), jnp.int32)
      rows[name], sums = read_table(
        tables[name],
        routes.get(name, none),
        tuple(self._bag(lookup, batch) for lookup in bags),
      )
      for lookup, total in zip(bags, sums, strict=True):
        ids = lookup.ids_in(batch)
        scale = scale_of(self._own_weights(lookup, batch), lookup.combiner)
        out[lookup.output] = (
          total.reshape(*ids.shape[:-1], -1) * scale[..., None]
        )
    return out | self._embed(others, rows, batch)

  def _is_bag(self, lookup: Lookup) -> bool:
    """Whether its rows are summed as they lie in the table."""
    compression = self._spec[lookup.table].compression
    return lookup.combiner != "none" and compression is None

  def _bag(self, lookup: Lookup, batch) -> Bag:
    """Rows and weights of the places of each list."""
    ids, weights = lookup.ids_in(batch), self._own_weights(lookup, batch)
    where = self._where(lookup, ids)
    rows = jnp.where(where, ids + self._place[lookup.table][1], PADDING_ROW)
    return rows.reshape(-1, ids.shape[-1]), weights.reshape(-1, ids.shape[-1])

  def _own_weights(self, lookup: Lookup, batch) -> Array:
    """The weights of the places of lists; 0 at padding."""
    ids, weights = lookup.ids_in(batch), lookup.weights_in(batch)
    weights = jnp.ones(ids.shape) if weights is None else weights
    return jnp.where(self._where(lookup, ids), weights, 0.0)

  def _embed(self, lookups, rows, batch) -> dict[str, Array]:
    """Of these lookups alone."""
    pieces = self._split(lookups, rows, batch)
    out = {}
    for lookup in lookups:
      ids = lookup.ids_in(batch)
      spec = self._spec[lookup.table]
      piece = next(pieces[self._place[lookup.table][0]])
      if spec.compression is None:
        piece = piece.reshape(*ids.shape, spec.dim)
      else:
        piece = spec.compression.compose(
          piece.reshape(*ids.shape, -1, spec.dim)
        )
      if lookup.combiner != "none":
        piece = combine(
          piece,
          self._where(lookup, ids),
          lookup.weights_in(batch),
          combiner=lookup.combiner,
        )
      out[lookup.output] = piece
    return out

  def update(
    self,
    tables: Mapping[str, Array],
    slots: Mapping[str, Arrays],
    routes: Mapping[str, Int[Array, " _n"]],
    grads: Mapping[str, Float[Array, "_n _dim"]],
    step: Int[Array, ""],
    rows: Mapping[str, Float[Array, "_n _dim"]] | None = None,
  ) -> tuple[Arrays, dict[str, Arrays]]:
    """Trains the rows that were looked up, of the sparse arrays among these.

    Args:
      tables: by array.
      slots: of `init_slots`.
      routes: of `routes`.
      grads: of the loss by what `gather` gave.
      step: how many steps were taken before.
      rows: what `gather` gave; not needed, but spares reading it again.

    Returns:
      Tables and slots after the step.
    """
    new_tables, new_slots = dict(tables), dict(slots)
    for name in slots:
      spec = self.arrays[name].spec
      assert spec.optimizer is not None
      new_tables[name], new_slots[name] = update_rows(
        tables[name],
        slots[name],
        routes[name],
        grads[name],
        step,
        optimizer=spec.optimizer,
        max_norm=spec.max_norm,
        before=None if rows is None else rows[name],
      )
    return new_tables, new_slots

  def check_ids(self, batch: Mapping[str, np.ndarray]) -> None:
    """Raises DataError unless all ids lie in their tables; for the host.

    Within a compiled step an id outside its table is padding.

    Args:
      batch: ids of the features, in NumPy.

    Raises:
      DataError: names the feature, the value, its place and the range.
    """
    for lookup in self.lookups:
      ids = np.asarray(lookup.ids_in(batch))
      num_ids = self._spec[lookup.table].num_ids
      outside = np.argwhere((ids < 0) | (ids >= num_ids))
      if len(outside):
        place = tuple(outside[0].tolist())
        raise DataError(
          f"ids of the feature {lookup.feature!r} must lie in [0,"
          f" {num_ids - 1}], the ids of the table {lookup.table!r}; got"
          f" {ids[place]} at {list(place)}, and {len(outside)} outside in all."
        )

  def _read_by(self, lookups) -> list[str]:
    """The arrays that lookups read."""
    read = {self._place[lookup.table][0] for lookup in lookups}
    return [name for name in self.arrays if name in read]

  def _split(self, lookups, rows, batch) -> dict[str, Iterator[Array]]:
    """Array -> what each of the lookups read of it, [batch, places, dim]."""
    sizes: dict[str, list[int]] = {name: [] for name in self._read_by(lookups)}
    num_examples = 1
    for lookup in lookups:
      ids = batch[lookup.feature]
      compression = self._spec[lookup.table].compression
      num_examples = ids.shape[0]
      parts = 1 if compression is None else compression.num_parts
      sizes[self._place[lookup.table][0]].append(ids[0].size * parts)
    # Not by slices: the gradient of each would be padded to all rows.
    return {
      name: iter(
        jax.lax.split(
          rows[name].reshape(num_examples, sum(sizes[name]), -1),
          sizes[name],
          axis=1,
        )
      )
      for name in sizes
    }

  def _where(self, lookup: Lookup, ids: Array) -> Array:
    return (ids > 0) & (ids < self._spec[lookup.table].num_ids)
