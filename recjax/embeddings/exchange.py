"""Lookups travel to the devices that hold their rows, and gradients after them.

Everything here runs on each device of a mesh, within `jax.shard_map`, with
collectives written out. A device

1. gathers the lookups of the devices that hold the other columns of its rows,
   for they all need the same rows;
2. sends each distinct row to its owner, which sends the row back;
3. and, after the gradient is there, sends the sum of the gradients of each
   distinct row to its owner; owners that are replicas of one another exchange
   what they got.

Never the table, nor anything of its size, travels.

**Capacity.** What goes from a device to an owner in one all-to-all has a fixed
size, the capacity C. Rows go in rounds until none is left anywhere, so no skew
drops one: an even spread takes one round, all lookups in the rows of one owner
take as many as there are devices. Distinct rows lie sorted, so what goes to an
owner is a run of neighbours and a round a window of C on it.

**One update a row.** An optimizer must see the sum of all gradients of a row.
So when gradients travel, the devices agree in each round on the first row that
is left for the next one: the least that any of them could not send.

**Replicas.** Each applies the same gradients for itself. Where a backend sums
in no fixed order they may drift apart in the last bits: on GPUs,
XLA_FLAGS=--xla_gpu_deterministic_ops=true keeps them equal.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from recjax.embeddings.rows import PADDING_ROW, gather_rows
from recjax.embeddings.strategies import Partition

Write = Callable[[Any, Array, Array], Any]

CAPACITY_SLACK = 1.25
"""Room above an even spread, of a capacity that no data were measured for."""


class _Route(NamedTuple):
  """Lookups, and the distinct rows among them.

  Attributes:
    rows: of each lookup; PADDING_ROW for padding.
    distinct: rows in ascending order, filled up with PADDING_ROW.
    order: lookups, sorted by row.
    segment: place in `distinct` of each lookup of `order`.
    place: place in `distinct` of each lookup.
  """

  rows: Array
  distinct: Array
  order: Array
  segment: Array
  place: Array


def default_capacity(partition: Partition, num_lookups: int) -> int:
  """Rows that go from a device to an owner in a round.

    C = min(n, block, CAPACITY_SLACK n / S)

  Args:
    partition: its block and S, the pieces along the rows.
    num_lookups: n, of a device, after those of other columns joined.

  Returns:
    C; a multiple of 8 unless it is n or the block.
  """
  even = CAPACITY_SLACK * num_lookups / partition.row_shards
  return min(num_lookups, partition.block, -(-int(even + 1) // 8) * 8)


@dataclasses.dataclass(frozen=True)
class RowExchange:
  """Sends lookups by their row.

  Attributes:
    partition: of the array.
    capacity: C; 0 takes the default, and none is above the lookups there are.
  """

  partition: Partition
  capacity: int = 0

  def fetch(
    self, table: Float[Array, "block width"], rows: Int[Array, " n"]
  ) -> Float[Array, "n dim"]:
    """Reads rows wherever they lie.

    Args:
      table: this device's piece of the array.
      rows: of the lookups of this device; those outside are padding.

    Returns:
      The rows as float32; zero for padding.
    """
    columns = self.partition.columns
    rows = self._join(rows)
    if self.partition.rows:
      found = self._fetch(table, self._route(rows))
    else:
      found = gather_rows(table, rows)
    if columns:
      found = move_bits(
        lambda x: lax.all_to_all(x, columns, 0, 1, tiled=True), found
      )
    return found.astype(jnp.float32)

  def deliver(
    self,
    state: Any,
    rows: Int[Array, " n"],
    grads: Float[Array, "n dim"],
    write: Write,
  ) -> Any:
    """Brings the gradients of this device's lookups to the owners.

    Args:
      state: what `write` changes, such as this device's piece of a table.
      rows: of the lookups.
      grads: of what `fetch` gave.
      write: (state, rows of the piece, their gradients) -> state. A row comes
        in one call only, but may come several times in it; PADDING_ROW is to
        be left out.

    Returns:
      The state after all calls of `write`.
    """
    part = self.partition
    rows = self._join(rows)
    if part.columns:
      grads = lax.all_to_all(grads, part.columns, 1, 0, tiled=True)
    if not part.rows and not part.replicas:
      return write(state, rows, grads)
    route = self._route(rows)
    sums = jax.ops.segment_sum(
      grads[route.order],
      route.segment,
      num_segments=grads.shape[0],
      indices_are_sorted=True,
    )
    return self._deliver(state, route.distinct, sums, write)

  def _join(self, rows):
    """The lookups of all devices that hold columns of the same rows."""
    if not self.partition.columns:
      return rows
    return lax.all_gather(rows, self.partition.columns, tiled=True)

  def _route(self, rows) -> _Route:
    n = rows.shape[0]
    rows = self._clean(rows)
    ordered, order = lax.sort_key_val(rows, jnp.arange(n, dtype=jnp.int32))
    is_new = jnp.concatenate(
      [jnp.zeros((1,), jnp.int32), jnp.int32(ordered[1:] != ordered[:-1])]
    )
    segment = jnp.cumsum(is_new)
    distinct = jnp.full((n,), PADDING_ROW).at[segment].set(ordered)
    place = jnp.zeros((n,), jnp.int32).at[order].set(segment)
    return _Route(rows, distinct, order, segment, place)

  def _fetch(self, table, route):
    """Rounds of requests and answers over the pieces of the rows."""
    part = self.partition
    rows = route.rows
    starts, capacity = self._starts(route.distinct), self._capacity(rows)
    owner = jnp.minimum(rows // part.block, part.row_shards - 1)

    def one_round(index, out):
      begin = starts[:-1] + index * capacity
      ids, _ = _window(route.distinct, begin, starts[1:], capacity)
      asked = _swap(ids, part.rows).reshape(-1)
      answer = gather_rows(table, self._local(asked))
      answer = answer.reshape(*ids.shape, part.width)
      answer = move_bits(lambda x: _swap(x, part.rows), answer)
      place = route.place - begin[owner]
      here = (rows < part.num_rows) & (place >= 0) & (place < capacity)
      picked = gather_rows(
        answer.reshape(-1, part.width),
        jnp.where(here, owner * capacity + place, PADDING_ROW),
      )
      return jnp.where(here[:, None], picked, out)

    out = jnp.zeros((rows.shape[0], part.width), table.dtype)
    if self._takes_one_round(rows):
      return one_round(0, out)
    most = jnp.max(jnp.diff(starts))
    rounds = lax.pmax(-(-most // capacity), part.rows + part.replicas)
    return lax.fori_loop(0, rounds, one_round, out)

  def _deliver(self, state, distinct, sums, write):
    """Rounds of sums, each of a range of rows that all devices agree on."""
    part = self.partition
    starts = self._starts(distinct)
    capacity = self._capacity(distinct)
    # First rows of the blocks after each owner's.
    ends = (1 + jnp.arange(part.row_shards, dtype=jnp.int32)) * part.block

    def send(begin, end, state):
      ids, places = _window(distinct, begin, end, capacity)
      values = sums.at[places].get(mode="clip")
      ids = _swap(ids, part.rows).reshape(-1)
      values = _swap(values, part.rows).reshape(-1, part.width)
      if part.replicas:
        ids = lax.all_gather(ids, part.replicas, tiled=True)
        values = lax.all_gather(values, part.replicas, tiled=True)
      return write(state, self._local(ids), values)

    if self._takes_one_round(distinct):
      return send(starts[:-1], starts[1:], state)

    def one_round(carry):
      begin, _, state = carry
      end = jnp.minimum(begin + capacity, starts[1:])
      left = distinct.at[end].get(mode="fill", fill_value=PADDING_ROW)
      left = jnp.where(end < starts[1:], left, ends)
      left = lax.pmin(left, part.rows + part.replicas)
      end = jnp.searchsorted(distinct, left).astype(jnp.int32)
      return end, jnp.any(left < ends), send(begin, end, state)

    carry = (starts[:-1], jnp.bool_(True), state)
    return lax.while_loop(lambda carry: carry[1], one_round, carry)[2]

  def _clean(self, rows):
    """Rows outside the array become PADDING_ROW."""
    inside = (rows >= 0) & (rows < self.partition.num_rows)
    return jnp.where(inside, rows, PADDING_ROW)

  def _local(self, rows):
    """Rows of the array -> rows of this device's piece."""
    return local_rows(self.partition, rows)

  def _starts(self, distinct):
    """Where in `distinct` the rows of each owner start, and the last end."""
    part = self.partition
    edges = jnp.arange(part.row_shards + 1, dtype=jnp.int32) * part.block
    return jnp.searchsorted(distinct, edges).astype(jnp.int32)

  def _capacity(self, rows) -> int:
    n = rows.shape[0]
    if not self.capacity:
      return default_capacity(self.partition, n)
    return min(self.capacity, n, self.partition.block)

  def _takes_one_round(self, rows) -> bool:
    return self._capacity(rows) >= min(rows.shape[0], self.partition.block)


def local_rows(
  partition: Partition, rows: Int[Array, " n"]
) -> Int[Array, " n"]:
  """Rows of the array as rows of this device's piece; others are padding."""
  if not partition.rows:
    return rows
  rows -= lax.axis_index(partition.rows) * partition.block
  return jnp.where((rows >= 0) & (rows < partition.block), rows, PADDING_ROW)


def move_bits(move: Callable[[Array], Array], rows: Array) -> Array:
  """Moves rows as words of their width.

  Compilers may widen a bfloat16 collective to float32, and double its bytes.
  """
  if rows.dtype.itemsize != 2:
    return move(rows)
  words = move(lax.bitcast_convert_type(rows, jnp.uint16))
  return lax.bitcast_convert_type(words, rows.dtype)


def _window(distinct, begin, end, capacity):
  """Up to `capacity` rows for each owner, from `begin` before `end`."""
  places = begin[:, None] + jnp.arange(capacity, dtype=jnp.int32)[None]
  ids = distinct.at[places].get(mode="clip")
  return jnp.where(places < end[:, None], ids, PADDING_ROW), places


def _swap(x, axes):
  """What is addressed to device i along the leading axis goes there."""
  return lax.all_to_all(x, axes, 0, 0) if axes else x
