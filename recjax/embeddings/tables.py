"""Embedding tables: what they are and how they start.

Models never own tables: they are handed looked-up rows. A *dense* table lies in
the parameters under "tables" and is trained by optax. A *sparse* one has a
row-wise optimizer, which sees the looked-up rows alone.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from recjax.embeddings.compression import Compression
from recjax.embeddings.row_optimizers import RowOptimizer
from recjax.errors import ConfigError, check_choice, check_range

INITIALIZERS = ("glorot_uniform", "uniform", "normal", "zeros")
SHARDINGS = (
  "auto",
  "data_parallel",
  "row_wise",
  "row_wise_replicated",
  "column_wise",
  "table_wise",
  "two_dimensional",
)
ROW_MULTIPLE = 128
"""Tables have a multiple of so many rows.

They then divide evenly over any usual number of devices, and the shape does
not depend on the mesh: a checkpoint restores on any other.
"""
LARGE_ROWS, LARGE_ROW_MULTIPLE = 2**18, 4096
"""From so many rows on, a multiple of so many: for thousands of devices."""
MAX_ROWS = 2_000_000_000
"""Of an array: its rows and those that mark padding are counted in int32."""


@dataclasses.dataclass(frozen=True)
class TableSpec:
  """An embedding table.

  Attributes:
    name: unique in its collection.
    num_ids: ids run from 0 to num_ids - 1; id 0 is padding.
    dim: width of a row. On a TPU take multiples of 128: the rows of narrower
      tables lie across its memory, and XLA copies the table to read them.
    initializer: "glorot_uniform", the default of TensorFlow; "uniform" in
      +-1/sqrt(rows), as DLRM; "normal"; or "zeros".
    init_stddev: standard deviation of "normal".
    optimizer: row-wise; None is a dense table, trained by optax.
    sharding: one of `strategies.STRATEGIES`, such as "row_wise", or "auto",
      which leaves it to the planner.
    max_norm: rows are scaled down to it whenever they are trained; 0 is off.
      Sparse tables alone.
    dtype: "float32" or "bfloat16", of the stored rows; what is looked up is
      float32.
    compression: fewer rows than ids; None has one for each.
    stack: tables of one stack lie in one array and are looked up in one
      gather; they must agree in all but name, ids, start and compression.
  """

  name: str
  num_ids: int
  dim: int
  initializer: str = "glorot_uniform"
  init_stddev: float = 0.02
  optimizer: RowOptimizer | None = None
  sharding: str = "auto"
  max_norm: float = 0.0
  dtype: str = "float32"
  compression: Compression | None = None
  stack: str = ""

  def __post_init__(self):
    owner = f"TableSpec({self.name!r})"
    check_range(f"{owner}.num_ids", self.num_ids, 1, 2**31 - 1, integer=True)
    check_range(f"{owner}.dim", self.dim, 1, integer=True)
    check_choice(f"{owner}.initializer", self.initializer, INITIALIZERS)
    check_range(f"{owner}.init_stddev", self.init_stddev, 0.0)
    check_choice(f"{owner}.sharding", self.sharding, SHARDINGS)
    check_range(f"{owner}.max_norm", self.max_norm, 0.0)
    check_choice(f"{owner}.dtype", self.dtype, ("float32", "bfloat16"))
    if self.ids_rows > MAX_ROWS:
      raise ConfigError(
        f"{owner} must have at most {MAX_ROWS:,} rows; got {self.ids_rows:,}."
        " Fewer rows than ids: TableSpec.compression."
      )
    if self.max_norm and self.optimizer is None:
      raise ConfigError(
        f"{owner}.max_norm needs a row-wise optimizer: a dense table is moved"
        " by optax, which knows no rows."
      )

  @property
  def ids_rows(self) -> int:
    """Rows that ids can reach, row 0 included."""
    if self.compression is None:
      return self.num_ids
    return self.compression.num_rows(self.num_ids)

  @property
  def num_rows(self) -> int:
    """`ids_rows` rounded up to a multiple that devices divide."""
    return round_up(self.ids_rows)


def round_up(rows: int) -> int:
  """The next multiple of ROW_MULTIPLE, or for large tables of its like."""
  multiple = ROW_MULTIPLE if rows < LARGE_ROWS else LARGE_ROW_MULTIPLE
  return -(-rows // multiple) * multiple


def init_table(
  spec: TableSpec, key: Key[Array, ""]
) -> Float[Array, "vocab dim"]:
  """Draws a table; the padding row and the rows past the ids are zero.

  Args:
    spec: the table.
    key: a typed random key.

  Returns:
    Array [spec.num_rows, spec.dim] of `spec.dtype`.
  """
  # Drawn for the ids alone: the fan-in of the paper has no rounding.
  shape = (spec.ids_rows, spec.dim)
  initializers = jax.nn.initializers
  match spec.initializer:
    case "zeros":
      rows = jnp.zeros(shape)
    case "normal":
      rows = initializers.normal(spec.init_stddev)(key, shape)
    case "uniform":
      bound = shape[0] ** -0.5
      rows = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    case _:
      rows = initializers.glorot_uniform()(key, shape)
  rows = rows.at[0].set(0.0).astype(spec.dtype)
  return jnp.pad(rows, ((0, spec.num_rows - spec.ids_rows), (0, 0)))


def lookup(
  table: Float[Array, "vocab dim"], ids: Mapping[str, Int[Array, "..."]]
) -> dict[str, Float[Array, "..."]]:
  """Reads the rows of several id arrays in one gather.

  One gather has one scatter-add as its gradient; separate ones would each
  write a gradient of the size of the table.

  Args:
    table: the rows.
    ids: name -> ids of any shape.

  Returns:
    name -> rows, of the shape of the ids and one axis `dim` more.
  """
  flat = jnp.concatenate([array.reshape(-1) for array in ids.values()])
  # Ids are checked when data are read; "clip" spares a masked gather.
  rows = jnp.take(table, flat, axis=0, mode="clip")
  out, start = {}, 0
  for name, array in ids.items():
    part = rows[start : start + array.size]
    out[name] = part.reshape(*array.shape, table.shape[1])
    start += array.size
  return out
