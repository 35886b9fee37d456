"""Hashing against the definition written out with Python's integers."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from recjax.features import hashing
from recjax.features.hashing import HashIndex

M = 2**64
G = 0x9E3779B97F4A7C15


def mix(x):
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % M
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB % M
  return x ^ (x >> 31)


def hash_text(text):
  data = text.encode()
  total = mix((len(data) + 2 * G) % M)
  for start in range(0, len(data), 8):
    total = mix(total ^ int.from_bytes(data[start : start + 8], "little"))
  return total


TEXTS = ["", "a", "1", "01", "68fd1e64", "Ünïcödé", "x" * 8, "x" * 9, "y" * 40]
TEXTS += ["abcdefgh12345678", "abcdefgh1234567", "\0", "\0\0"]


def test_splitmix_has_its_published_values():
  # The first outputs of Java's SplittableRandom(1234567) as published in
  # Rosetta Code, "Pseudo-random numbers/Splitmix64".
  state = (1234567 + G * np.arange(1, 6, dtype=object)) % M
  expected = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
  ]
  assert hashing.mix(state.astype(np.uint64)).tolist() == expected


def test_integers():
  values = np.array([0, 1, -1, 7, 2**62, -(2**63), 2**63 - 1])
  expected = [mix((value % M + G) % M) for value in values.tolist()]
  assert hashing.hash_integers(values).tolist() == expected
  assert hashing.hash_array(pa.array(values)).tolist() == expected


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_texts_of_all_lengths(kind):
  array = pa.array(TEXTS, kind)
  expected = [hash_text(text) for text in TEXTS]
  assert hashing.hash_array(array).tolist() == expected
  assert len(set(expected)) == len(TEXTS)
  # A slice starts somewhere in the buffers.
  assert hashing.hash_array(array[3:8]).tolist() == expected[3:8]
  assert hashing.hash_array(array[:0]).tolist() == []


def test_words_of_eight_bytes_take_the_short_way_to_the_same_hash():
  texts = ["68fd1e64", None, "0a519c5c", "", "1adce6ef"]
  found = hashing.hash_array(pa.array(texts))
  for row, text in enumerate(texts):
    if text is not None:
      assert int(found[row]) == hash_text(text)
  whole = pa.array(["68fd1e64", "0a519c5c"])
  expected = [hash_text("68fd1e64"), hash_text("0a519c5c")]
  assert hashing.hash_array(whole).tolist() == expected
  assert hashing.hash_array(whole[1:]).tolist() == expected[1:]


def test_dictionaries_hash_as_what_they_stand_for():
  texts = ["b", None, "a", "b", "long enough for two words"]
  plain, coded = pa.array(texts), pa.array(texts).dictionary_encode()
  keep = [0, 2, 3, 4]
  expected = hashing.hash_array(plain)[keep].tolist()
  assert hashing.hash_array(coded)[keep].tolist() == expected
  nothing = pa.array([None], pa.dictionary(pa.int32(), pa.string()))
  assert len(hashing.hash_array(nothing)) == 1
  assert hashing.is_missing(nothing).tolist() == [True]


def test_another_process_gives_the_same_hash():
  # PYTHONHASHSEED changes Python's hash, and must not change this one.
  code = (
    "import pyarrow as pa; from recjax.features import hashing;"
    " print(hashing.hash_array(pa.array(['a', 'Straße'])).tolist())"
  )
  run = subprocess.run(
    [sys.executable, "-c", code],
    env={"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)},
    capture_output=True,
    text=True,
    check=True,
  )
  assert run.stdout.strip() == str([hash_text("a"), hash_text("Straße")])


def test_seeds_and_combinations():
  values = np.arange(5)
  base = [mix((value + G) % M) for value in range(5)]
  hashes = hashing.hash_integers(values)
  assert hashing.seeded(hashes, 0).tolist() == base
  expected = [mix((one + 3 * G) % M) for one in base]
  assert hashing.seeded(hashes, 3).tolist() == expected
  pairs = hashing.combined([hashes, hashes[::-1].copy()])
  expected = [mix((mix(a) + b) % M) for a, b in zip(base, base[::-1])]
  assert pairs.tolist() == expected
  # (1, 3) and (3, 1) differ.
  assert pairs[1] != pairs[3]


def test_buckets_are_even():
  ids = hashing.buckets(hashing.hash_integers(np.arange(100_000)), 50)
  assert ids.dtype == np.int32 and ids.min() == 1 and ids.max() == 50
  counts = np.bincount(ids)[1:]
  # Chi-squared with 49 degrees of freedom: mean 49, deviation 10.
  assert np.sum((counts - 2000.0) ** 2 / 2000.0) < 49 + 5 * 10


def test_uniform_numbers_belong_to_rows_and_not_to_blocks():
  whole = hashing.uniform(4, 0, 1000)
  parts = [hashing.uniform(4, start, 250) for start in range(0, 1000, 250)]
  assert np.concatenate(parts).tolist() == whole.tolist()
  assert hashing.uniform(5, 0, 1000)[0] != whole[0]
  share = hashing.uniform(0, 0, 100_000) / 2.0**64
  assert abs(share.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 100_000)


@pytest.mark.parametrize("num", [0, 1, 2, 3, 100, 5000])
def test_an_index_finds_what_a_dictionary_finds(num):
  random = np.random.default_rng(num)
  keys = np.unique(random.integers(0, M, num, dtype=np.uint64))
  random.shuffle(keys)
  known = {int(key): place for place, key in enumerate(keys)}
  asked = np.concatenate(
    [keys, keys + np.uint64(1), random.integers(0, M, 99, dtype=np.uint64)]
  )
  expected = [known.get(int(key), -1) for key in asked]
  index = HashIndex(keys)
  assert len(index) == len(keys)
  assert index.find(asked).tolist() == expected


def test_an_index_of_keys_that_are_not_uniform():
  # All share their highest bits and so one part of the index.
  keys = np.arange(50, 0, -1).astype(np.uint64)
  asked = np.arange(60).astype(np.uint64)
  expected = [50 - a if 1 <= a <= 50 else -1 for a in range(60)]
  assert HashIndex(keys).find(asked).tolist() == expected
  top = np.array([M - 1, M - 2, 0], np.uint64)
  assert HashIndex(top).find(top).tolist() == [0, 1, 2]


def test_missing_values():
  assert hashing.is_missing(pa.array(["a", "", None])).tolist() == [0, 1, 1]
  assert hashing.is_missing(pa.array([0, None, 3])).tolist() == [0, 1, 0]
  coded = pa.array(["a", "", None]).dictionary_encode()
  assert hashing.is_missing(coded).tolist() == [0, 1, 1]


def test_distinct():
  values = np.array([5, 2, 5, 9, 2, 5], np.uint64)
  hashes, first, counts = hashing.distinct(values)
  assert hashes.tolist() == [2, 5, 9]
  assert first.tolist() == [1, 0, 3] and counts.tolist() == [2, 3, 1]
