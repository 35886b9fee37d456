"""Dense embedding tables: what they are, how they start, how rows are read.

Models never own tables: they are handed looked-up rows. A table lies in the
parameters under "tables" and is trained by optax.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from recjax.errors import check_choice, check_range

ROW_MULTIPLE = 128
"""Tables have a multiple of so many rows.

They then divide evenly over any usual number of devices, and the shape does
not depend on the mesh: a checkpoint restores on any other.
"""


@dataclasses.dataclass(frozen=True)
class TableSpec:
  """An embedding table.

  Attributes:
    num_ids: ids run from 0 to num_ids - 1; id 0 is padding.
    dim: width of a row.
    initializer: "glorot_uniform", the default of TensorFlow, or "normal".
    init_stddev: standard deviation of "normal".
  """

  num_ids: int
  dim: int
  initializer: str = "glorot_uniform"
  init_stddev: float = 0.02

  def __post_init__(self):
    check_range("TableSpec.num_ids", self.num_ids, 1, integer=True)
    check_range("TableSpec.dim", self.dim, 1, integer=True)
    check_choice(
      "TableSpec.initializer", self.initializer, ("glorot_uniform", "normal")
    )
    check_range("TableSpec.init_stddev", self.init_stddev, 0.0)

  @property
  def num_rows(self) -> int:
    """`num_ids` rounded up to a multiple of ROW_MULTIPLE."""
    return -(-self.num_ids // ROW_MULTIPLE) * ROW_MULTIPLE


def init_table(
  spec: TableSpec, key: Key[Array, ""]
) -> Float[Array, "vocab dim"]:
  """Draws a table; the padding row and the rows past the ids are zero.

  Args:
    spec: the table.
    key: a typed random key.

  Returns:
    float32 array [spec.num_rows, spec.dim].
  """
  if spec.initializer == "normal":
    draw = jax.nn.initializers.normal(spec.init_stddev)
  else:
    draw = jax.nn.initializers.glorot_uniform()
  # Drawn for the ids alone: the fan-in of the paper has no rounding.
  rows = draw(key, (spec.num_ids, spec.dim), jnp.float32).at[0].set(0.0)
  return jnp.pad(rows, ((0, spec.num_rows - spec.num_ids), (0, 0)))


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
