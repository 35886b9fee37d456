import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.balancing.uncertainty import UncertaintyWeighting
from recjax.errors import ConfigError

KINDS = ("binary", "real", "real")
LOSSES = np.array([0.7, 3.0, 0.01])
SPREADS = np.array([0.4, 1.5, 0.3])
"""sigma."""
ALL = jnp.ones(3, bool)


def graded(balancer, log_variances, present=ALL, losses=LOSSES):
  """The loss and its gradients by losses and by s."""
  return _graded(
    balancer,
    jnp.asarray(losses, jnp.float32),
    jnp.asarray(log_variances, jnp.float32),
    present,
  )


@functools.partial(jax.jit, static_argnums=0)
def _graded(balancer, losses, log_variances, present):
  value = lambda losses, s: balancer.combine_losses(
    losses, present, {"log_variances": s}, {}
  )[0]
  return jax.value_and_grad(value, argnums=(0, 1))(losses, log_variances)


def paper(sigma, kinds, losses=LOSSES):
  """Equations 7 and 10, a task at a time."""
  terms = []
  for spread, kind, loss in zip(sigma, kinds, losses, strict=True):
    share = {"real": 1 / (2 * spread**2), "binary": 1 / spread**2}[kind]
    terms.append(share * loss + np.log(spread))
  return np.array(terms)


@pytest.mark.parametrize("kinds", [KINDS, ()])
def test_the_formulas_of_the_paper(kinds):
  loss, _ = graded(UncertaintyWeighting(kinds), np.log(SPREADS**2))
  terms = paper(SPREADS, kinds or ("binary",) * 3)
  np.testing.assert_allclose(loss, terms.sum(), rtol=1e-5)


def test_it_starts_with_a_spread_of_one():
  params, state = UncertaintyWeighting(KINDS).init(3)
  np.testing.assert_array_equal(params["log_variances"], np.zeros(3))
  assert state == {}


def test_an_absent_task_keeps_its_log_variance():
  present = jnp.asarray([True, False, True])
  balancer = UncertaintyWeighting(KINDS)
  loss, slopes = graded(balancer, np.log(SPREADS**2), present)
  terms = paper(SPREADS, KINDS)
  np.testing.assert_allclose(loss, terms[0] + terms[2], rtol=1e-5)
  assert slopes[0][1] == 0 and slopes[1][1] == 0
  assert np.all(slopes[1][jnp.asarray([0, 2])] != 0)


def test_gradients_against_finite_differences():
  point, width = np.log(SPREADS**2), 1e-6
  _, (by_loss, by_s) = graded(UncertaintyWeighting(KINDS), point)
  for task in range(3):
    step = width * np.eye(3)[task]
    ends = [
      paper(np.exp(0.5 * (point + sign * step)), KINDS).sum()
      for sign in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * width)
    np.testing.assert_allclose(by_s[task], expected, rtol=1e-4, atol=1e-5)
    ends = [
      paper(SPREADS, KINDS, LOSSES + sign * step).sum() for sign in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * width)
    np.testing.assert_allclose(by_loss[task], expected, rtol=1e-4)


def test_descent_finds_the_best_spread():
  """Of fixed losses: sigma^2 = 2 L of a binary task, L of a real one."""
  balancer = UncertaintyWeighting(KINDS)
  log_variances = jnp.zeros(3)
  for _ in range(60):
    _, (_, slopes) = graded(balancer, log_variances)
    log_variances = log_variances - 0.5 * slopes
  expected = np.log(LOSSES * np.array([2.0, 1.0, 1.0]))
  np.testing.assert_allclose(log_variances, expected, atol=1e-3)


def test_a_solved_task_gets_no_weight_without_end():
  balancer = UncertaintyWeighting(max_log_variance=2.0)
  losses = np.array([0.0, 1e9, 1.0])
  loss, (weights, slopes) = graded(balancer, [-50.0, 50.0, 0.0], losses=losses)
  ends = np.exp([2.0, -2.0, 0.0])
  np.testing.assert_allclose(weights, ends, rtol=1e-5)
  np.testing.assert_allclose(loss, np.sum(ends * losses), rtol=1e-5)
  # Both would go on outwards.
  np.testing.assert_allclose(slopes, [0.0, 0.0, -0.5])


def test_from_beyond_the_bounds_there_is_a_way_back():
  balancer = UncertaintyWeighting(max_log_variance=2.0)
  losses = np.array([1.0, 0.1, 1.0])
  _, (_, slopes) = graded(balancer, [-2.5, 2.5, 0.0], losses=losses)
  # d/ds of exp(-s) L + s / 2, at the bounds.
  expected = 0.5 - np.exp([2.0, -2.0]) * losses[:2]
  np.testing.assert_allclose(slopes[:2], expected, rtol=1e-5)
  assert slopes[0] < 0 < slopes[1]


def test_another_number_of_kinds_than_tasks_is_refused():
  balancer = UncertaintyWeighting(("binary",))
  rule = r"one kind for each task, .* got 1 kinds \('binary',\) for 3 tasks"
  with pytest.raises(ConfigError, match=rule):
    balancer.init(3)
  with pytest.raises(ConfigError, match=rule):
    graded(balancer, np.zeros(3))


@pytest.mark.parametrize(
  "settings,rule",
  [
    ({"kinds": ("real", "binray")}, r"kinds\[1\] must be .*mean 'binary'"),
    ({"max_log_variance": 61.0}, "max_log_variance must lie in .*; got 61.0"),
  ],
)
def test_bad_settings_name_the_rule(settings, rule):
  with pytest.raises(ConfigError, match=rule):
    UncertaintyWeighting(**settings)
