"""Draws any piece of an array of tables, without the rest of it.

`EmbeddingCollection.init` draws whole tables and lays them one after the
other; cut over a mesh, that takes several times the memory of what it makes.
Here a device draws the rows and columns that it holds, a block at a time. The
numbers are the same: JAX's default generator, threefry with partitionable
counts, makes the bits of element i of an array out of the key and i alone, and
what is done to them is what `init_table` does.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, Int, Key

from recjax.embeddings.layouts import ArrayLayout
from recjax.embeddings.tables import TableSpec

_BLOCK_ELEMENTS = 2**20


class _Draws(NamedTuple):
  """Of each table of an array: where its ids end, and its distribution.

  A value is s max(-a, 2 a u - a) of a uniform u in [0, 1), or s times a normal.
  """

  num_ids: np.ndarray
  bound: np.ndarray
  scale: np.ndarray
  is_normal: np.ndarray


def can_draw(key: Key[Array, ""]) -> bool:
  """Whether pieces can be drawn with keys of this kind."""
  is_threefry = jax.random.key_data(key).shape == (2,)
  return is_threefry and getattr(jax.config, "jax_threefry_partitionable", True)


def draw_piece(
  layout: ArrayLayout,
  keys: Mapping[str, Key[Array, ""]],
  first_row: Int[Array, ""],
  first_column: Int[Array, ""],
  *,
  num_rows: int,
  num_columns: int,
) -> Float[Array, "rows columns"]:
  """Draws rows and columns of an array, as `EmbeddingCollection.init` would.

  Args:
    layout: the array.
    keys: of each table.
    first_row: of the piece.
    first_column: of the piece.
    num_rows: of the piece.
    num_columns: of the piece.

  Returns:
    The piece, in the array's dtype.
  """
  draws = _Draws(*map(np.stack, zip(*map(_of_table, layout.tables))))
  data = [jax.random.key_data(keys[spec.name]) for spec in layout.tables]
  pairs = jnp.stack(data)
  size = min(num_rows, max(1, _BLOCK_ELEMENTS // num_columns))
  columns = first_column + jnp.arange(num_columns, dtype=jnp.int32)

  def block(index, out):
    # The last block begins earlier, not to end past the end.
    start = jnp.minimum(index * size, num_rows - size)
    rows = first_row + start + jnp.arange(size, dtype=jnp.int32)
    values = _draw_rows(layout, draws, pairs, rows, columns)
    return lax.dynamic_update_slice(out, values, (start, 0))

  out = jnp.zeros((num_rows, num_columns), layout.spec.dtype)
  return lax.fori_loop(0, -(-num_rows // size), block, out)


def _of_table(spec: TableSpec):
  """The entries of a table in `_Draws`."""
  rows = spec.ids_rows
  match spec.initializer:
    case "zeros":
      bound, scale = 1.0, 0.0
    case "normal":
      bound, scale = 1.0, spec.init_stddev
    case "uniform":
      bound, scale = rows**-0.5, 1.0
    case _:  # Glorot's.
      bound, scale = 1.0, math.sqrt(6.0 / (rows + spec.dim))
  return (
    np.int32(rows),
    np.float32(bound),
    np.float32(scale),
    np.bool_(spec.initializer == "normal"),
  )


def _draw_rows(layout, draws, pairs, rows, columns):
  """Rows of the array, of any tables."""
  starts = np.array(layout.starts, np.int32)
  table = jnp.searchsorted(starts, rows, side="right").astype(jnp.int32) - 1
  of_row = lambda values: jnp.asarray(values)[table][:, None]
  near = rows - jnp.asarray(starts)[table]
  uniform = _uniform(pairs[table], near, columns, layout.spec.dim)
  bound = of_row(draws.bound)
  values = jnp.maximum(-bound, uniform * (2 * bound) - bound)
  if draws.is_normal.any():
    # The open end keeps the inverse finite.
    low = np.nextafter(np.float32(-1.0), np.float32(0.0))
    open_uniform = jnp.maximum(low, uniform * (np.float32(1.0) - low) + low)
    normal = np.float32(math.sqrt(2.0)) * lax.erf_inv(open_uniform)
    values = jnp.where(of_row(draws.is_normal), normal, values)
  values *= of_row(draws.scale)
  inside = (near > 0) & (near < jnp.asarray(draws.num_ids)[table])
  values = jnp.where(inside[:, None], values, 0.0)
  return values.astype(layout.spec.dtype)


def _uniform(pairs, rows, columns, dim):
  """Element row * dim + column of uniform draws in [0, 1) of each key."""
  # The count has 64 bits, in two words.
  word = rows.astype(jnp.uint32)
  dim = np.uint32(dim)
  low, high = (word & 0xFFFF) * dim, (word >> 16) * dim
  total = low + (high << 16)
  high = (high >> 16) + (total < low)
  counts = total[:, None] + columns.astype(jnp.uint32)[None]
  highs = high[:, None] + (counts < total[:, None])
  shape = counts.shape
  first, second = (
    jnp.broadcast_to(pairs[:, i : i + 1], shape).reshape(-1) for i in (0, 1)
  )
  bits = jax.vmap(lambda a, b, count: threefry_2x32(jnp.stack([a, b]), count))(
    first, second, jnp.stack([highs.reshape(-1), counts.reshape(-1)], axis=1)
  )
  bits = (bits[:, 0] ^ bits[:, 1]).reshape(shape)
  # 23 random bits behind the point of a number in [1, 2).
  ones = (bits >> 9) | np.float32(1.0).view(np.uint32)
  return lax.bitcast_convert_type(ones, jnp.float32) - 1.0
