import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError
from recjax.tasks.cross_batch_memory import MEMORY, CrossBatchMemory

DIM, NUM_ITEMS = 3, 6
COUNTS = np.array([99.0, 50, 30, 10, 5, 0, 5])


@functools.partial(jax.jit, static_argnums=0)
def push(memory, state, vectors, item_id, where):
  return memory.push(state, vectors, item_id, where)


def rows(first, num):
  """Vectors that hold the ids of their items."""
  item_id = np.arange(first, first + num)
  return (
    jnp.asarray(np.repeat(item_id[:, None], DIM, axis=1), jnp.float32),
    jnp.asarray(item_id, jnp.int32),
  )


@pytest.mark.parametrize("size,batch", [(5, 3), (6, 3), (4, 7), (1, 1)])
def test_the_last_rows_that_count_are_kept(size, batch):
  memory, rng = CrossBatchMemory(size), np.random.default_rng(0)
  state, kept = memory.init(DIM), []
  for step in range(6):
    vectors, item_id = rows(1 + step * batch, batch)
    where = rng.random(batch) < 0.7
    state = push(memory, state, vectors, item_id, jnp.asarray(where))
    kept = (kept + np.asarray(item_id)[where].tolist())[-size:]
    held = np.asarray(state["item_id"])
    assert sorted(held[held > 0]) == kept
    np.testing.assert_array_equal(
      state["vectors"], np.repeat(held[:, None], DIM, axis=1)
    )
    arrays = {MEMORY: state}
    drawn = memory.draw(jax.random.key(0), {}, arrays, num_items=99)
    assert memory.num_live({}, arrays) == len(kept) == drawn.where.sum()
    assert drawn.item_id.shape == (memory.num_candidates(batch),) == (size,)


def test_no_gradient_flows_into_the_memory():
  memory = CrossBatchMemory(4)

  def kept(vectors):
    state = memory.push(
      memory.init(DIM), vectors, jnp.array([1, 2]), jnp.ones(2, bool)
    )
    return jnp.sum(state["vectors"] ** 2)

  value, gradient = jax.jit(jax.value_and_grad(kept))(jnp.ones((2, DIM)))
  assert value == 2 * DIM
  assert np.all(gradient == 0.0)


def test_what_is_kept_has_the_reported_probabilities():
  memory, batch = CrossBatchMemory(500), 200
  rng = np.random.default_rng(0)
  share = COUNTS[1:] / COUNTS[1:].sum()
  state, seen = memory.init(DIM), []
  for step in range(1, 601):
    item_id = 1 + rng.choice(NUM_ITEMS, size=batch, p=share)
    state = push(
      memory,
      state,
      jnp.zeros((batch, DIM)),
      jnp.asarray(item_id, jnp.int32),
      jnp.ones(batch, bool),
    )
    if step % 3 == 0:  # By then all of it is new.
      seen.append(np.asarray(state["item_id"]))
  drawn = np.bincount(np.concatenate(seen), minlength=NUM_ITEMS + 1)
  assert drawn.sum() == 100_000 and drawn[0] == 0 == drawn[5]
  log_q = memory.log_probability(
    jnp.arange(1, NUM_ITEMS + 1),
    {},
    memory.constants(COUNTS),
    num_items=NUM_ITEMS,
  )
  q = np.exp(np.asarray(log_q, np.float64))
  possible = q > 1e-8
  test = lambda q: scipy.stats.chisquare(
    drawn[1:][possible], q[possible] / q[possible].sum() * drawn.sum()
  )
  assert test(q).pvalue > 1e-3
  wrong = q * np.array([1.1, 1, 1, 1, 1, 1])
  assert test(wrong).pvalue < 1e-3


def test_a_memory_of_nothing_is_refused():
  with pytest.raises(ConfigError, match="CrossBatchMemory.size must lie in"):
    CrossBatchMemory(0)
