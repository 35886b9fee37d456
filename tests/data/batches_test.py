import jax
import numpy as np
import pytest

from recjax.data import batches as batches_lib
from recjax.data.ragged import Ragged
from recjax.data.sequences import pack
from recjax.errors import ConfigError

MAX_LEN, BATCH, NUM = 6, 4, 10
KEYS = {"window", "length", "row", "offset", "num_rows"}
_rng = np.random.default_rng(0)


def ragged(lengths):
  values = _rng.integers(1, 1000, sum(lengths)).astype(np.int32)
  offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
  return Ragged(values, offsets)


SEQUENCES = ragged([2, 9, 3, 12, 7, 2, 5, 4, 6, 8])


@pytest.fixture(scope="module")
def batches():
  return make()


def make(seed=3):
  return batches_lib.SequenceBatches(
    SEQUENCES, batch_size=BATCH, max_len=MAX_LEN, seed=seed
  )


def equal(got, want):
  assert set(got) == set(want) == KEYS
  for name in KEYS:
    np.testing.assert_array_equal(got[name], want[name])
    assert got[name].dtype == want[name].dtype == np.int32


def test_device_and_host_give_the_same_batches_bit_for_bit(batches):
  items, offsets = batches.device_data
  gather = jax.jit(batches_lib.gather_batch, static_argnames="max_len")
  assert batches.steps_per_epoch == 3
  for step in range(2 * batches.steps_per_epoch):
    epoch, index = divmod(step, batches.steps_per_epoch)
    plan = batches.plan(epoch)
    device = gather(items, offsets, plan, index, max_len=MAX_LEN)
    equal(jax.tree.map(np.asarray, device), batches.host_batch(step))


def test_windows_are_the_last_items_of_each_sequence_once_an_epoch(batches):
  for epoch in range(2):
    plan = batches.plan(epoch)
    seen = []
    for index in range(3):
      batch = batches.host_batch(epoch * 3 + index)
      for place, sequence in enumerate(np.asarray(plan.sequence[index])):
        window, length = batch["window"][place], batch["length"][place]
        if sequence < 0:
          assert length == 0 and not window.any()
          continue
        expected = SEQUENCES[int(sequence)][-(MAX_LEN + 1) :]
        np.testing.assert_array_equal(window[: length + 1], expected)
        assert not window[length + 1 :].any()
        seen.append(sequence)
    assert sorted(seen) == list(range(NUM))


def test_the_last_step_of_an_epoch_is_short(batches):
  live = [np.sum(batches.host_batch(step)["length"] > 0) for step in range(3)]
  assert live == [4, 4, 2]


def test_seed_and_epoch_fix_the_order(batches):
  equal(make().host_batch(4), batches.host_batch(4))
  other = make(seed=4).host_batch(0)["window"]
  assert np.any(other != batches.host_batch(0)["window"])
  assert np.any(
    batches.host_batch(3)["window"] != batches.host_batch(0)["window"]
  )


@pytest.mark.parametrize("count", [2, 4])
def test_shares_of_processes_make_up_the_batch(batches, count):
  for step in range(3):
    parts = [batches.host_batch(step, i, count) for i in range(count)]
    whole = batches.host_batch(step)
    for name in KEYS - {"num_rows"}:
      joined = np.concatenate([part[name] for part in parts])
      np.testing.assert_array_equal(joined, whole[name])
    assert all(part["num_rows"] == whole["num_rows"] for part in parts)


# -- Grain --------------------------------------------------------------------


def test_grain_gives_the_steps_in_order_and_ends(batches):
  found = list(batches_lib.grain_iterator(batches, 7))
  assert len(found) == 7
  for step, batch in enumerate(found):
    equal(batch, batches.host_batch(step))


def test_grain_goes_on_from_a_saved_state(batches):
  iterator = batches_lib.grain_iterator(batches, 7)
  for _ in range(4):
    next(iterator)
  state = iterator.get_state()
  fresh = batches_lib.grain_iterator(make(), 7)
  fresh.set_state(state)
  rest = list(fresh)
  assert len(rest) == 3
  for step, batch in enumerate(rest, 4):
    equal(batch, batches.host_batch(step))


def test_grain_gives_a_process_its_share(batches):
  iterator = batches_lib.grain_iterator(
    batches, 2, process_index=1, process_count=2
  )
  for step, batch in enumerate(iterator):
    equal(batch, batches.host_batch(step, 1, 2))


# -- Errors -------------------------------------------------------------------


def test_processes_must_divide_the_batch(batches):
  with pytest.raises(ConfigError, match="multiple of the 3 processes; got 4"):
    batches_lib.grain_iterator(batches, 1, process_count=3)


@pytest.mark.parametrize("name", ["batch_size", "max_len"])
def test_sizes_must_be_positive(name):
  sizes = {"batch_size": 4, "max_len": 6} | {name: 0}
  with pytest.raises(ConfigError, match=f"{name} must lie in"):
    batches_lib.SequenceBatches(SEQUENCES, seed=0, **sizes)


def test_too_many_interactions_for_a_device_are_refused():
  # Offsets alone tell the number: no such array has to be made.
  huge = Ragged(np.zeros(0, np.int32), np.array([0, 2**31], np.int64))
  batches = batches_lib.SequenceBatches(huge, batch_size=1, max_len=2, seed=0)
  with pytest.raises(ConfigError, match="Use feed='grain'"):
    _ = batches.device_data


# -- Histories ----------------------------------------------------------------


def test_history_batches_cover_each_history_once_with_its_last_items():
  histories = ragged([3, 0, 9, 1, 6, 2, 0, 7, 5, 4])
  seen = []
  batches = batches_lib.history_batches(
    histories, batch_size=4, max_len=MAX_LEN
  )
  for rows, batch in batches:
    packed = pack(
      batch["window"],
      batch["length"],
      batch["row"],
      batch["offset"],
      num_rows=4,
      positions="from_end",
    )
    for place, history in enumerate(rows):
      length = int(batch["length"][place])
      expected = histories[int(history)][-MAX_LEN:] if history >= 0 else []
      assert length == len(expected)
      cells = np.asarray(packed.segment_id) == place + 1
      np.testing.assert_array_equal(np.asarray(packed.item_id)[cells], expected)
      assert not cells[int(batch["num_rows"]) :].any()
      seen += [history] if history >= 0 else []
  assert sorted(seen) == list(range(10))


def test_history_batches_of_nobody():
  assert not list(
    batches_lib.history_batches(ragged([]), batch_size=4, max_len=MAX_LEN)
  )
