"""Compressions: where ids go, and what of them collides."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.compression import Hashing, QuotientRemainder
from recjax.errors import ConfigError


def _rows(compression, ids):
  return np.asarray(jax.jit(compression.rows)(jnp.asarray(ids, jnp.int32)))


def _sharing(rows):
  """The share of ids whose set of rows another id has too."""
  keys = [tuple(sorted(row)) for row in rows.tolist()]
  counts = collections.Counter(keys)
  return sum(counts[key] > 1 for key in keys) / len(keys)


@pytest.mark.parametrize(
  "ids", [np.arange(1, 40_001), np.arange(1, 40_001) * 64]
)
@pytest.mark.parametrize("num_buckets", [64, 100])
def test_hashing_uses_all_buckets_evenly(num_buckets, ids):
  hashing = Hashing(num_buckets, num_hashes=2, seed=3)
  rows = _rows(hashing, ids)
  assert rows.shape == (len(ids), 2)
  for part in rows.T:
    counts = np.bincount(part, minlength=num_buckets + 1)
    assert counts[0] == 0 and len(counts) == num_buckets + 1
    expected = len(ids) / num_buckets
    chi_square = np.sum((counts[1:] - expected) ** 2 / expected)
    # Of n - 1 degrees of freedom: mean n - 1, variance 2 (n - 1).
    free = num_buckets - 1
    assert abs(chi_square - free) < 4 * np.sqrt(2 * free)


def test_hashes_of_an_id_and_of_seeds_are_independent():
  ids = np.arange(1, 40_001)
  columns = np.concatenate(
    [_rows(Hashing(100, num_hashes=3, seed=seed), ids) for seed in (0, 1, 2)],
    axis=1,
  )
  for i in range(9):
    for j in range(i):
      # Two fair draws out of 100 agree in one of 100 cases.
      agree = np.mean(columns[:, i] == columns[:, j])
      assert abs(agree - 0.01) < 5 * np.sqrt(0.01 * 0.99 / len(ids))


def test_the_hash_of_an_id_depends_on_nothing_else():
  ids = np.array([[1, 7], [2**31 - 1, 7]])
  rows = _rows(Hashing(1000), ids)
  assert rows.shape == (2, 2, 1)
  np.testing.assert_array_equal(rows[0, 1], rows[1, 1])
  np.testing.assert_array_equal(rows[0, 0], _rows(Hashing(1000), [1])[0])


@pytest.mark.parametrize("num_hashes,seed", [(1, 0), (2, 0), (2, 5)])
@pytest.mark.parametrize("num_ids", [2, 50, 2000])
def test_collision_rate_against_brute_force(num_ids, num_hashes, seed):
  hashing = Hashing(60, num_hashes=num_hashes, seed=seed)
  expected = _sharing(_rows(hashing, np.arange(1, num_ids)))
  assert hashing.collision_rate(num_ids) == pytest.approx(expected)


def test_collision_rate_is_that_of_chance():
  # An id is alone among n others in b buckets with chance (1 - 1 / b)^n.
  expected = 1 - (1 - 1 / 5000) ** 1999
  assert abs(Hashing(5000).collision_rate(2001) - expected) < 0.05
  assert Hashing(5000, num_hashes=2).collision_rate(2001) < 0.01
  assert Hashing(5).collision_rate(1) == 0.0  # No id but padding.


def test_multi_hash_is_the_sum_of_its_rows():
  parts = jnp.arange(12.0).reshape(2, 3, 2)
  np.testing.assert_array_equal(
    Hashing(5, num_hashes=3).compose(parts), [[6.0, 9.0], [24.0, 27.0]]
  )


@pytest.mark.parametrize("num_ids", [1, 2, 10, 97, 100, 1000])
@pytest.mark.parametrize("num_remainders", [0, 1, 7, 2000])
def test_quotient_remainder_is_unique(num_ids, num_remainders):
  compression = QuotientRemainder(num_remainders, num_ids=num_ids)
  rows = _rows(compression, np.arange(num_ids))
  assert len({tuple(row) for row in rows.tolist()}) == num_ids
  # Row 0 is padding's, no row is both, and none is missing.
  assert rows.min() >= 1 and rows.max() < compression.num_rows(num_ids)
  assert rows[:, 0].max() < rows[:, 1].min()
  assert rows.max() == compression.num_rows(num_ids) - 1
  assert compression.collision_rate(num_ids) == 0.0


def test_quotient_remainder_of_the_root_has_the_fewest_rows():
  fewest = min(QuotientRemainder(m).num_rows(1000) for m in range(1, 1001))
  assert QuotientRemainder(num_ids=1000).num_rows(1000) <= fewest + 1


def test_quotient_remainder_composes_by_element():
  parts = jnp.array([[[2.0, 3.0], [5.0, 7.0]]])
  multiply, add = QuotientRemainder(3), QuotientRemainder(3, "add")
  np.testing.assert_array_equal(multiply.compose(parts), [[10.0, 21.0]])
  np.testing.assert_array_equal(add.compose(parts), [[7.0, 10.0]])


@pytest.mark.parametrize(
  "make,message",
  [
    (lambda: Hashing(0), "Hashing.num_buckets must lie in"),
    (lambda: Hashing(5, num_hashes=0), "Hashing.num_hashes must lie in"),
    (lambda: Hashing(5, seed=-1), "Hashing.seed must lie in"),
    (lambda: QuotientRemainder(-1), "num_remainders must lie in"),
    (lambda: QuotientRemainder(3, "mul"), "Did you mean 'multiply'"),
    (lambda: QuotientRemainder(), "QuotientRemainder.num_ids must lie in"),
  ],
)
def test_bad_settings_name_the_rule(make, message):
  with pytest.raises(ConfigError, match=message):
    make()
