import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from recjax.balancing.cagrad import CAGrad
from recjax.errors import ConfigError

DIM = 8


def tree_of(rows):
  rows = np.asarray(rows, np.float32)
  tree = {"kernel": rows[:, :6].reshape(-1, 3, 2), "bias": rows[:, 6:]}
  return jax.tree.map(jnp.asarray, tree)


def random_rows(num_tasks, seed):
  """Gradients that disagree, of norms from 0.1 to 10."""
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(num_tasks, DIM))
  rows[:, 0] += 2 * (-1.0) ** np.arange(num_tasks)
  return rows * 10.0 ** rng.uniform(-1, 1, (num_tasks, 1))


def combine(balancer, rows, present=None):
  num_tasks = len(rows)
  present = np.ones(num_tasks, bool) if present is None else present
  combined, state = _combine(
    balancer, tree_of(rows), jnp.ones(num_tasks), jnp.asarray(present), {}
  )
  assert state == {}
  return np.concatenate([np.ravel(combined["kernel"]), combined["bias"]])


@functools.partial(jax.jit, static_argnums=0)
def _combine(balancer, grads, losses, present, state):
  return balancer.combine_gradients(grads, losses, present, state)


def dual(weights, rows, c):
  """F of the paper."""
  mean, mixed = rows.mean(axis=0), weights @ rows
  radius = c * np.linalg.norm(mean)
  return mixed @ mean + radius * np.linalg.norm(mixed)


def best_dual(rows, c):
  """The least F that SciPy finds on the simplex, from several starts."""
  num_tasks = len(rows)
  starts = np.concatenate(
    [np.full((1, num_tasks), 1 / num_tasks), 0.8 * np.eye(num_tasks)[:3]]
  )
  starts += (1 - starts.sum(axis=1, keepdims=True)) / num_tasks
  scale = np.linalg.norm(rows, axis=1).max() ** 2
  found = [
    optimize.minimize(
      lambda w: dual(w, rows, c) / scale,
      start,
      method="SLSQP",
      bounds=[(0, 1)] * num_tasks,
      constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
      options={"ftol": 1e-14, "maxiter": 500},
    )
    for start in starts
  ]
  best = min(found, key=lambda result: result.fun)
  return best.x, best.fun * scale


def direction(weights, rows, c):
  mean, mixed = rows.mean(axis=0), weights @ rows
  length = np.linalg.norm(mixed)
  return mean + c * np.linalg.norm(mean) * mixed / length


@pytest.mark.parametrize("c", [0.5, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_two_tasks_against_a_fine_grid(seed, c):
  rows = random_rows(2, seed)
  share = np.linspace(0, 1, 20_001)
  mean, mixed = rows.mean(axis=0), np.outer(share, rows[0] - rows[1]) + rows[1]
  values = mixed @ mean
  values += c * np.linalg.norm(mean) * np.linalg.norm(mixed, axis=1)
  best = share[np.argmin(values)]
  expected = 2 * direction(np.array([best, 1 - best]), rows, c)
  combined = combine(CAGrad(c=c, rescale=False), rows)
  scale = float(np.linalg.norm(expected))
  np.testing.assert_allclose(combined, expected, atol=1e-3 * scale)


@pytest.mark.parametrize(
  "num_tasks,num_steps,c", [(3, 50, 0.5), (5, 50, 0.9), (8, 200, 0.3)]
)
def test_more_tasks_against_scipy(num_tasks, num_steps, c):
  balancer = CAGrad(c=c, num_steps=num_steps, rescale=False)
  for seed in range(3):
    rows = random_rows(num_tasks, seed)
    _, value = best_dual(rows, c)
    combined = combine(balancer, rows) / num_tasks
    mean = rows.mean(axis=0)
    scale = np.linalg.norm(rows, axis=1).max() * np.linalg.norm(mean)
    # By duality no direction within the ball helps the worst task more than
    # the least F, and the best one just that much.
    assert np.linalg.norm(combined - mean) <= (
      c * np.linalg.norm(mean) * (1 + 1e-4)
    )
    worst = np.min(rows @ combined)
    np.testing.assert_allclose(worst, value, atol=2e-4 * scale)


def test_the_worst_task_gains_over_the_mean():
  rows = random_rows(3, 0)
  combined = combine(CAGrad(c=0.5, rescale=False), rows)
  assert np.min(rows @ combined) > np.min(rows @ rows.sum(axis=0))


def test_with_c_zero_it_is_the_sum():
  rows = random_rows(4, 0)
  np.testing.assert_allclose(
    combine(CAGrad(c=0.0), rows), rows.sum(axis=0), rtol=1e-4, atol=1e-5
  )


def test_tasks_that_agree_give_their_sum():
  rows = np.tile(random_rows(1, 0), (3, 1))
  np.testing.assert_allclose(combine(CAGrad(), rows), 3 * rows[0], rtol=1e-5)
  np.testing.assert_allclose(
    combine(CAGrad(c=0.5, rescale=False), rows), 4.5 * rows[0], rtol=1e-5
  )


def test_absent_tasks_are_left_out():
  rows = random_rows(4, 2)
  spoiled = rows.copy()
  spoiled[1] = np.nan
  present = np.array([True, False, True, True])
  expected = combine(CAGrad(), rows[present])
  np.testing.assert_allclose(
    combine(CAGrad(), spoiled, present), expected, rtol=1e-4, atol=1e-4
  )
  only = np.array([False, False, True, False])
  np.testing.assert_allclose(
    combine(CAGrad(), spoiled, only), rows[2], rtol=1e-5
  )


@pytest.mark.parametrize("factor", [-1.0, -2.0, -1 / 3])
def test_opposite_gradients(factor):
  """d is the mean less c of it; with equal norms all is zero."""
  row = random_rows(1, 0)
  rows = np.concatenate([row, factor * row])
  expected = (1 - 0.5) * rows.sum(axis=0)
  combined = combine(CAGrad(c=0.5, rescale=False), rows)
  scale = np.abs(row).max()
  np.testing.assert_allclose(combined / scale, expected / scale, atol=1e-5)


@pytest.mark.parametrize("num_tasks", [2, 3])
def test_sums_that_nearly_cancel_stay_in_the_ball(num_tasks):
  rng = np.random.default_rng(5)
  for size in np.geomspace(1e-3, 1e-6, 20):
    rows = rng.normal(size=(num_tasks, DIM))
    rows += size * rng.normal(size=(1, DIM)) - rows.mean(axis=0)
    rows = rows.astype(np.float32)
    mean = rows.astype(np.float64).mean(axis=0)
    combined = combine(CAGrad(c=0.5, rescale=False), rows) / num_tasks
    distance = np.linalg.norm(combined - mean)
    assert 0 < distance <= 0.5 * np.linalg.norm(mean) * 1.01 + 3e-7


@pytest.mark.parametrize(
  "settings,rule",
  [
    ({"c": 1.0}, r"CAGrad.c must lie in \[0.0, 0.999999\]; got 1.0"),
    ({"c": -0.1}, "CAGrad.c must lie in .*; got -0.1"),
    ({"num_steps": 0}, "CAGrad.num_steps must lie in .*; got 0"),
  ],
)
def test_bad_settings_name_the_rule(settings, rule):
  with pytest.raises(ConfigError, match=rule):
    CAGrad(**settings)
