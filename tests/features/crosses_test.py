"""Crosses against the hash written out in hashing_test."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from recjax.errors import DataError
from recjax.features import hashing
from recjax.features.crosses import CrossFit
from recjax.features.specs import Cross

BLOCK = pa.table(
  {
    "a": ["x", "y", "x", None, "x", ""],
    "b": [1, 1, 2, 2, 1, 1],
    "c": ["p", "p", "p", "p", "q", "q"],
  }
)
IDS = {"age": np.array([1, 2, 0, 1, 1, 2], np.int32)}


def fitted(spec, *blocks):
  fit = CrossFit(spec)
  for block in blocks:
    fit.add(block, 0, IDS)
  return fit.finish()


def test_rows_with_equal_values_have_equal_ids():
  spec = Cross("ab", ("a", "b"), num_buckets=1_000_000)
  ids = fitted(spec, BLOCK).encode(BLOCK, 0, {})
  assert ids.dtype == np.int32
  assert ids[0] == ids[4] and len(set(ids[[0, 1, 2]])) == 3
  assert ids[3] == ids[5] == 0  # One of the values is missing.


def test_the_id_is_one_plus_the_combined_hash():
  spec = Cross("abc", ("a", "b", "c"), num_buckets=97, seed=4)
  ids = fitted(spec, BLOCK).encode(BLOCK, 0, {})
  parts = [
    hashing.hash_array(BLOCK.column(name).chunk(0)) for name in ("a", "b", "c")
  ]
  hashes = hashing.seeded(hashing.combined(parts), 4)
  for row in (0, 1, 2, 4):
    assert ids[row] == 1 + int(hashes[row]) % 97


def test_features_are_crossed_by_their_ids():
  spec = Cross("b_age", ("b",), ("age",), num_buckets=10**6)
  ids = fitted(spec, BLOCK).encode(BLOCK, 0, IDS)
  assert ids[2] == 0 and ids[0] == ids[4] and ids[1] == ids[5]
  assert ids[0] != ids[1] != ids[3]


def test_order_and_seed_matter():
  both = pa.table({"a": ["x"], "b": ["y"]})
  made = [
    Cross("c", ("a", "b"), num_buckets=10**9),
    Cross("c", ("b", "a"), num_buckets=10**9),
    Cross("c", ("a", "b"), num_buckets=10**9, seed=1),
  ]
  ids = {int(fitted(spec, both).encode(both, 0, {})[0]) for spec in made}
  assert len(ids) == 3


def test_collision_rate():
  pairs = list(itertools.product(range(40), range(50)))
  block = pa.table({"a": [a for a, _ in pairs], "b": [b for _, b in pairs]})
  spec = Cross("ab", ("a", "b"), num_buckets=5000)
  encoder = fitted(spec, block, block)
  counts = np.bincount(encoder.encode(block, 0, {}))
  assert encoder.collision_rate == counts[counts > 1].sum() / 2000
  # Of 2,000 values in 5,000 buckets.
  assert abs(encoder.collision_rate - (1 - (1 - 1 / 5000) ** 1999)) < 0.05
  assert encoder.num_ids == 5001


def test_a_rate_that_was_not_counted():
  assert np.isnan(fitted(Cross("ab", ("a", "b"))).collision_rate)


def test_a_missing_column():
  with pytest.raises(DataError, match="feature 'ad' reads the column 'd'"):
    fitted(Cross("ad", ("a", "d")), BLOCK)
