import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.balancing.dwa import DynamicWeightAveraging
from recjax.errors import ConfigError

NUM_TASKS, WINDOW, NUM_STEPS = 3, 4, 30
_rng = np.random.default_rng(0)
LOSSES = _rng.uniform(0.1, 3.0, (NUM_STEPS, NUM_TASKS)).astype(np.float32)
LOSSES *= np.exp(-0.05 * np.arange(NUM_STEPS))[:, None] ** np.arange(3)
PRESENT = _rng.random((NUM_STEPS, NUM_TASKS)) < 0.6
PRESENT[8:12, 1] = False
"""The second task has no row in the third window."""
ALL = np.ones_like(PRESENT)


def run(balancer, losses, present):
  """Combined losses and weights of all steps, and the last state."""

  def step(state, inputs):
    weights = balancer.weights(state)
    loss, state = balancer.combine_losses(*inputs, {}, state)
    return state, (loss, weights)

  _, state = balancer.init(losses.shape[1])
  inputs = jnp.asarray(losses), jnp.asarray(present)
  state, outputs = jax.jit(lambda s, x: jax.lax.scan(step, s, x))(state, inputs)
  return *outputs, state


def paper(losses, present, temperature):
  """Equation 7 at each step, from the list of each task's window means."""
  weights = []
  for step in range(len(losses)):
    ratios = []
    for task in range(losses.shape[1]):
      means = []
      for end in range(WINDOW, step + 1, WINDOW):
        inside = slice(end - WINDOW, end)
        if present[inside, task].any():
          means.append(losses[inside, task][present[inside, task]].mean())
      ratios.append(means[-1] / means[-2] if len(means) > 1 else 1.0)
    exponents = np.exp(np.array(ratios) / temperature)
    weights.append(losses.shape[1] * exponents / exponents.sum())
  return np.array(weights)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("present", [ALL, PRESENT], ids=["all", "some"])
def test_the_formula_of_the_paper(present, temperature):
  balancer = DynamicWeightAveraging(temperature, WINDOW)
  combined, weights, _ = run(balancer, LOSSES, present)
  expected = paper(LOSSES, present, temperature)
  np.testing.assert_allclose(weights, expected, rtol=1e-4)
  np.testing.assert_allclose(
    combined, np.sum(expected * LOSSES * present, axis=1), rtol=1e-4
  )
  # Equal in the first two windows, then not.
  np.testing.assert_allclose(expected[: 2 * WINDOW], 1.0)
  assert np.ptp(expected[2 * WINDOW :], axis=1).min() > 0.01


def test_the_task_that_falls_slower_gets_more():
  losses = np.stack([0.5 ** np.arange(6), 0.9 ** np.arange(6)], axis=1)
  balancer = DynamicWeightAveraging(temperature=1.0, window_steps=1)
  losses = losses.astype(np.float32)
  _, weights, _ = run(balancer, losses, np.ones((6, 2), bool))
  share = np.exp(0.9) / (np.exp(0.5) + np.exp(0.9))
  expected = np.tile([2 - 2 * share, 2 * share], (4, 1))
  np.testing.assert_allclose(weights[2:], expected, rtol=1e-5)


def test_a_resumed_run_is_the_same():
  balancer = DynamicWeightAveraging(window_steps=WINDOW)
  whole, _, end = run(balancer, LOSSES, PRESENT)
  _, _, state = run(balancer, LOSSES[:17], PRESENT[:17])
  rest, combine = [], jax.jit(balancer.combine_losses)
  for losses, present in zip(LOSSES[17:], PRESENT[17:], strict=True):
    loss, state = combine(jnp.asarray(losses), jnp.asarray(present), {}, state)
    rest.append(loss)
  np.testing.assert_allclose(rest, whole[17:], rtol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, state, end)


def test_the_weights_are_no_function_of_the_parameters():
  balancer = DynamicWeightAveraging(window_steps=1)
  _, state = balancer.init(2)
  value = lambda losses, state: balancer.combine_losses(
    losses, jnp.ones(2, bool), {}, state
  )
  graded = jax.jit(jax.grad(value, has_aux=True))
  for losses in ([1.0, 1.0], [0.5, 2.0], [0.3, 0.1]):
    expected = balancer.weights(state)
    slopes, state = graded(jnp.asarray(losses), state)
    np.testing.assert_array_equal(slopes, expected)


def test_losses_of_zero_leave_the_weights_finite():
  losses = np.array([[0, 1], [0, 1], [1e-40, 1], [1, 1], [1e30, 1]])
  balancer = DynamicWeightAveraging(temperature=1e-3, window_steps=1)
  losses = losses.astype(np.float32)
  combined, weights, _ = run(balancer, losses, np.ones((5, 2), bool))
  assert np.all(np.isfinite(weights)) and np.all(np.isfinite(combined))
  np.testing.assert_allclose(weights.sum(axis=1), 2.0, rtol=1e-6)
  np.testing.assert_allclose(weights[:3], 1.0)


@pytest.mark.parametrize(
  "settings,rule",
  [
    ({"temperature": 0.0}, "temperature must lie in .*; got 0.0"),
    ({"window_steps": 0}, "window_steps must lie in .*; got 0"),
  ],
)
def test_bad_settings_name_the_rule(settings, rule):
  with pytest.raises(ConfigError, match=rule):
    DynamicWeightAveraging(**settings)
