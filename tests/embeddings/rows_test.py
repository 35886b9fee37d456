"""Rows are read, summed and updated as NumPy does it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from recjax.embeddings import rows as rows_module
from recjax.embeddings.row_optimizers import SGD, Adagrad, RowWiseAdagrad
from recjax.embeddings.rows import (
  PADDING_ROW,
  gather_rows,
  last_lookups,
  sum_duplicates,
  update_rows,
)

NUM_ROWS, DIM = 50, 3


def _compiled(update):
  """The update as one program; settings are static."""

  def run(*args, before=None, **settings):
    return jax.jit(functools.partial(update, **settings))(*args, before=before)

  return run


def _sorted(*args, before, optimizer, max_norm=0.0):
  """What an accelerator runs."""
  return rows_module._update_sorted(
    *args, before, optimizer=optimizer, max_norm=max_norm
  )


PATHS = {"as chosen": _compiled(update_rows), "sorted": _compiled(_sorted)}
GATHERS = {"as chosen": gather_rows, "elsewhere": rows_module._gather}


def _table(seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(NUM_ROWS, DIM)).astype(np.float32)


def _lookups(num_lookups, num_distinct=20, seed=0):
  """Rows with repeats, some outside the table, and gradients of all."""
  rng = np.random.default_rng(seed)
  rows = rng.integers(0, num_distinct, num_lookups).astype(np.int32)
  outside = rng.random(num_lookups) < 0.2
  choices = np.array([-1, -NUM_ROWS, NUM_ROWS, PADDING_ROW], np.int32)
  rows[outside] = rng.choice(choices, outside.sum())
  grads = rng.normal(size=(num_lookups, DIM)).astype(np.float32)
  return rows, grads


def _inside(rows):
  return (rows >= 0) & (rows < NUM_ROWS)


def _dense(rows, grads):
  """The gradient of the whole table."""
  total = np.zeros((NUM_ROWS, DIM))
  np.add.at(total, rows[_inside(rows)], grads[_inside(rows)])
  return total


@pytest.fixture
def small_blocks(monkeypatch):
  """Blocks that a few lookups fill."""
  monkeypatch.setattr(rows_module, "_BLOCK_ELEMENTS", 7 * DIM)
  monkeypatch.setattr(rows_module, "_REPEATS_BLOCK", 4)


@pytest.mark.parametrize("gather", GATHERS.values(), ids=GATHERS)
def test_gather_is_indexing_and_zero_outside(gather):
  table = _table()
  table[[0, -1]] = np.nan  # What a clipped index would read.
  table[3] = -0.0
  rows = np.r_[_lookups(60)[0] % 19 + 1, -1, -49, 50, 10**6, PADDING_ROW]
  rows = rows.astype(np.int32)
  expected = np.where(_inside(rows)[:, None], table[rows % NUM_ROWS], 0.0)
  read = jax.jit(gather)(jnp.asarray(table), jnp.asarray(rows))
  np.testing.assert_array_equal(read, expected)
  np.testing.assert_array_equal(np.signbit(read), np.signbit(expected))


def test_gather_of_padding_alone_is_zero():
  table = jnp.full((NUM_ROWS, DIM), jnp.nan)
  read = gather_rows(table, jnp.full((4,), PADDING_ROW))
  np.testing.assert_array_equal(read, np.zeros((4, DIM)))


def test_gather_keeps_the_dtype():
  table = jnp.asarray(_table(), jnp.bfloat16)
  read = gather_rows(table, jnp.array([3, 4]))
  assert read.dtype == jnp.bfloat16
  np.testing.assert_array_equal(read, table[3:5])


@pytest.mark.parametrize("gather", GATHERS.values(), ids=GATHERS)
def test_gradient_of_gather_is_the_scattered_one(gather):
  rows, towards = _lookups(40)

  def loss(table):
    return jnp.sum(gather(table, jnp.asarray(rows)) * towards)

  gradient = jax.jit(jax.grad(loss))(jnp.asarray(_table()))
  np.testing.assert_allclose(gradient, _dense(rows, towards), atol=1e-5)


@pytest.mark.parametrize(
  "rows",
  [
    [7],
    np.arange(300),
    np.zeros(300),
    np.random.default_rng(0).integers(0, 40, 300),
    np.random.default_rng(1).integers(-(2**31), 2**31 - 1, 300),
    # Equal in their low bits, and in their high bits.
    np.random.default_rng(2).integers(0, 100, 300) << 20,
    (2**30 + np.random.default_rng(3).integers(0, 100, 300)),
    np.tile([-1, PADDING_ROW, 0, PADDING_ROW, -1, -(2**31)], 50),
  ],
  ids=[
    "one",
    "all different",
    "all alike",
    "repeats",
    "any words",
    "low bits alike",
    "high bits alike",
    "padding",
  ],
)
def test_last_lookups_against_brute_force(rows):
  rows = np.asarray(rows, np.int32)
  expected = [np.flatnonzero(rows == row)[-1] for row in rows]
  last = jax.jit(last_lookups)(jnp.asarray(rows))
  np.testing.assert_array_equal(last, expected)


def test_last_lookups_in_a_crowd():
  """Rows that the first hash sends to one slot are told apart all the same."""
  n = 64
  every = np.arange(2**20, dtype=np.uint32)
  slots = (every * np.uint32(0x9E3779B9)) >> np.uint32(32 - 7)
  crowd = every[slots == 5][:n].astype(np.int32)
  assert len(crowd) == n
  np.testing.assert_array_equal(last_lookups(jnp.asarray(crowd)), np.arange(n))


@pytest.mark.parametrize("num_distinct", [1, 20, NUM_ROWS])
def test_sum_duplicates_against_numpy(num_distinct):
  rows, grads = _lookups(40, num_distinct)
  distinct, sums = map(
    np.asarray,
    sum_duplicates(jnp.asarray(rows), jnp.asarray(grads), num_rows=NUM_ROWS),
  )
  expected = np.unique(rows[_inside(rows)])
  count = len(expected)
  np.testing.assert_array_equal(distinct[:count], expected)
  np.testing.assert_allclose(
    sums[:count], _dense(rows, grads)[expected], atol=1e-5
  )
  spare = distinct[count:]
  assert np.all(spare >= NUM_ROWS) and len(set(spare)) == len(spare)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("num_lookups", [1, 7, 40])
def test_update_subtracts_the_sum_of_gradients(num_lookups, path, small_blocks):
  rows, grads = _lookups(num_lookups)
  table = _table()
  updated, slots = path(
    jnp.asarray(table),
    {},
    jnp.asarray(rows),
    jnp.asarray(grads),
    jnp.int32(0),
    optimizer=SGD(learning_rate=0.5),
  )
  assert slots == {}
  expected = table - 0.5 * _dense(rows, grads)
  np.testing.assert_allclose(updated, expected, atol=1e-5)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_untouched_rows_and_slots_keep_every_bit(path, small_blocks):
  rows, grads = _lookups(40)
  optimizer = Adagrad(learning_rate=0.1, weight_decay=0.1)
  slots = {"sum_squares": jnp.asarray(np.abs(_table(1)))}
  table = _table()
  table[[25, 49]] = [[np.nan], [-0.0]]
  args = (slots, jnp.asarray(rows), jnp.asarray(grads), jnp.int32(0))
  new_table, new_slots = path(
    jnp.asarray(table), *args, optimizer=optimizer, max_norm=0.1
  )
  touched = np.isin(np.arange(NUM_ROWS), rows)
  assert 10 < touched.sum() < 30
  for new, old in (
    (new_table, table),
    (new_slots["sum_squares"], slots["sum_squares"]),
  ):
    new, old = np.asarray(new), np.asarray(old)
    np.testing.assert_array_equal(
      new[~touched].view(np.int32), old[~touched].view(np.int32)
    )
    assert np.all(np.any(new[touched] != old[touched], axis=1))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_duplicates_are_summed_before_the_optimizer(path):
  grads = np.array([[1.0, 2.0, 3.0], [5.0, -2.0, 1.0]], np.float32)
  table, slots = path(
    jnp.zeros((NUM_ROWS, DIM)),
    {"sum_squares": jnp.zeros((NUM_ROWS, DIM))},
    jnp.array([4, 4]),
    jnp.asarray(grads),
    jnp.int32(0),
    optimizer=Adagrad(learning_rate=1.0, initial_accumulator=0.0, eps=0.0),
  )
  # (1 + 5)^2, not 1^2 + 5^2.
  np.testing.assert_allclose(slots["sum_squares"][4], [36.0, 0.0, 16.0])
  np.testing.assert_allclose(table[4], [-1.0, 0.0, -1.0], rtol=1e-6)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_gradients_of_padding_do_not_matter(path, small_blocks):
  rows, grads = _lookups(40)
  update = lambda grads: path(
    jnp.asarray(_table()),
    {"sum_squares": jnp.full((NUM_ROWS, 1), 0.1)},
    jnp.asarray(rows),
    jnp.asarray(grads),
    jnp.int32(0),
    optimizer=RowWiseAdagrad(),
  )
  spoilt = np.where(_inside(rows)[:, None], grads, np.nan)
  jax.tree.map(np.testing.assert_array_equal, update(spoilt), update(grads))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_max_norm_scales_touched_rows_down(path):
  table = np.zeros((NUM_ROWS, DIM), np.float32)
  table[1:4] = [[3.0, 4.0, 0.0], [0.1, 0.2, 0.2], [30.0, 40.0, 0.0]]
  updated, _ = path(
    jnp.asarray(table),
    {},
    jnp.array([1, 2]),
    jnp.zeros((2, DIM)),
    jnp.int32(0),
    optimizer=SGD(),
    max_norm=0.5,
  )
  expected = table.copy()
  expected[1] = [0.3, 0.4, 0.0]  # Rows 2, short, and 3, untouched, stay.
  np.testing.assert_allclose(updated, expected, rtol=1e-6)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_bfloat16_tables_are_updated_in_float32(path, small_blocks):
  rows, grads = _lookups(30)
  table = jnp.asarray(_table(), jnp.bfloat16)
  updated, _ = path(
    table,
    {},
    jnp.asarray(rows),
    jnp.asarray(grads),
    jnp.int32(0),
    optimizer=SGD(learning_rate=0.1),
  )
  assert updated.dtype == jnp.bfloat16
  exact = np.asarray(table, np.float64) - 0.1 * _dense(rows, grads)
  # One rounding to eight bits, and no other of that size.
  np.testing.assert_allclose(
    np.asarray(updated, np.float64), exact, rtol=2**-8 * 1.01
  )


def test_rows_read_before_need_not_be_read_again(small_blocks):
  rows, grads = map(jnp.asarray, _lookups(40))
  table = jnp.asarray(_table())
  slots = RowWiseAdagrad().slots(NUM_ROWS, DIM)
  update = functools.partial(
    PATHS["as chosen"], optimizer=RowWiseAdagrad(), max_norm=1.0
  )
  args = (table, slots, rows, grads, jnp.int32(0))
  before = gather_rows(table, rows)
  jax.tree.map(
    np.testing.assert_array_equal, update(*args, before=before), update(*args)
  )


def test_memory_follows_the_lookups_and_not_the_table():
  def temporaries(num_rows):
    shape = lambda *shape, dtype=jnp.float32: jax.ShapeDtypeStruct(shape, dtype)
    update = jax.jit(
      functools.partial(update_rows, optimizer=RowWiseAdagrad()),
      donate_argnums=(0, 1),
    )
    compiled = update.lower(
      shape(num_rows, 16),
      {"sum_squares": shape(num_rows, 1)},
      shape(4096, dtype=jnp.int32),
      shape(4096, 16),
      shape(dtype=jnp.int32),
    ).compile()
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes == 4 * num_rows * 17  # In place.
    return memory.temp_size_in_bytes

  few, many = temporaries(10_000), temporaries(10_000_000)
  assert few == many < 4 * 4096 * 16 * 8


def test_pieces_of_a_table_on_devices(small_blocks):
  """Each device takes the lookups of its rows, and the others for padding."""
  optimizer = RowWiseAdagrad(learning_rate=0.1)
  rows, grads = _lookups(60, NUM_ROWS)
  rows[rows == PADDING_ROW] = 47  # Of the last piece.
  args = (
    jnp.asarray(_table()[:48]),
    optimizer.slots(48, DIM),
    jnp.asarray(rows),
    jnp.asarray(grads),
    jnp.int32(5),
  )
  update = functools.partial(update_rows, optimizer=optimizer)
  cut, whole = PartitionSpec("model"), PartitionSpec()

  @jax.jit
  @functools.partial(
    jax.shard_map,
    mesh=Mesh(np.array(jax.devices()), ("model",)),
    in_specs=(cut, cut, whole, whole, whole),
    out_specs=(cut, cut, whole),
  )
  def local(table, slots, rows, grads, step):
    near = rows - jax.lax.axis_index("model") * table.shape[0]
    read = jax.lax.psum(gather_rows(table, near), "model")
    return *update(table, slots, near, grads, step), read

  read = np.where(((rows >= 0) & (rows < 48))[:, None], _table()[rows % 50], 0)
  expected = *jax.jit(update)(*args), read
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6),
    local(*args),
    expected,
  )
