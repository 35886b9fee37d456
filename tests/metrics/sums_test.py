"""Sums against exact fractions, where plain float32 fails."""

import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.metrics.sums import Sum, range_sums, sum_of, sum_over


def awkward(num: int = 20_000) -> np.ndarray:
  """Values of very different size: float32 forgets the small ones."""
  rng = np.random.default_rng(0)
  values = rng.random(num) * 10.0 ** rng.integers(-4, 5, num)
  return values.astype(np.float32)


def exact(total: Sum) -> np.ndarray:
  return np.asarray(total.high, np.float64) + np.asarray(total.low, np.float64)


def test_a_sum_keeps_twelve_digits():
  values = awkward()
  total = exact(jax.jit(sum_over)(jnp.asarray(values)))
  assert total == pytest.approx(math.fsum(values.tolist()), rel=1e-12)
  # Which a float32 can not hold, or the test would say nothing.
  assert float(np.float32(total)) != pytest.approx(total, rel=1e-12)


def test_sums_of_rows_and_of_numpy():
  values = awkward(600).reshape(3, 200)
  expected = [math.fsum(row.tolist()) for row in values]
  np.testing.assert_allclose(sum_of(jnp.asarray(values)), expected, rtol=1e-7)
  np.testing.assert_allclose(
    sum_of(values.astype(np.float64)), expected, rtol=1e-14
  )
  assert float(sum_of(jnp.zeros(0))) == sum_of(np.zeros(0)) == 0.0


def test_growing_one_by_one_and_merging():
  values = awkward(512)
  add = jax.jit(Sum.add)
  one, two = Sum.zeros((2,)), Sum.zeros((2,))
  for i, value in enumerate(values):
    pair = jnp.array([value, 1.0])
    one, two = (add(one, pair), two) if i % 3 else (one, add(two, pair))
  total = one.merge(two)
  expected = [math.fsum(values.tolist()), 512]
  np.testing.assert_allclose(exact(total), expected, rtol=1e-12)
  np.testing.assert_allclose(total.value(), expected, rtol=1e-7)


def test_counts_do_not_stand_still():
  count = Sum.zeros().add(jnp.float32(2**24))
  assert float(jnp.float32(2**24) + 1) == 2**24
  for _ in range(5):
    count = count.add(jnp.float32(1))
  assert exact(count) == 2**24 + 5
  for _ in range(20):
    count = count.merge(count)
  assert exact(count) == (2**24 + 5) * 2**20


def test_whole_numbers_are_exact_in_any_order():
  rng = np.random.default_rng(1)
  values = rng.integers(0, 2**24, 1000).astype(np.float32)
  total = int(values.astype(np.int64).sum())
  for _ in range(3):
    rng.shuffle(values)
    assert int(exact(sum_over(jnp.asarray(values)))) == total


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_sums_of_ranges(array):
  values = awkward(2000)
  if array is np.asarray:
    values = values.astype(np.float64)
  rng = np.random.default_rng(2)
  start = rng.integers(0, 2001, 50)
  stop = rng.integers(start, 2001)
  start[0], stop[0] = 0, 2000
  actual = range_sums(array(values))(array(start), array(stop))
  expected = [math.fsum(values[a:b].tolist()) for a, b in zip(start, stop)]
  # The small ones among large ones: differences of float32 would be noise.
  np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-5)


def test_the_errors_survive_the_optimizer():
  """The other tests run without XLA's optimizations; this one has them."""
  code = (
    "import jax, jax.numpy as jnp\n"
    "from recjax.metrics.sums import sum_over\n"
    "x = jnp.full(10**6, 1.0).at[0].set(2.0**30)\n"
    "s = jax.jit(sum_over)(x)\n"
    "print(int(s.high) + int(s.low) - 2**30)\n"
  )
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=True,
    env=environment,
  )
  assert int(done.stdout) == 10**6 - 1
