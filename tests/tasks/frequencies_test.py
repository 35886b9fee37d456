import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError, DataError
from recjax.tasks.frequencies import (
  GAP,
  LAST_STEP,
  LOG_NEVER,
  StreamingFrequency,
  count_log_probability,
  log_draw_probability,
)

BATCH, NUM_ITEMS = 16, 40


def batches(num_steps, seed=0):
  """Items of a skewed distribution, rows that count, and the distribution."""
  rng = np.random.default_rng(seed)
  q = 1.0 / np.arange(1, NUM_ITEMS + 1)
  q /= q.sum()
  items = 1 + rng.choice(NUM_ITEMS, size=(num_steps, BATCH), p=q)
  where = rng.random((num_steps, BATCH)) < 0.9
  return items.astype(np.int32), where, q


@functools.partial(jax.jit, static_argnums=0)
def run(streaming, items, where):
  """All steps; the state after each of them."""

  def step(state, inputs):
    state = streaming.update(state, *inputs)
    return state, state

  steps = jnp.arange(1, items.shape[0] + 1)
  return jax.lax.scan(step, streaming.init(), (items, where, steps))[1]


@functools.partial(jax.jit, static_argnums=0)
def update(streaming, state, item_id, where, step):
  return streaming.update(state, item_id, where, step)


@functools.partial(jax.jit, static_argnums=0)
def log_probability(streaming, state, item_id):
  return streaming.log_probability(state, item_id)


def last(states):
  return jax.tree.map(lambda x: x[-1], states)


IDS = jnp.arange(1, NUM_ITEMS + 1)


def test_updates_are_those_of_the_paper():
  """One item after another, with dictionaries instead of arrays."""
  items, where, _ = batches(12)
  streaming = StreamingFrequency(NUM_ITEMS + 1, learning_rate=0.2)
  state = last(run(streaming, items, where))
  seen, gap = {}, {}
  for step, (row, counts) in enumerate(zip(items, where, strict=True), 1):
    for item in set(row[counts].tolist()):
      before = gap.get(item, 100.0)
      gap[item] = 0.8 * before + 0.2 * (step - seen.get(item, 0))
      seen[item] = step
  expected = [1 / gap.get(item, 100.0) for item in range(1, NUM_ITEMS + 1)]
  assert 5 < len(gap) < NUM_ITEMS  # Some are never seen.
  np.testing.assert_allclose(
    jnp.exp(log_probability(streaming, state, IDS)), expected, rtol=1e-5
  )
  last_step = [seen.get(item, 0) for item in range(1, NUM_ITEMS + 1)]
  np.testing.assert_array_equal(state[LAST_STEP][0, 1:], last_step)


def test_the_estimate_is_the_probability_that_a_batch_holds_the_item():
  items, where, q = batches(6000)
  where = np.ones_like(where)
  streaming = StreamingFrequency(NUM_ITEMS + 1, initial_gap=10.0)
  states = run(streaming, items, where)
  # An average over steps: the estimate itself has a deviation.
  gap = np.mean(np.asarray(states[GAP])[2000:, 0, 1:], axis=0)
  holds = 1 - (1 - q) ** BATCH
  np.testing.assert_allclose(1 / gap, holds, rtol=0.12)
  # Which is far from the expected number of copies for popular items.
  assert BATCH * q[0] > 3 * holds[0]
  draw = jnp.exp(log_draw_probability(-jnp.log(jnp.asarray(gap)), BATCH))
  np.testing.assert_allclose(draw[1:], q[1:], rtol=0.15)


def test_the_relative_deviation_is_the_root_of_half_the_learning_rate():
  rng = np.random.default_rng(0)
  items = (1 + (rng.random((60_000, 1)) < 0.02)).astype(np.int32)
  streaming = StreamingFrequency(3, learning_rate=0.02, initial_gap=50.0)
  gap = run(streaming, items, np.ones(items.shape, bool))[GAP][:, 0, 2]
  deviation = np.std(np.asarray(gap)) / np.mean(np.asarray(gap))
  np.testing.assert_allclose(deviation, np.sqrt(0.02 / 2), rtol=0.15)


def test_copies_of_an_item_and_masked_rows_change_nothing():
  streaming = StreamingFrequency(11, learning_rate=0.5)
  see = lambda ids, where: update(
    streaming,
    streaming.init(),
    jnp.asarray(ids),
    jnp.asarray(where),
    jnp.int32(7),
  )
  once = see([3, 5], [True, True])
  often = see([3, 5, 3, 3, 8, 5], [True] * 4 + [False, True])
  jax.tree.map(np.testing.assert_array_equal, once, often)
  assert once[GAP][0, 3] == 0.5 * 100 + 0.5 * 7
  np.testing.assert_array_equal(np.flatnonzero(once[LAST_STEP][0]), [3, 5])


