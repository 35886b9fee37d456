"""Reads of a table that is differentiated as a whole: rows, and sums of lists.

  s_b = sum_l w_bl E[rows_bl]

A list is padded to the longest, and what is made of each place is as large as
the batch times that. On a CPU the places that hold an id are therefore picked
out first, and their rows are read and added a block at a time, which stays in
the caches: cost follows the ids and not the padding. Elsewhere the compiler
joins reading and adding by itself. All gradients are added into one array of
the size of the table.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from recjax.embeddings.rows import gather_rows

_GROUP = 8
"""Neighbouring places of a list that are read together or not at all."""
_BLOCK = 4096
"""Places that are read at a time: of 64 columns a megabyte."""

Bag = tuple[Int[Array, "_bags _len"], Float[Array, "_bags _len"]]


def read_table(
  table: Float[Array, "vocab dim"],
  rows: Int[Array, " n"],
  bags: tuple[Bag, ...] = (),
) -> tuple[Float[Array, "n dim"], tuple[Float[Array, "_bags dim"], ...]]:
  """Single rows, and weighted sums of the rows of lists.

  Args:
    table: all rows; differentiable.
    rows: that are read one by one; outside the table for padding, which reads
      as zero.
    bags: rows and weights of each place of some lists; the row is outside the
      table for padding, where the weight is not read. Weights are
      differentiable.

  Returns:
    The rows and, for each of `bags`, the sums, all in float32; the sum of an
    empty list is 0.
  """
  own, weights = tuple(b[0] for b in bags), tuple(b[1] for b in bags)
  return _read_table(table, rows, own, weights)


@jax.custom_vjp
def _read_table(table, rows, own, weights):
  return _forward(table, rows, own, weights)[0]


def _forward(table, rows, own, weights):
  read = gather_rows(table, rows).astype(jnp.float32)
  sums, groups = [], []
  for bag_rows, bag_weights in zip(own, weights, strict=True):
    total, found = jax.lax.platform_dependent(
      table,
      bag_rows,
      bag_weights,
      cpu=_sum_in_blocks,
      default=_sum_at_once,
    )
    sums.append(total)
    groups.append(found)
  return (read, tuple(sums)), (table, rows, own, weights, groups)


def _backward(known, grads):
  table, rows, own, weights, groups = known
  of_rows, of_sums = grads
  inside = jnp.where(_is_inside(table, rows), rows, table.shape[0])
  total = jnp.zeros(table.shape, jnp.float32)
  total = total.at[inside].add(of_rows, mode="drop")
  of_weights = []
  for bag in zip(own, weights, groups, of_sums, strict=True):
    total = jax.lax.platform_dependent(
      total, *bag, cpu=_add_in_blocks, default=_add_at_once
    )
    # What nobody trains is not made: the compiler drops it.
    of_weights.append(
      jax.lax.platform_dependent(
        table, *bag, cpu=_weights_in_blocks, default=_weights_at_once
      )
    )
  no_gradient = lambda x: np.zeros(x.shape, jax.dtypes.float0)
  return (
    total.astype(table.dtype),
    no_gradient(rows),
    tuple(map(no_gradient, own)),
    tuple(of_weights),
  )


_read_table.defvjp(_forward, _backward)


def _is_inside(table, rows):
  return (rows >= 0) & (rows < table.shape[0])


# -- At once ------------------------------------------------------------------


def _sum_at_once(table, rows, weights):
  read = gather_rows(table, rows.reshape(-1)).astype(jnp.float32)
  weights = jnp.where(_is_inside(table, rows), weights, 0.0)
  sums = jnp.einsum("bl,bld->bd", weights, read.reshape(*rows.shape, -1))
  return sums, _no_groups(rows)


def _add_at_once(total, rows, weights, groups, grads):
  del groups
  inside = _is_inside(total, rows)
  weights = jnp.where(inside, weights, 0.0)
  parts = (weights[..., None] * grads[:, None]).reshape(-1, total.shape[1])
  rows = jnp.where(inside, rows, total.shape[0]).reshape(-1)
  return total.at[rows].add(parts, mode="drop")


def _weights_at_once(table, rows, weights, groups, grads):
  del groups
  read = gather_rows(table, rows.reshape(-1)).astype(jnp.float32)
  out = jnp.einsum("bd,bld->bl", grads, read.reshape(*rows.shape, -1))
  return out.astype(weights.dtype)


# -- In blocks ----------------------------------------------------------------


def _group_size(rows) -> int:
  return max(min(_GROUP, rows.shape[1]), 1)


def _num_groups(rows) -> int:
  """Groups of all lists; a list that ends within one is padded."""
  return rows.shape[0] * -(-rows.shape[1] // _group_size(rows))


def _no_groups(rows):
  groups = _num_groups(rows)
  return jnp.zeros((groups + _BLOCK,), jnp.int32), jnp.zeros((), jnp.int32)


def _grouped(array, fill):
  """[bags, len] as [groups, size]."""
  size = _group_size(array)
  padding = (0, 0), (0, -array.shape[1] % size)
  array = jnp.pad(array, padding, constant_values=fill)
  return array.reshape(-1, size)


def _find_groups(table, rows):
  """The groups that hold an id, in their order, and how many they are."""
  rows = _grouped(rows, -1)
  num = rows.shape[0]
  is_held = jnp.any(_is_inside(table, rows), axis=1)
  rank = jnp.cumsum(is_held.astype(jnp.int32))
  groups = jnp.full((num + _BLOCK,), num, jnp.int32)
  place = jnp.where(is_held, rank - 1, num + _BLOCK)
  groups = groups.at[place].set(jnp.arange(num, dtype=jnp.int32), mode="drop")
  return groups, rank[-1]


def _over_blocks(rows, groups, body, start):
  """Folds `body(carry, groups, bags)` over blocks of groups that hold an id.

  `bags` names the list of each place. Of groups past the last, groups and bags
  are past the end.
  """
  groups, num_held = groups
  size = _group_size(rows)
  a_list = -(-rows.shape[1] // size)
  step = max(_BLOCK // size, 1)

  def block(carry):
    first, inner = carry
    part = jax.lax.dynamic_slice_in_dim(groups, first, step)
    return first + step, body(inner, part, jnp.repeat(part // a_list, size))

  return jax.lax.while_loop(
    lambda carry: carry[0] < num_held, block, (jnp.int32(0), start)
  )[1]


def _sum_in_blocks(table, rows, weights):
  groups = _find_groups(table, rows)
  weights = jnp.where(_is_inside(table, rows), weights, 0.0)
  places, weights = _grouped(rows, 0), _grouped(weights, 0.0)

  def add(sums, part, bags):
    # Past the end the weight is 0, and the row any one.
    own = places.at[part].get(mode="clip").reshape(-1)
    weight = weights.at[part].get(mode="fill", fill_value=0.0).reshape(-1)
    read = table.at[own].get(mode="clip").astype(jnp.float32)
    return sums.at[bags].add(read * weight[:, None], mode="drop")

  sums = jnp.zeros((rows.shape[0], table.shape[1]), jnp.float32)
  return _over_blocks(rows, groups, add, sums), groups


def _add_in_blocks(total, rows, weights, groups, grads):
  inside = _is_inside(total, rows)
  places = _grouped(jnp.where(inside, rows, total.shape[0]), total.shape[0])
  weights = _grouped(jnp.where(inside, weights, 0.0), 0.0)

  def add(total, part, bags):
    own = places.at[part].get(mode="fill", fill_value=total.shape[0])
    weight = weights.at[part].get(mode="clip").reshape(-1)
    parts = grads.at[bags].get(mode="clip") * weight[:, None]
    return total.at[own.reshape(-1)].add(parts, mode="drop")

  return _over_blocks(rows, groups, add, total)


def _weights_in_blocks(table, rows, weights, groups, grads):
  inside = _is_inside(table, rows)
  places = _grouped(rows, 0)

  def put(out, part, bags):
    own = places.at[part].get(mode="clip").reshape(-1)
    read = table.at[own].get(mode="clip").astype(jnp.float32)
    products = jnp.sum(read * grads.at[bags].get(mode="clip"), axis=1)
    return out.at[part].set(products.reshape(len(part), -1), mode="drop")

  out = _over_blocks(rows, groups, put, jnp.zeros(places.shape, jnp.float32))
  out = out.reshape(rows.shape[0], -1)[:, : rows.shape[1]]
  return jnp.where(inside, out, 0.0).astype(weights.dtype)
