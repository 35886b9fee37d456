import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.balancing.pcgrad import PCGrad
from recjax.errors import ConfigError

DIM = 6
BALANCER = PCGrad(seed=7)


def tree_of(rows):
  rows = np.asarray(rows, np.float32)
  tree = [rows[:, :4].reshape(-1, 2, 2), {"bias": rows[:, 4:]}]
  return jax.tree.map(jnp.asarray, tree)


def random_rows(num_tasks, seed):
  """With one direction in which the tasks disagree."""
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(num_tasks, DIM))
  rows[:, 0] += 2 * (-1.0) ** np.arange(num_tasks)
  return rows * 10.0 ** rng.uniform(-2, 2, (num_tasks, 1))


def combine(balancer, rows, present=None, step=0):
  num_tasks = len(rows)
  present = np.ones(num_tasks, bool) if present is None else present
  combined, state = _combine(
    balancer,
    tree_of(rows),
    jnp.ones(num_tasks),
    jnp.asarray(present),
    {"step": jnp.int32(step)},
  )
  assert state == {"step": step + 1}
  return np.concatenate([np.ravel(combined[0]), combined[1]["bias"]])


@functools.partial(jax.jit, static_argnums=0)
def _combine(balancer, grads, losses, present, state):
  return balancer.combine_gradients(grads, losses, present, state)


def algorithm_1(rows, orders):
  """The paper's loop; also how many projections were made."""
  total, num_projections = np.zeros(DIM), 0
  for i, row in enumerate(rows):
    row = row.copy()
    for j in orders[i]:
      if j != i and rows[j] @ rows[j] > 0 and row @ rows[j] < 0:
        row -= (row @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        num_projections += 1
    total += row
  return total, num_projections


@pytest.mark.parametrize("num_tasks", [2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_against_the_loop_of_the_paper(num_tasks, seed):
  rows = random_rows(num_tasks, seed)
  orders = np.asarray(BALANCER.orders(jnp.int32(seed), num_tasks))
  expected, num_projections = algorithm_1(rows, orders)
  assert num_projections >= num_tasks
  combined = combine(BALANCER, rows, step=seed)
  scale = np.linalg.norm(rows, axis=1).max()
  np.testing.assert_allclose(combined, expected, rtol=1e-4, atol=1e-5 * scale)


def test_two_tasks_in_conflict():
  """(1, 0) and (-1, 1): each loses what points against the other."""
  rows = np.zeros((2, DIM))
  rows[0, 0], rows[1, :2] = 1.0, (-1.0, 1.0)
  expected = np.zeros(DIM)
  expected[:2] = (0.5, 0.5 + 1.0)  # (1/2, 1/2) and (0, 1).
  np.testing.assert_allclose(combine(BALANCER, rows), expected, atol=1e-6)


def test_without_conflict_it_is_exactly_the_sum():
  rows = np.abs(random_rows(4, 0)).astype(np.float32)
  expected = functools.reduce(np.add, rows)
  np.testing.assert_array_equal(combine(BALANCER, rows), expected)


def test_opposite_gradients_vanish():
  rows = random_rows(1, 0)
  combined = combine(BALANCER, np.concatenate([rows, -3 * rows]))
  np.testing.assert_allclose(combined / np.abs(rows).max(), 0.0, atol=1e-6)


def test_absent_tasks_are_skipped():
  rows = random_rows(4, 1)
  rows[2] = np.nan
  present = np.array([True, True, False, True])
  orders = np.asarray(BALANCER.orders(jnp.int32(0), 4))
  expected, _ = algorithm_1(np.where(present[:, None], rows, 0.0), orders)
  combined = combine(BALANCER, rows, present)
  scale = np.nanmax(np.abs(rows))
  np.testing.assert_allclose(combined, expected, rtol=1e-4, atol=1e-5 * scale)


def test_orders_are_permutations_of_step_and_seed():
  orders = jax.jit(jax.vmap(lambda step: PCGrad().orders(step, 5)))(
    jnp.arange(200)
  )
  np.testing.assert_array_equal(
    np.sort(orders, axis=-1), np.broadcast_to(np.arange(5), (200, 5, 5))
  )
  # Each task comes first about as often, for each of the tasks: within five
  # standard deviations.
  first = np.stack([np.mean(orders[:, :, 0] == t, axis=0) for t in range(5)])
  np.testing.assert_allclose(first, 0.2, atol=5 * np.sqrt(0.16 / 200))
  again = PCGrad().orders(jnp.int32(3), 5)
  np.testing.assert_array_equal(again, orders[3])
  other = PCGrad(seed=1).orders(jnp.int32(3), 5)
  assert np.any(other != again) and np.any(orders[4] != orders[3])


def test_a_resumed_run_is_bit_for_bit_the_same():
  rows = [random_rows(4, seed) for seed in range(6)]
  losses, present = jnp.ones(4), jnp.ones(4, bool)
  _, state = BALANCER.init(4)
  states, outputs = [state], []
  for step_rows in rows:
    output, state = _combine(
      BALANCER, tree_of(step_rows), losses, present, state
    )
    outputs.append(output)
    states.append(state)
  kept = {name: np.asarray(value) for name, value in states[4].items()}
  state = jax.tree.map(jnp.asarray, kept)
  for step in (4, 5):
    output, state = _combine(
      BALANCER, tree_of(rows[step]), losses, present, state
    )
    jax.tree.map(np.testing.assert_array_equal, output, outputs[step])


def test_a_bad_seed_is_refused():
  with pytest.raises(ConfigError, match="PCGrad.seed must lie in .*; got -1"):
    PCGrad(seed=-1)
