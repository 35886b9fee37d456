"""What a step does to the looked-up rows of a table: gather, sum, update.

On a CPU the work is ordered for its caches and needs no sort, see
`_update_in_blocks`; elsewhere a sort costs little, see `_update_sorted`. Both
do the same, up to the order in which the gradients of one row are summed.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from recjax.embeddings.row_optimizers import RowOptimizer

Slots = Mapping[str, Array]

PADDING_ROW = np.int32(2**31 - 1)
"""Past every table: reads as zero and is not written."""

_BLOCK_ELEMENTS = 2**18
"""Weights of a block: a megabyte, so that what is made of them stays cached."""
_REPEATS_BLOCK = 1024
"""Repeated lookups that are summed at a time."""


def gather_rows(
  table: Float[Array, "vocab dim"], rows: Int[Array, " n"]
) -> Float[Array, "n dim"]:
  """Reads rows; one outside the table, such as padding, reads as zero."""
  return jax.lax.platform_dependent(
    table, rows, cpu=_gather_apart, default=_gather
  )


def _gather(table, rows):
  inside = ((rows >= 0) & (rows < table.shape[0]))[:, None]
  # The product changes nothing, but with it XLA's loop over a row is compiled
  # to vector moves on a CPU: five times as fast at 64 columns as without.
  read = table.at[rows].get(mode="clip") * inside.astype(table.dtype)
  return jnp.where(inside, read, 0)


def _gather_apart(table, rows):
  """Gathers under a condition, which XLA does not fuse with what follows.

  Fused with a reshape, it would work out the row of every single element.
  """
  inside = ((rows >= 0) & (rows < table.shape[0]))[:, None]

  def zeros(table, rows):
    shape = (rows.shape[0], table.shape[1])
    return jnp.zeros_like(table, shape=shape) + inside.astype(table.dtype)

  return jax.lax.cond(jnp.any(inside), _gather, zeros, table, rows)


def sum_duplicates(
  rows: Int[Array, " n"], grads: Float[Array, "n dim"], *, num_rows: int
) -> tuple[Int[Array, " n"], Float[Array, "n dim"]]:
  """Sums the gradients of lookups of the same row.

  Args:
    rows: row of each lookup; those outside [0, num_rows) are padding.
    grads: of each lookup.
    num_rows: of the table.

  Returns:
    Distinct rows in ascending order, and their sums. There are as many places
    as lookups; those left over hold distinct rows past the table.
  """
  n = rows.shape[0]
  inside = (rows >= 0) & (rows < num_rows)
  rows = jnp.where(inside, rows, num_rows)
  rows, order = jax.lax.sort_key_val(rows, jnp.arange(n, dtype=jnp.int32))
  is_first = jnp.concatenate([jnp.ones((1,), bool), rows[1:] != rows[:-1]])
  segment = jnp.cumsum(is_first.astype(jnp.int32)) - 1
  sums = jax.ops.segment_sum(
    grads[order], segment, num_segments=n, indices_are_sorted=True
  )
  # Past the table, and no two alike: a scatter may then trust both.
  spare = num_rows + jnp.arange(n, dtype=jnp.int32)
  distinct = spare.at[segment].set(
    jnp.where(rows < num_rows, rows, spare[segment]), mode="drop"
  )
  return distinct, sums


def last_lookups(rows: Int[Array, " n"]) -> Int[Array, " n"]:
  """For each lookup, the place of the last lookup of the same row.

  Without a sort: every lookup writes its place where its row is hashed to, the
  greatest one stays, and all lookups of the row that it is of have found their
  last. Those of another row try again with another hash; few are left after
  each round, and at least one row is done in it.

  Args:
    rows: row of each lookup, any numbers.

  Returns:
    Places, below n.
  """
  n = rows.shape[0]
  # Zeros of the rows: in `jax.shard_map` a loop wants arrays that vary alike.
  places = jnp.arange(n, dtype=jnp.int32) + jnp.zeros_like(rows)
  # So many slots that nine in ten lookups are alone in theirs.
  num_bits = max(2, (2 * n - 1).bit_length())
  words = jax.lax.bitcast_convert_type(rows, jnp.uint32)

  def round_(carry):
    factor, last, is_open = carry
    slots = (words * factor) >> np.uint32(32 - num_bits)
    slots = jnp.where(is_open, slots.astype(jnp.int32), 2**num_bits)
    greatest = jnp.zeros((2**num_bits,), jnp.int32)
    greatest = greatest.at[slots].max(places, mode="drop")
    found = greatest.at[slots].get(mode="clip")
    is_same = is_open & (rows[found] == rows)
    # Powers of the odd number nearest to 2^32 over the golden ratio.
    factor = factor * np.uint32(0x9E3779B9)
    return factor, jnp.where(is_same, found, last), is_open & ~is_same

  first = (jnp.uint32(0x9E3779B9), places, rows == rows)
  return jax.lax.while_loop(lambda carry: jnp.any(carry[2]), round_, first)[1]


def update_rows(
  table: Float[Array, "vocab dim"],
  slots: Slots,
  rows: Int[Array, " n"],
  grads: Float[Array, "n dim"],
  step: Int[Array, ""],
  *,
  optimizer: RowOptimizer,
  max_norm: float = 0.0,
  before: Float[Array, "n dim"] | None = None,
) -> tuple[Float[Array, "vocab dim"], dict[str, Array]]:
  """Applies a row-wise optimizer to the rows that were looked up.

  Its cost follows the lookups and not the table: with the table donated, the
  other rows are neither read nor written.

  Args:
    table: all rows.
    slots: of the optimizer, leading axis [vocab].
    rows: row of each lookup; outside the table for padding.
    grads: of each lookup; duplicates are summed before the optimizer.
    step: how many steps were taken before.
    optimizer: the rule.
    max_norm: touched rows are scaled down to this Euclidean norm; 0 is off.
    before: the rows as `gather_rows` read them from this table. They need not
      be given, but reading a large table again takes time on a CPU.

  Returns:
    Table and slots after the step.
  """
  bind = functools.partial(
    functools.partial, optimizer=optimizer, max_norm=max_norm
  )
  return jax.lax.platform_dependent(
    table,
    dict(slots),
    rows,
    grads,
    step,
    before,
    cpu=bind(_update_in_blocks),
    default=bind(_update_sorted),
  )


def _update_sorted(
  table, slots, rows, grads, step, before, *, optimizer, max_norm
):
  """Sorts the lookups by row, sums, and moves all distinct rows at once."""
  del before  # In the order of the lookups, which is none to read in.
  rows, sums = sum_duplicates(rows, grads, num_rows=table.shape[0])
  return _move_rows(
    table, slots, rows, sums, step, optimizer=optimizer, max_norm=max_norm
  )


def _update_in_blocks(
  table, slots, rows, grads, step, before, *, optimizer, max_norm
):
  """Sums repeated lookups in place, and moves the rows block by block.

  The last lookup of a row gets the gradients of the others, in their order, and
  stands for the row. Nothing of the size of `grads` is made: on a CPU the pages
  of a large temporary cost more than what is computed in them.
  """
  n, num_rows = rows.shape[0], table.shape[0]
  places = jnp.arange(n, dtype=jnp.int32)
  inside = (rows >= 0) & (rows < num_rows)
  last = last_lookups(rows)
  is_last = last == places
  grads = jnp.where(inside[:, None], grads, 0)
  sums = _add_repeats(grads, last, inside & ~is_last)
  rows = jnp.where(inside & is_last, rows, num_rows + places)
  move = functools.partial(_move_rows, optimizer=optimizer, max_norm=max_norm)
  size = max(_BLOCK_ELEMENTS // table.shape[1], 1)
  if n <= size:
    return move(table, slots, rows, sums, step, before)

  def block(index, carry):
    # The last block begins earlier, not to end past the end: what it has of
    # the one before is done.
    start = jnp.minimum(index * size, n - size)
    own, part, old = jax.tree.map(
      lambda array: jax.lax.dynamic_slice_in_dim(array, start, size),
      (rows, sums, before),
    )
    near = jnp.arange(size, dtype=jnp.int32)
    own = jnp.where(start + near >= index * size, own, num_rows + near)
    table, slots = carry
    return move(table, slots, own, part, step, old)

  return jax.lax.fori_loop(0, -(-n // size), block, (table, slots))


def _add_repeats(grads, last, is_repeat):
  """Adds the gradients of the repeats to the last lookup of their rows."""
  n = grads.shape[0]
  size = _REPEATS_BLOCK
  places = jnp.arange(n, dtype=jnp.int32)
  rank = jnp.cumsum(is_repeat.astype(jnp.int32))
  # Places of the repeats in their order, then n without end.
  repeats = jnp.full_like(places, n, shape=(n + size,))
  repeats = repeats.at[jnp.where(is_repeat, rank - 1, n + size)].set(
    places, mode="drop"
  )

  def block(carry):
    start, sums = carry
    source = jax.lax.dynamic_slice_in_dim(repeats, start, size)
    target = last.at[source].get(mode="fill", fill_value=n)
    part = sums.at[source].get(mode="clip")
    return start + size, sums.at[target].add(part, mode="drop")

  num_repeats = rank[-1]
  return jax.lax.while_loop(
    lambda carry: carry[0] < num_repeats, block, (jnp.int32(0), grads)
  )[1]


def _move_rows(
  table, slots, rows, sums, step, before=None, *, optimizer, max_norm
):
  """Moves distinct rows by their summed gradients."""
  # Not told whether they are sorted: for sorted rows XLA's TPU compiler makes
  # a scatter that copies the whole table, as the gather reads it too.
  read = lambda array: array.at[rows].get(mode="clip")
  write = lambda array, new: array.at[rows].set(
    new.astype(array.dtype), mode="drop", unique_indices=True
  )
  new_rows, new_slots = optimizer.update(
    (read(table) if before is None else before).astype(sums.dtype),
    {name: read(slot) for name, slot in slots.items()},
    sums,
    step,
  )
  if max_norm:
    norm = jnp.linalg.norm(new_rows, axis=1, keepdims=True)
    new_rows *= jnp.minimum(1.0, max_norm / jnp.maximum(norm, 1e-12))
  return write(table, new_rows), {
    name: write(slots[name], new) for name, new in new_slots.items()
  }
