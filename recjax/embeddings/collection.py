"""Features, the tables they read, and the arrays these tables lie in.

A step does with a sparse table

    routes = collection.routes(batch)            # which rows, per array
    rows = collection.gather(tables, routes)     # not differentiated
    embeddings = collection.embed(rows, batch)   # differentiated by `rows`
    tables, slots = collection.update(
      tables, slots, routes, grads, step, rows
    )

and its cost follows the batch, not the vocabulary. A dense table takes the
same road up to `embed`, but is differentiated as a whole and left to optax.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from recjax.embeddings.combiners import COMBINERS, combine
from recjax.embeddings.rows import PADDING_ROW, gather_rows, update_rows
from recjax.embeddings.tables import MAX_ROWS, TableSpec, init_table, round_up
from recjax.errors import ConfigError, DataError, check_choice

_SHARED = ("dim", "dtype", "optimizer", "sharding", "max_norm")

Arrays = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Lookup:
  """A feature that reads a table; several may read the same.

  Attributes:
    feature: name of the ids in the batch, [batch] or [batch, len].
    table: name of the table.
    combiner: how the rows of a list become one: "sum", "mean" (by the sum of
      the weights) or "sqrtn" (by the root of the sum of their squares). With
      "none" a list stays one, [batch, len, dim], as sequence models read it.
    weights: name of float weights in the batch, shaped like the ids; "" is
      1 for every id but 0.
    name: of the embedding; "" is `feature`.
  """

  feature: str
  table: str
  combiner: str = "none"
  weights: str = ""
  name: str = ""

  def __post_init__(self):
    check_choice(f"Lookup({self.feature!r}).combiner", self.combiner, COMBINERS)
    if self.weights and self.combiner == "none":
      raise ConfigError(
        f"Lookup({self.feature!r}).weights needs a combiner: without one"
        f" nothing is weighted; choose one of {', '.join(COMBINERS[1:])}."
      )

  @property
  def output(self) -> str:
    """The name of the embedding."""
    return self.name or self.feature


@dataclasses.dataclass(frozen=True)
class ArrayLayout:
  """An array that holds one table, or a stack of several.

  Attributes:
    name: of the stack, or of the only table.
    tables: in their order.
    starts: first row of each.
    num_rows: of the array, see `tables.round_up`.
  """

  name: str
  tables: tuple[TableSpec, ...]
  starts: tuple[int, ...]
  num_rows: int

  @property
  def spec(self) -> TableSpec:
    """What all tables of the array agree in."""
    return self.tables[0]


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
    return {name: _layout(name, specs) for name, specs in stacks.items()}

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
    flat: dict[str, list[Array]] = {name: [] for name in self.arrays}
    for lookup in self.lookups:
      ids = self._ids(lookup, batch)
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
    pieces = self._split(rows, batch)
    out = {}
    for lookup in self.lookups:
      ids = self._ids(lookup, batch)
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
          self._weights(lookup, batch),
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
      ids = np.asarray(self._ids(lookup, batch))
      num_ids = self._spec[lookup.table].num_ids
      outside = np.argwhere((ids < 0) | (ids >= num_ids))
      if len(outside):
        place = tuple(outside[0].tolist())
        raise DataError(
          f"ids of the feature {lookup.feature!r} must lie in [0,"
          f" {num_ids - 1}], the ids of the table {lookup.table!r}; got"
          f" {ids[place]} at {list(place)}, and {len(outside)} outside in all."
        )

  def _split(self, rows, batch) -> dict[str, Iterator[Array]]:
    """Array -> what each of its lookups read, [batch, places, dim]."""
    sizes: dict[str, list[int]] = {name: [] for name in self.arrays}
    num_examples = 1
    for lookup in self.lookups:
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
      for name in self.arrays
    }

  def _where(self, lookup: Lookup, ids: Array) -> Array:
    return (ids > 0) & (ids < self._spec[lookup.table].num_ids)

  def _weights(
    self, lookup: Lookup, batch: Mapping[str, Array]
  ) -> Array | None:
    if not lookup.weights:
      return None
    owner = f"Lookup({lookup.output!r}).weights"
    check_choice(owner, lookup.weights, batch)
    weights, ids = batch[lookup.weights], batch[lookup.feature]
    if weights.shape != ids.shape:
      raise ConfigError(
        f"{owner} must have the shape of the ids {lookup.feature!r},"
        f" {ids.shape}; {lookup.weights!r} has {weights.shape}."
      )
    return weights

  def _ids(self, lookup: Lookup, batch: Mapping[str, Any]) -> Any:
    check_choice(f"Lookup({lookup.output!r}).feature", lookup.feature, batch)
    ids = batch[lookup.feature]
    if ids.ndim == 1 and lookup.combiner != "none":
      raise ConfigError(
        f"Lookup({lookup.output!r}).combiner must be 'none' for a feature of"
        f" one value; {lookup.feature!r} is no list and the combiner is"
        f" {lookup.combiner!r}."
      )
    return ids


def _layout(name: str, specs: list[TableSpec]) -> ArrayLayout:
  for spec in specs[1:]:
    for field in _SHARED:
      ours, first = getattr(spec, field), getattr(specs[0], field)
      if ours != first:
        raise ConfigError(
          f"the tables of the stack {name!r} must agree in {field};"
          f" {specs[0].name!r} has {first!r} and {spec.name!r} has {ours!r}."
        )
  starts, start = [], 0
  for spec in specs:
    starts.append(start)
    start += spec.ids_rows
  if start > MAX_ROWS:
    raise ConfigError(
      f"the stack {name!r} must have at most {MAX_ROWS:,} rows; got {start:,}."
      " Give some of its tables another stack."
    )
  return ArrayLayout(name, tuple(specs), tuple(starts), round_up(start))
