"""The tables of a ranking model: one for each feature in each group.

A *group* is what a model asks for by name and width, such as the vectors of a
factorization machine ("embedding") and its weights of single features
("linear"). All tables of a group lie in one array and are read by one gather.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.compression import Compression
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.row_optimizers import RowOptimizer
from recjax.embeddings.tables import TableSpec
from recjax.errors import ConfigError, check_choice


@dataclasses.dataclass(frozen=True)
class CategoricalField:
  """A feature of ids, as the tables see it.

  Attributes:
    name: in the batch.
    num_ids: ids run from 0 to num_ids - 1.
    combiner: of a feature of several values; "none" for a single one.
    weights: of these values; "" weighs them alike.
    groups: that have a table for it; () is all groups.
    shares: the field whose tables it reads; "" has its own.
  """

  name: str
  num_ids: int
  combiner: str = "none"
  weights: str = ""
  groups: tuple[str, ...] = ()
  shares: str = ""


@dataclasses.dataclass(frozen=True)
class TableSettings:
  """How the tables of a group start, lie and are trained; see `TableSpec`.

  Attributes:
    initializer: see `TableSpec`, as all below.
    init_stddev: of "normal".
    optimizer: row-wise; None makes dense tables, trained by optax.
    sharding: over the mesh; of sparse tables.
    max_norm: of trained rows.
    dtype: of stored rows.
    compression: fewer rows than ids.
    compress_from: tables of at least so many ids are compressed.
  """

  initializer: str = "normal"
  init_stddev: float = 1e-4
  optimizer: RowOptimizer | None = None
  sharding: str = "auto"
  max_norm: float = 0.0
  dtype: str = "float32"
  compression: Compression | None = None
  compress_from: int = 0

  def __post_init__(self):
    if self.sharding != "auto" and self.optimizer is None:
      raise ConfigError(
        "TableSettings.sharding is for tables with a row-wise optimizer; got"
        f" {self.sharding!r} and no optimizer. Dense tables lie row-wise over"
        " the mesh axis 'model'."
      )

  def spec(self, group: str, field: CategoricalField, dim: int) -> TableSpec:
    """The table of a field in a group."""
    compressed = field.num_ids >= self.compress_from
    return TableSpec(
      f"{group}/{field.name}",
      field.num_ids,
      dim,
      self.initializer,
      self.init_stddev,
      optimizer=self.optimizer,
      sharding=self.sharding,
      max_norm=self.max_norm,
      dtype=self.dtype,
      compression=self.compression if compressed else None,
      stack=group,
    )


def make_collections(
  groups: Mapping[str, int],
  fields: tuple[CategoricalField, ...],
  settings: Mapping[str, TableSettings],
) -> tuple[EmbeddingCollection, EmbeddingCollection]:
  """The dense and the sparse tables of a model.

  Args:
    groups: group -> width, as the model asks for.
    fields: features with tables.
    settings: of each group; "" is for all that are not named.

  Returns:
    (dense collection, sparse collection).

  Raises:
    ConfigError: settings or a field name a group that the model has not.
  """
  for name in settings:
    if name:
      check_choice("the group of table settings", name, groups)
  tables, lookups = ([], []), ([], [])
  for group, dim in groups.items():
    chosen = settings.get(group, settings.get(""))
    if chosen is None:
      raise ConfigError(
        f"there are no table settings for the group {group!r}; give them, or"
        " settings under '' for all groups."
      )
    part = int(chosen.optimizer is not None)
    for field in fields_of(group, fields):
      table = f"{group}/{field.shares or field.name}"
      if not field.shares:
        tables[part].append(chosen.spec(group, field, dim))
      lookups[part].append(
        Lookup(
          field.name,
          table,
          field.combiner,
          field.weights,
          f"{group}/{field.name}",
        )
      )
  dense, sparse = (
    EmbeddingCollection(tuple(t), tuple(k))
    for t, k in zip(tables, lookups, strict=True)
  )
  return dense, sparse


def fields_of(
  group: str, fields: tuple[CategoricalField, ...]
) -> tuple[CategoricalField, ...]:
  """The fields that have a table in a group."""
  return tuple(f for f in fields if not f.groups or group in f.groups)


def stack_fields(
  embeddings: Mapping[str, Float[Array, "batch _dim"]],
  group: str,
  fields: tuple[CategoricalField, ...],
) -> Float[Array, "batch field dim"]:
  """The embeddings of all fields of a group, along an axis."""
  names = [f"{group}/{field.name}" for field in fields_of(group, fields)]
  return jnp.stack([embeddings[name] for name in names], axis=1)
