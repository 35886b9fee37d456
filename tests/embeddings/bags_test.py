"""Sums over lists against NumPy, on both roads of the code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings import bags
from recjax.embeddings.rows import PADDING_ROW

VOCAB, DIM = 50, 6


def _lists(num_bags: int, length: int):
  """Ids in any places of the lists, repeated, with lists of none."""
  rng = np.random.default_rng(num_bags)
  rows = rng.integers(0, VOCAB, (num_bags, length)).astype(np.int32)
  rows[rng.random(rows.shape) < 0.4] = PADDING_ROW
  rows[0], rows[-1, 0] = PADDING_ROW, -1
  weights = rng.uniform(-1.0, 2.0, rows.shape).astype(np.float32)
  table = rng.normal(size=(VOCAB, DIM)).astype(np.float32)
  towards = rng.normal(size=(num_bags, DIM)).astype(np.float32)
  return table, rows, weights, towards


def _expected(table, rows, weights, towards):
  """The sums, and the gradients of their product with `towards`."""
  sums = np.zeros_like(towards)
  of_table, of_weights = np.zeros_like(table), np.zeros_like(weights)
  for bag, place in np.ndindex(*rows.shape):
    row = rows[bag, place]
    if 0 <= row < len(table):
      sums[bag] += weights[bag, place] * table[row]
      of_table[row] += weights[bag, place] * towards[bag]
      of_weights[bag, place] = table[row] @ towards[bag]
  return sums, of_table, of_weights


@pytest.fixture(params=["cpu", "others"])
def sum_bags(request, monkeypatch):
  """Both roads: that of CPUs, and what accelerators are given."""
  if request.param == "others":
    monkeypatch.setattr(
      jax.lax,
      "platform_dependent",
      lambda *args, cpu, default: default(*args),
    )
  return sum_bags_of


def sum_bags_of(table, rows, weights):
  no_rows = jnp.zeros((0,), jnp.int32)
  return bags.read_table(table, no_rows, ((rows, weights),))[1][0]


@pytest.mark.parametrize("shape", [(3, 4), (40, 70), (2, 1)])
def test_sums_and_gradients(sum_bags, shape):
  table, rows, weights, towards = _lists(*shape)
  sums, of_table, of_weights = _expected(table, rows, weights, towards)
  # What stands at padding must not matter.
  inside = (rows >= 0) & (rows < VOCAB)
  weights = np.where(inside, weights, np.nan)
  args, rows = (jnp.asarray(table), jnp.asarray(weights)), jnp.asarray(rows)
  found = jax.jit(lambda t, w: sum_bags(t, rows, w))(*args)
  np.testing.assert_allclose(found, sums, atol=1e-5)
  loss = lambda t, w: jnp.sum(sum_bags(t, rows, w) * towards)
  grads = jax.jit(jax.grad(loss, (0, 1)))(*args)
  np.testing.assert_allclose(grads[0], of_table, atol=1e-4)
  np.testing.assert_allclose(grads[1], of_weights, atol=1e-5)


@pytest.mark.parametrize("num", [bags._BLOCK - 1, bags._BLOCK, bags._BLOCK + 1])
def test_blocks_that_are_full(num):
  rows = np.arange(num, dtype=np.int32)[:, None] % VOCAB
  table = np.random.default_rng(0).normal(size=(VOCAB, DIM)).astype(np.float32)
  found = sum_bags_of(jnp.asarray(table), jnp.asarray(rows), jnp.ones((num, 1)))
  np.testing.assert_array_equal(found, table[rows[:, 0]])


def test_tables_of_few_bits_are_summed_in_float32(sum_bags):
  table, rows, weights, towards = _lists(4, 300)
  stored = jnp.asarray(table, jnp.bfloat16)
  table = np.asarray(stored, np.float32)
  sums, of_table, _ = _expected(table, rows, weights, towards)
  rows, weights = jnp.asarray(rows), jnp.asarray(weights)
  np.testing.assert_allclose(sum_bags(stored, rows, weights), sums, atol=1e-4)
  loss = lambda t: jnp.sum(sum_bags(t, rows, weights) * towards)
  grads = jax.grad(loss)(stored)
  assert grads.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    np.asarray(grads, np.float32), of_table, rtol=1e-2, atol=1e-4
  )


def test_nothing_of_the_size_of_all_places_is_made():
  num_bags, length = 64, 500
  rows = jnp.zeros((num_bags, length), jnp.int32)
  loss = lambda table: jnp.sum(
    jnp.sin(sum_bags_of(table, rows, jnp.ones(rows.shape)))
  )
  compiled = jax.jit(jax.grad(loss)).lower(jnp.ones((VOCAB, DIM))).compile()
  text = compiled.as_text()
  assert f"f32[{num_bags},{DIM}]" in text  # The sums are seen there.
  assert f"f32[{num_bags * length},{DIM}]" not in text
  assert f"f32[{num_bags},{length},{DIM}]" not in text
