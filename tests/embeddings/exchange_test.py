import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from recjax.embeddings.collectives import collectives
from recjax.embeddings.exchange import RowExchange, default_capacity, move_bits
from recjax.embeddings.layouts import ArrayLayout
from recjax.embeddings.rows import PADDING_ROW
from recjax.embeddings.strategies import make_partition
from recjax.embeddings.tables import TableSpec
from recjax.train.mesh import MeshConfig, make_mesh

NUM_ROWS, DIM, LOOKUPS = 512, 8, 20
ALL = PartitionSpec(("data", "model"))
_rng = np.random.default_rng(0)
TABLE = _rng.normal(size=(NUM_ROWS, DIM)).astype(np.float32)
GRADS = _rng.normal(size=(8 * LOOKUPS, DIM)).astype(np.float32)


def skews():
  """Lookups of eight devices, [8 * LOOKUPS]."""
  rng = np.random.default_rng(1)
  n = 8 * LOOKUPS
  device = np.repeat(np.arange(8), LOOKUPS)
  place = np.tile(np.arange(LOOKUPS), 8)
  even = rng.integers(0, NUM_ROWS, n)
  return {
    "even": even,
    # Everything that is asked for lies in the rows of one device.
    "one owner": rng.integers(NUM_ROWS - 64, NUM_ROWS, n),
    "one row": np.full(n, 3),
    # No two devices ask for neighbours, so they agree on few in a round.
    "apart": device * 64 + place,
    "apart, of one owner": (7 - device) + 8 * (place % 8),
    "one asks, all others do not": np.where(device == 5, place, PADDING_ROW),
    "padding": np.where(rng.random(n) < 0.5, PADDING_ROW, even),
    "nothing": np.full(n, PADDING_ROW),
  }


def layout(dtype="float32"):
  spec = TableSpec("t", NUM_ROWS, DIM, dtype=dtype)
  return ArrayLayout("t", (spec,), (0,), NUM_ROWS)


@functools.cache
def functions(strategy, shape, capacity, dtype="float32"):
  """Compiled (table, rows, grads) -> rows, sums, how often each was written."""
  mesh = make_mesh(MeshConfig(*shape))
  part = make_partition(layout(dtype), strategy, mesh.shape)
  exchange = RowExchange(part, capacity)

  def write(state, rows, grads):
    sums, visits, calls = state
    touched = jnp.zeros_like(visits).at[rows].max(1, mode="drop")
    sums = sums.at[rows].add(grads, mode="drop")
    return sums, visits + touched, calls + 1

  def local(table, rows, grads):
    state = (jnp.zeros(table.shape), jnp.zeros(table.shape[0], jnp.int32), 0)
    fetched = exchange.fetch(table, rows)
    sums, visits, calls = exchange.deliver(state, rows, grads, write)
    return fetched, sums, visits, jnp.reshape(calls, 1)

  visited = PartitionSpec(part.rows or None)
  mapped = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(part.spec, ALL, ALL),
    out_specs=(ALL, part.spec, visited, ALL),
    check_vma=False,
  )
  place = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))
  table = place(jnp.asarray(TABLE, dtype), part.spec)
  compiled = jax.jit(mapped).lower(table, *_lookups(place, 0)).compile()

  def call(rows):
    return compiled(table, *_lookups(place, rows))

  return call, compiled, part


def _lookups(place, rows):
  rows = np.broadcast_to(np.asarray(rows, np.int32), 8 * LOOKUPS)
  return place(rows, ALL), place(GRADS, ALL)


def oracle(rows):
  """Rows and sums of gradients, in NumPy."""
  inside = rows < NUM_ROWS
  fetched = np.where(inside[:, None], TABLE[np.minimum(rows, 511)], 0.0)
  sums = np.zeros_like(TABLE)
  np.add.at(sums, rows[inside], GRADS[inside])
  return fetched, sums


@pytest.mark.parametrize(
  ("strategy", "shape", "capacity"),
  [
    ("row_wise", (4, 2), 0),
    ("row_wise", (1, 8), 1),
    ("row_wise_replicated", (2, 4), 2),
    ("data_parallel", (4, 2), 5),
    ("column_wise", (1, 8), 0),
    ("two_dimensional", (4, 2), 4),
  ],
)
def test_no_skew_drops_a_lookup_or_writes_a_row_twice(
  strategy, shape, capacity
):
  call, _, part = functions(strategy, shape, capacity)
  for name, rows in skews().items():
    fetched, sums, visits, calls = map(np.asarray, call(rows))
    expected, expected_sums = oracle(rows)
    np.testing.assert_array_equal(fetched, expected, err_msg=name)
    np.testing.assert_allclose(
      sums, expected_sums, rtol=1e-5, atol=1e-5, err_msg=name
    )
    looked_up = np.bincount(rows[rows < NUM_ROWS], minlength=NUM_ROWS) > 0
    np.testing.assert_array_equal(visits, looked_up, err_msg=name)
    if capacity and name == "one owner":
      assert calls[0] > 1


def test_an_even_spread_takes_one_round_and_a_skew_more():
  call, _, part = functions("row_wise", (4, 2), 0)
  rounds = {name: int(call(rows)[3][0]) for name, rows in skews().items()}
  assert default_capacity(part, LOOKUPS) == 8
  assert rounds["even"] == rounds["one row"] == rounds["nothing"] == 1
  # 20 distinct rows of one device go in rounds of 8.
  assert rounds["one asks, all others do not"] == 3


def test_a_capacity_for_all_that_can_be_asked_needs_no_agreement():
  _, compiled, _ = functions("row_wise", (4, 2), LOOKUPS)
  kinds = [collective.kind for collective in collectives(compiled.as_text())]
  # The ids of rows and of gradients are the same and travel once.
  assert kinds == ["all-to-all"] * 3


@pytest.mark.parametrize(
  ("shards", "lookups", "capacity"),
  [((4, 2), 1000, 160), ((4, 2), 4, 4), ((1, 1), 1000, 512), ((8, 1), 8, 8)],
)
def test_the_default_capacity_has_room_above_an_even_spread(
  shards, lookups, capacity
):
  shape = dict(zip(("data", "model"), shards, strict=True))
  part = make_partition(layout(), "row_wise", shape)
  found = default_capacity(part, lookups)
  # 1.25 * 1000 / 8 = 156.25, in eights; never above block or lookups.
  assert found == min(capacity, part.block, lookups)


def test_rows_of_bfloat16_travel_in_two_bytes():
  call, compiled, part = functions("two_dimensional", (4, 2), 0, "bfloat16")
  rows = skews()["even"]
  fetched = np.asarray(call(rows)[0])
  expected = np.asarray(jnp.asarray(oracle(rows)[0], "bfloat16"), np.float32)
  np.testing.assert_array_equal(fetched, expected)
  text = compiled.as_text()
  moved = [c for c in collectives(text) if "u16" in c.shape]
  joined = LOOKUPS * part.column_shards
  sent = part.row_shards * default_capacity(part, joined) * part.width
  assert moved[0].bytes == 2 * sent
  assert "bf16" not in " ".join(c.shape for c in collectives(text))


def test_words_are_moved_bit_by_bit():
  rows = jnp.array([[1.5, np.nan, -0.0]], jnp.bfloat16)
  seen = []
  moved = move_bits(lambda x: (seen.append(x.dtype), x)[1], rows)
  assert seen == [jnp.uint16] and moved.dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    np.asarray(moved).view(np.uint16), np.asarray(rows).view(np.uint16)
  )
  move_bits(lambda x: (seen.append(x.dtype), x)[1], rows.astype(jnp.float32))
  assert seen[1] == jnp.float32
