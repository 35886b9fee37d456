"""Counts against collections.Counter, collisions against their definition."""

import collections

import numpy as np
import pyarrow as pa
import pytest

from recjax.errors import DataError
from recjax.features import hashing
from recjax.features.raw_columns import Place
from recjax.features.value_counts import CollisionCounter, ValueCounter

PLACE = Place("f", "c")


def by_count(values):
  counts = collections.Counter(v for v in values if v not in (None, ""))
  return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("block", [7, 500, 20_000])
@pytest.mark.parametrize("kind", ["integer", "text", "coded"])
def test_counts(block, kind):
  random = np.random.default_rng(block)
  values = random.zipf(1.3, 20_000) % 9000 - 10
  if kind == "integer":
    values = [None if v == 3 else int(v) for v in values]
  else:
    values = ["" if v == 3 else None if v == 4 else f"v{v}" for v in values]
  array = pa.array(values)
  counter = ValueCounter(PLACE)
  step = 20_000 if block == 7 else block
  for start in range(0, len(array), step):
    part = array[start : start + step]
    counter.add(part.dictionary_encode() if kind == "coded" else part)
  hashes, counts, found = counter.result()
  assert list(zip(found.to_pylist(), counts.tolist())) == by_count(values)
  assert hashes.tolist() == hashing.hash_array(found).tolist()


def test_nothing_to_count():
  counter = ValueCounter(PLACE)
  counter.add(pa.nulls(3, pa.string()))
  hashes, counts, values = counter.result()
  assert len(hashes) == len(counts) == len(values) == 0


def test_a_change_of_type():
  counter = ValueCounter(PLACE)
  counter.add(pa.array([1, 2]))
  with pytest.raises(DataError, match="holds text .* but integer"):
    counter.add(pa.array(["a"]))


def share_with_company(hashes, ids):
  members = collections.defaultdict(set)
  for value, bucket in zip(hashes.tolist(), ids.tolist()):
    members[bucket].add(value)
  total = sum(len(values) for values in members.values())
  shared = sum(len(v) for v in members.values() if len(v) > 1)
  return shared / total


def test_collisions():
  random = np.random.default_rng(0)
  values = random.integers(0, 3000, 20_000)  # Nearly all 3,000, repeatedly.
  hashes = hashing.hash_integers(values)
  ids = hashing.buckets(hashes, 10_000)
  counter = CollisionCounter()
  for start in range(0, len(values), 1000):
    rows = slice(start, start + 1000)
    counter.add(hashes[rows], ids[rows])
  assert counter.rate() == share_with_company(hashes, ids)
  # What is expected of n values in m buckets.
  expected = 1 - (1 - 1 / 10_000) ** 2999
  assert abs(counter.rate() - expected) < 0.03


def test_collisions_of_more_values_than_are_held():
  hashes = hashing.hash_integers(np.arange(200_000))
  ids = hashing.buckets(hashes, 300_000)
  exact = CollisionCounter()
  exact.add(hashes, ids)
  bounded = CollisionCounter(max_values=20_000)
  bounded.add(hashes, ids)
  assert exact.rate() == share_with_company(hashes, ids)
  # About 12,500 watched values, of which half collide: deviation .006 or so.
  assert bounded.rate() != exact.rate()
  assert abs(bounded.rate() - exact.rate()) < 0.03


def test_collisions_of_far_too_many_values_in_few_buckets():
  hashes = hashing.hash_integers(np.arange(50_000))
  counter = CollisionCounter(max_values=1000)
  counter.add(hashes, hashing.buckets(hashes, 3))
  assert counter.rate() == 1.0


def test_collisions_of_nothing():
  assert CollisionCounter().rate() == 0.0
