import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.compression import Hashing, QuotientRemainder
from recjax.embeddings.row_optimizers import SGD
from recjax.embeddings.tables import TableSpec, init_table, lookup
from recjax.errors import ConfigError


@pytest.mark.parametrize(
  "num_ids,num_rows", [(1, 128), (128, 128), (129, 256), (3417, 3456)]
)
def test_rows_are_rounded_up_to_128(num_ids, num_rows):
  assert TableSpec("item", num_ids, 4).num_rows == num_rows


def test_padding_and_rows_past_the_ids_are_zero():
  table = np.asarray(init_table(TableSpec("item", 130, 8), jax.random.key(0)))
  assert table.shape == (256, 8) and table.dtype == np.float32
  assert np.all(table[0] == 0.0) and np.all(table[130:] == 0.0)
  assert np.all(np.abs(table[1:130]).max(1) > 0.0)


def test_glorot_uniform_is_bounded_by_the_ids_alone():
  table = init_table(TableSpec("item", 1000, 24), jax.random.key(0))[1:1000]
  limit = np.sqrt(6 / (1000 + 24))  # Not 1024 rows.
  assert 0.999 * limit < np.abs(table).max() <= limit
  assert abs(np.std(table) - limit / np.sqrt(3)) < 0.01 * limit
  assert abs(np.mean(table)) < 4 * np.std(table) / np.sqrt(table.size)


def test_normal_has_the_standard_deviation_asked_for():
  spec = TableSpec("item", 1000, 24, initializer="normal", init_stddev=0.1)
  table = init_table(spec, jax.random.key(0))[1:1000]
  assert abs(np.std(table) - 0.1) < 4 * 0.1 / np.sqrt(2 * table.size)


def test_uniform_is_bounded_by_the_root_of_the_rows():
  spec = TableSpec("item", 1000, 24, initializer="uniform")
  table = init_table(spec, jax.random.key(0))[1:1000]
  limit = 1 / np.sqrt(1000)
  assert 0.999 * limit < np.abs(table).max() <= limit
  assert abs(np.std(table) - limit / np.sqrt(3)) < 0.01 * limit


def test_zeros_are_zeros():
  table = init_table(
    TableSpec("item", 10, 3, initializer="zeros"), jax.random.key(0)
  )
  np.testing.assert_array_equal(table, np.zeros((128, 3)))


def test_bfloat16_is_the_rounded_table():
  draw = lambda dtype: init_table(
    TableSpec("item", 50, 4, dtype=dtype), jax.random.key(0)
  )
  table = draw("bfloat16")
  assert table.dtype == jnp.bfloat16
  np.testing.assert_array_equal(table, draw("float32").astype(jnp.bfloat16))


@pytest.mark.parametrize(
  "compression,ids_rows",
  [
    (None, 1001),
    (Hashing(300), 301),
    (Hashing(300, num_hashes=2), 301),
    (QuotientRemainder(20), 1 + 20 + 51),
  ],
)
def test_compression_sets_the_rows(compression, ids_rows):
  spec = TableSpec("item", 1001, 2, compression=compression)
  table = np.asarray(init_table(spec, jax.random.key(0)))
  assert spec.ids_rows == ids_rows
  assert spec.num_rows == len(table) == -(-ids_rows // 128) * 128
  is_drawn = np.any(table != 0.0, axis=1)
  np.testing.assert_array_equal(np.flatnonzero(is_drawn), range(1, ids_rows))


def test_the_key_fixes_the_table():
  spec = TableSpec("item", 50, 4)
  draw = lambda seed: np.asarray(init_table(spec, jax.random.key(seed)))
  np.testing.assert_array_equal(draw(0), draw(0))
  assert np.all(draw(0)[1:50] != draw(1)[1:50])


_rng = np.random.default_rng(0)
TABLE = _rng.normal(size=(128, 3)).astype(np.float32)
IDS = {
  "item_id": _rng.integers(0, 20, (2, 4)).astype(np.int32),
  "negative": _rng.integers(0, 20, (2, 4, 5)).astype(np.int32),
  "user": np.array(7, np.int32),
}


def test_lookup_is_indexing():
  ids = jax.tree.map(jnp.asarray, IDS)
  rows = jax.jit(lookup)(jnp.asarray(TABLE), ids)
  assert set(rows) == set(IDS)
  for name, array in IDS.items():
    np.testing.assert_array_equal(rows[name], TABLE[array])


def test_gradient_of_lookup_adds_up_what_each_row_gets():
  towards = {
    name: _rng.normal(size=(*array.shape, 3)) for name, array in IDS.items()
  }

  def loss(table):
    rows = lookup(table, jax.tree.map(jnp.asarray, IDS))
    return sum(jnp.sum(rows[name] * towards[name]) for name in IDS)

  expected = np.zeros((128, 3))
  for name, array in IDS.items():
    np.add.at(expected, array, towards[name])
  gradient = jax.jit(jax.grad(loss))(jnp.asarray(TABLE))
  np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"num_ids": 0}, r"TableSpec\('item'\).num_ids must lie in"),
    ({"dim": 0}, r"TableSpec\('item'\).dim must lie in"),
    ({"initializer": "norml"}, "Did you mean 'normal'"),
    ({"init_stddev": -1.0}, r"TableSpec\('item'\).init_stddev must lie in"),
    ({"sharding": "rowwise"}, "Did you mean 'row_wise'"),
    ({"dtype": "float16"}, r"TableSpec\('item'\).dtype must be one of"),
    ({"optimizer": SGD(), "max_norm": -1.0}, "max_norm must lie in"),
    ({"max_norm": 1.0}, "max_norm needs a row-wise optimizer"),
    ({"num_ids": 2**31 - 1}, "at most 2,000,000,000 rows"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    TableSpec("item", **({"num_ids": 5, "dim": 2} | settings))