def test_a_step_in_two_calls_is_a_step_in_one():
  streaming = StreamingFrequency(11)
  yes, step = jnp.ones(2, bool), jnp.int32(4)
  half = update(streaming, streaming.init(), jnp.array([1, 2]), yes, step)
  both = update(streaming, half, jnp.array([2, 3]), yes, step)
  whole = update(
    streaming, streaming.init(), jnp.array([1, 2, 3]), jnp.ones(3, bool), step
  )
  jax.tree.map(np.testing.assert_array_equal, both, whole)


def too_high(num_hashes, num_buckets):
  """The share of items that look like more frequent ones."""
  items, where, _ = batches(4000)
  # Ids far apart, so that the first hash has collisions, too.
  ids = np.random.default_rng(1).permutation(10_000)[: NUM_ITEMS + 1]
  ids = ids.astype(np.int32)
  streaming = StreamingFrequency(num_buckets, num_hashes=num_hashes)
  state = last(run(streaming, ids[items], where))
  assert state[GAP].shape == (num_hashes, num_buckets)
  alone = last(run(StreamingFrequency(NUM_ITEMS + 1), items, where))
  estimate = log_probability(streaming, state, jnp.asarray(ids[1:]))
  exact = -jnp.log(alone[GAP][0, 1:])
  return np.mean(estimate > exact + np.log(1.5))


def test_several_hashes_take_the_largest_gap():
  # A collision makes an item look frequent; four arrays rarely all collide.
  assert too_high(1, 80) > 0.2
  assert too_high(4, 80) < 0.05


def test_hashes_are_not_all_the_same():
  streaming = StreamingFrequency(25, num_hashes=3)
  one = jnp.ones(1, bool)
  state = update(
    streaming, streaming.init(), jnp.array([30]), one, jnp.int32(1)
  )
  places = np.argwhere(state[LAST_STEP])
  assert len(places) == 3 and len(set(places[:, 1])) > 1


def test_ids_of_any_shape():
  streaming = StreamingFrequency(9, num_hashes=2)
  got = log_probability(
    streaming, streaming.init(), jnp.ones((2, 3), jnp.int32)
  )
  np.testing.assert_allclose(got, np.full((2, 3), -np.log(100.0)), rtol=1e-6)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"num_buckets": 0}, "num_buckets must lie in"),
    ({"num_buckets": 9, "learning_rate": 0.0}, "learning_rate must lie in"),
    ({"num_buckets": 9, "num_hashes": 0}, "num_hashes must lie in"),
    ({"num_buckets": 9, "initial_gap": 0.5}, "initial_gap must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=f"StreamingFrequency.{message}"):
    StreamingFrequency(**settings)


# -- From one probability to the other ----------------------------------------


@pytest.mark.parametrize("num_rows", [1, 32, 8192])
def test_log_draw_probability_undoes_the_batch(num_rows):
  q = np.array([1e-7, 1e-4, 2.0 / num_rows]) if num_rows > 1 else [1e-7, 0.5]
  q = np.array(q)
  holds = -np.expm1(num_rows * np.log1p(-q))
  got = log_draw_probability(jnp.asarray(np.log(holds), jnp.float32), num_rows)
  np.testing.assert_allclose(got, np.log(q), atol=2e-5)


def test_log_draw_probability_is_finite_where_all_batches_hold_the_item():
  got = jnp.exp(log_draw_probability(jnp.zeros(1), 1000))
  np.testing.assert_allclose(got, 20 * np.log(2) / 1000, rtol=1e-2)


# -- Counts -------------------------------------------------------------------


def test_count_log_probability_is_the_share_of_the_rows():
  counts = np.array([99, 0, 5, 15])  # Entry 0 is padding.
  got = count_log_probability(counts)
  assert got.dtype == np.float32
  np.testing.assert_allclose(got[2:], np.log([0.25, 0.75]), rtol=1e-6)
  np.testing.assert_allclose(got[:2], LOG_NEVER, rtol=1e-6)


def test_counts_of_nothing_are_an_error():
  with pytest.raises(DataError, match="no item occurs in the training rows"):
    count_log_probability(np.array([5, 0, 0]))
