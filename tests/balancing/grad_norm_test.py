import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.balancing.grad_norm import GradNorm
from recjax.errors import ConfigError

NUM_TASKS, NUM_STEPS = 3, 8
_rng = np.random.default_rng(0)
ROWS = _rng.normal(size=(NUM_STEPS, NUM_TASKS, 10)).astype(np.float32)
ROWS *= np.array([0.2, 1.0, 3.0], np.float32)[:, None]
LOSSES = _rng.uniform(0.2, 2.0, (NUM_STEPS, NUM_TASKS)).astype(np.float32)
PRESENT = np.ones((NUM_STEPS, NUM_TASKS), bool)
PRESENT[:2, 1] = False
PRESENT[4, 0] = False
PRESENT[6, :2] = False


def tree_of(rows):
  tree = {"a": rows[:, :4].reshape(-1, 2, 2), "b": rows[:, 4:]}
  return jax.tree.map(jnp.asarray, tree)


def run(balancer, num_steps=NUM_STEPS, present=PRESENT):
  """Combined gradients and the weights after each step."""
  _, state = balancer.init(NUM_TASKS)
  combined, weights = [], []
  for step in range(num_steps):
    total, state = _combine(
      balancer,
      tree_of(ROWS[step]),
      jnp.asarray(LOSSES[step]),
      jnp.asarray(present[step]),
      state,
    )
    flat = np.concatenate([np.ravel(total["a"]), total["b"]])
    combined.append(flat)
    weights.append(np.asarray(state["weights"]))
  return np.array(combined), np.array(weights)


@functools.partial(jax.jit, static_argnums=0)
def _combine(balancer, grads, losses, present, state):
  return balancer.combine_gradients(grads, losses, present, state)


def gap(weights, norms, target):
  """L_grad of equation 2, for a target that is held."""
  return np.sum(np.abs(weights * norms - target))


def finite_difference(weights, norms, target, width=1e-7):
  slopes = []
  for task in range(len(weights)):
    step = width * np.eye(len(weights))[task]
    ends = [gap(weights + sign * step, norms, target) for sign in (1, -1)]
    slopes.append((ends[0] - ends[1]) / (2 * width))
  return np.array(slopes)


def paper(rate, alpha, present=PRESENT):
  """The paper's loop over steps, for the tasks that are present."""
  weights, first = np.ones(NUM_TASKS), np.full(NUM_TASKS, np.nan)
  combined, history = [], []
  for step in range(NUM_STEPS):
    rows, losses = ROWS[step].astype(float), LOSSES[step].astype(float)
    here = np.flatnonzero(present[step])
    combined.append((weights[here, None] * rows[here]).sum(axis=0))
    first = np.where(present[step] & np.isnan(first), losses, first)
    norms = np.linalg.norm(rows[here], axis=1)
    pace = losses[here] / first[here]
    target = np.mean(weights[here] * norms) * (pace / pace.mean()) ** alpha
    slopes = finite_difference(weights[here], norms, target)
    moved = weights[here] - rate * slopes
    left = NUM_TASKS - weights[np.flatnonzero(~present[step])].sum()
    weights[here] = moved * left / moved.sum()
    history.append(weights.copy())
  return np.array(combined), np.array(history)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
@pytest.mark.parametrize(
  "present", [np.ones_like(PRESENT), PRESENT], ids=["all", "some"]
)
def test_weights_and_gradients_against_the_paper(present, alpha):
  combined, weights = run(GradNorm(rate=0.01, alpha=alpha), present=present)
  expected, history = paper(0.01, alpha, present)
  np.testing.assert_allclose(weights, history, rtol=1e-4)
  np.testing.assert_allclose(combined, expected, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(weights.sum(axis=1), NUM_TASKS, rtol=1e-5)
  assert np.abs(history[-1] - 1).min() > 0.02  # They did move,
  assert history.min() > 0.05  # and none was cut.


def test_absent_tasks_keep_their_weight():
  _, weights = run(GradNorm(rate=0.02))
  np.testing.assert_array_equal(weights[:2, 1], 1.0)
  assert weights[4, 0] == weights[3, 0] != weights[5, 0]
  # One task alone has no one to be balanced with.
  np.testing.assert_allclose(weights[6], weights[5], rtol=1e-6)


def test_norms_grow_equal_with_alpha_zero():
  grads = tree_of(ROWS[0])
  norms = np.linalg.norm(ROWS[0], axis=1)
  assert norms.max() / norms.min() > 5
  balancer = GradNorm(rate=1e-3, alpha=0.0)

  def step(state, _):
    _, state = balancer.combine_gradients(
      grads, jnp.ones(NUM_TASKS), jnp.ones(NUM_TASKS, bool), state
    )
    return state, None

  state = jax.jit(lambda state: jax.lax.scan(step, state, length=2000)[0])(
    balancer.init(NUM_TASKS)[1]
  )
  scaled = norms * np.asarray(state["weights"])
  np.testing.assert_allclose(scaled, scaled.mean(), rtol=0.05)


def test_a_rate_that_is_too_large_leaves_the_weights_positive():
  balancer = GradNorm(rate=1e3)
  combined, weights = run(balancer)
  assert np.all(weights > 0) and np.all(np.isfinite(combined))
  np.testing.assert_allclose(weights.sum(axis=1), NUM_TASKS, rtol=1e-4)


def test_first_losses_of_zero_count_as_no_progress():
  _, state = GradNorm().init(2)
  for losses in ([0.0, 1.0], [2.0, 0.5], [0.0, 0.0]):
    combined, state = _combine(
      GradNorm(),
      tree_of(ROWS[0, :2]),
      jnp.asarray(losses),
      jnp.ones(2, bool),
      state,
    )
    leaves = jax.tree.leaves((combined, state))
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
  np.testing.assert_array_equal(state["first_losses"], [0.0, 1.0])


@pytest.mark.parametrize(
  "settings,rule",
  [
    ({"rate": -1.0}, "GradNorm.rate must lie in .*; got -1.0"),
    ({"alpha": float("nan")}, "GradNorm.alpha must lie in .*; got nan"),
  ],
)
def test_bad_settings_name_the_rule(settings, rule):
  with pytest.raises(ConfigError, match=rule):
    GradNorm(**settings)
