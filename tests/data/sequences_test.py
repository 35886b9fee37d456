import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import sequences
from recjax.data.interactions import Interactions
from recjax.data.splits import LeaveOneOut
from recjax.errors import DataError

MAX_LEN, BATCH = 7, 5
NUM_ITEMS = np.random.default_rng(0).integers(2, 12, 23).astype(np.int32)


def oracle_first_fit(lengths, row_len):
  filled, places = [0] * len(lengths), []
  for length in lengths:
    for row in range(len(filled)):
      if filled[row] + length <= row_len:
        places.append((row, filled[row]))
        filled[row] += length
        break
  return places


# -- Training sequences -------------------------------------------------------


def test_training_sequences_are_the_training_items_in_time_order():
  interactions = Interactions.from_columns(
    "toy",
    {
      "user_id": np.array([2, 1, 1, 1, 1, 2, 3, 4, 4, 4]),
      "item_id": np.array([5, 9, 8, 7, 6, 4, 3, 1, 2, 3]),
      "timestamp": np.array([2, 4, 3, 2, 1, 1, 1, 1, 2, 3]),
    },
  )
  split = LeaveOneOut(min_actions=3)(interactions)
  rows = sequences.training_sequences(interactions, split)
  # User 1 keeps 6 7 of 6 7 8 9; user 2 has two events and keeps both; user 3
  # has one, and user 4 keeps one: no next item.
  assert [row.tolist() for row in rows] == [[6, 7], [4, 5]]


def test_training_sequences_of_nobody_are_an_error():
  interactions = Interactions.from_columns(
    "toy", {"user_id": np.array([1, 1, 1]), "item_id": np.array([1, 2, 3])}
  )
  split = LeaveOneOut()(interactions)
  with pytest.raises(DataError, match="no user of 'toy' has two training"):
    sequences.training_sequences(interactions, split)


# -- The plan of an epoch -----------------------------------------------------


@functools.cache
def plan(seed=0):
  made = sequences.plan_epoch(
    jax.random.key(seed),
    jnp.asarray(NUM_ITEMS),
    batch_size=BATCH,
    max_len=MAX_LEN,
  )
  return jax.tree.map(np.asarray, made)


@pytest.mark.parametrize(
  "sequences_,batch,steps", [(1, 5, 1), (5, 5, 1), (6, 5, 2), (23, 5, 5)]
)
def test_steps_visit_every_sequence_once(sequences_, batch, steps):
  assert sequences.num_steps_per_epoch(sequences_, batch) == steps


def test_an_epoch_visits_each_sequence_once_at_its_length():
  found = plan().sequence
  assert found.shape == (5, BATCH)
  used = found[found >= 0]
  assert sorted(used) == list(range(23))
  assert np.all(found[:-1] >= 0)  # Only the last step is short.
  lengths = np.minimum(NUM_ITEMS - 1, MAX_LEN)
  expected = np.where(found >= 0, lengths[found], 0)
  np.testing.assert_array_equal(plan().length, expected)


def test_no_two_sequences_share_a_cell_and_no_row_overflows():
  for step in range(5):
    taken = np.zeros((BATCH, MAX_LEN), int)
    length, row, offset = (x[step] for x in plan()[1:4])
    assert np.all(offset + length <= MAX_LEN)
    for n, r, start in zip(length, row, offset, strict=True):
      taken[r, start : start + n] += 1
    assert taken.max() == 1
    used = np.flatnonzero(taken.any(1))
    np.testing.assert_array_equal(used, np.arange(plan().num_rows[step]))


def test_longest_first_and_the_first_row_with_room():
  for step in range(5):
    length = plan().length[step]
    assert np.all(np.diff(length) <= 0)
    places = zip(plan().row[step], plan().offset[step], strict=True)
    assert list(places) == oracle_first_fit(length, MAX_LEN)


def test_the_key_fixes_the_order():
  again = sequences.plan_epoch(
    jax.random.key(0),
    jnp.asarray(NUM_ITEMS),
    batch_size=BATCH,
    max_len=MAX_LEN,
  )
  jax.tree.map(np.testing.assert_array_equal, tuple(again), tuple(plan()))
  assert np.mean(plan(1).sequence == plan().sequence) < 0.5


def test_the_order_is_a_fair_shuffle():
  first = [plan(seed).sequence[0] for seed in range(60)]
  counts = np.bincount(np.concatenate(first), minlength=23)
  expected = 60 * BATCH / 23
  assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


@pytest.mark.parametrize("seed", range(5))
def test_first_fit_equals_the_oracle_on_any_order(seed):
  lengths = np.random.default_rng(seed).integers(0, MAX_LEN + 1, 30)
  row, offset = _first_fit(jnp.asarray(lengths, jnp.int32))
  places = list(zip(row.tolist(), offset.tolist(), strict=True))
  assert places == oracle_first_fit(lengths, MAX_LEN)


_first_fit = jax.jit(functools.partial(sequences.first_fit, row_len=MAX_LEN))


# -- Packing ------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["from_end", "from_start"])
def test_pack_equals_the_oracle(positions):
  rng = np.random.default_rng(1)
  length = np.array([7, 4, 3, 2, 0], np.int32)
  row = np.array([1, 0, 0, 2, 0], np.int32)
  offset = np.array([0, 0, 4, 3, 7], np.int32)
  # Garbage stands past the end of each sequence: it must not be read.
  window = rng.integers(1, 99, (5, MAX_LEN + 1)).astype(np.int32)
  expected = np.zeros((4, 3, MAX_LEN), np.int32)
  for n in range(5):
    for i in range(length[n]):
      first = MAX_LEN - length[n] if positions == "from_end" else 0
      cell = (window[n, i], window[n, i + 1], first + i, n + 1)
      expected[:, row[n], offset[n] + i] = cell
  packed = sequences.pack(
    *map(jnp.asarray, (window, length, row, offset)),
    num_rows=3,
    positions=positions,
  )
  assert packed._fields == (
    "item_id",
    "target_id",
    "position",
    "segment_id",
  )
  for got, want in zip(packed, expected, strict=True):
    np.testing.assert_array_equal(got, want)
    assert got.dtype == jnp.int32
