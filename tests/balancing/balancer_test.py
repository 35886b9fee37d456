"""What every balancer keeps to, whatever its formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.balancing.balancer import GradientBalancer, LossBalancer
from recjax.balancing.cagrad import CAGrad
from recjax.balancing.dwa import DynamicWeightAveraging
from recjax.balancing.fixed_weights import FixedWeights
from recjax.balancing.grad_norm import GradNorm
from recjax.balancing.pcgrad import PCGrad
from recjax.balancing.uncertainty import UncertaintyWeighting
from recjax.errors import ConfigError

OF_LOSSES = (
  FixedWeights(),
  UncertaintyWeighting(),
  DynamicWeightAveraging(window_steps=2),
)
OF_GRADIENTS = (GradNorm(rate=0.1), PCGrad(), CAGrad())
ALL = OF_LOSSES + OF_GRADIENTS
name_of = lambda balancer: type(balancer).__name__


def random_grads(num_tasks, seed=0):
  rng = np.random.default_rng(seed)
  shapes = {"kernel": (num_tasks, 4, 3), "bias": (num_tasks, 3)}
  return {
    name: jnp.asarray(rng.normal(size=shape), jnp.float32)
    for name, shape in shapes.items()
  }


def random_losses(num_tasks, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(0.2, 2.0, num_tasks), jnp.float32)


def replaced(tree, task, value):
  """The tree with one task's entries set."""
  is_task = lambda leaf: (np.arange(len(leaf)) == task).reshape(
    -1, *[1] * (leaf.ndim - 1)
  )
  return jax.tree.map(
    lambda leaf: jnp.asarray(np.where(is_task(leaf), np.float32(value), leaf)),
    tree,
  )


def assert_same(one, other, **tolerances):
  close = lambda a, b: np.testing.assert_allclose(a, b, **tolerances)
  jax.tree.map(close, one, other)


def run(balancer, num_tasks, present, steps=5, spoil=None):
  """What comes out of each step, and the last state; absent are spoiled."""
  params, state = balancer.init(num_tasks)
  present = jnp.asarray(present)
  outputs = []
  for seed in range(steps):
    losses = random_losses(num_tasks, seed)
    grads = random_grads(num_tasks, seed)
    if spoil is not None:
      for task in np.flatnonzero(~np.asarray(present)):
        losses = replaced(losses, task, spoil)
        grads = replaced(grads, task, spoil)
    if balancer.needs_gradients:
      output, state = of_gradients(balancer, grads, losses, present, state)
    else:
      output, slopes, state = of_losses(
        balancer, losses, present, params, state
      )
      output = {"loss": output, "slopes": slopes}
    outputs.append(output)
  return outputs, state


@functools.partial(jax.jit, static_argnums=0)
def of_gradients(balancer, grads, losses, present, state):
  return balancer.combine_gradients(grads, losses, present, state)


@functools.partial(jax.jit, static_argnums=0)
def of_losses(balancer, losses, present, params, state):
  """The combined loss, its gradients by losses and by params, and state."""
  graded = jax.value_and_grad(
    lambda losses, params: balancer.combine_losses(
      losses, present, params, state
    ),
    argnums=(0, 1),
    has_aux=True,
  )
  (loss, state), slopes = graded(losses, params)
  return loss, slopes, state


@pytest.mark.parametrize("balancer", ALL, ids=name_of)
def test_each_says_what_it_needs(balancer):
  is_of_gradients = balancer in OF_GRADIENTS
  assert balancer.needs_gradients == is_of_gradients
  assert isinstance(balancer, GradientBalancer) == is_of_gradients
  assert isinstance(balancer, LossBalancer) != is_of_gradients


@pytest.mark.parametrize("balancer", ALL, ids=name_of)
def test_the_state_keeps_its_form(balancer):
  _, before = balancer.init(3)
  _, after = run(balancer, 3, [True, True, True])
  form = lambda leaf: (leaf.shape, leaf.dtype)
  assert jax.tree.map(form, before) == jax.tree.map(form, after)


@pytest.mark.parametrize("balancer", ALL, ids=name_of)
def test_nothing_of_an_absent_task_comes_through(balancer):
  present = [True, False, True]
  expected = run(balancer, 3, present, spoil=0.0)
  assert jax.tree.all(jax.tree.map(lambda x: np.all(np.isfinite(x)), expected))
  # Not even NaN.
  assert_same(run(balancer, 3, present, spoil=np.nan), expected, rtol=0)
  if not balancer.needs_gradients:
    assert all(output["slopes"][0][1] == 0 for output in expected[0])


@pytest.mark.parametrize("balancer", ALL, ids=name_of)
def test_a_batch_without_any_task_gives_zero(balancer):
  outputs, state = run(balancer, 2, [False, False], spoil=np.nan)
  assert jax.tree.all(jax.tree.map(lambda x: np.all(x == 0), outputs))
  _, start = balancer.init(2)
  counters = {"step", "step_in_window"}
  for name in set(state) - counters:
    np.testing.assert_array_equal(state[name], start[name])


@pytest.mark.parametrize("balancer", ALL, ids=name_of)
def test_one_task_is_left_as_it_is(balancer):
  outputs, _ = run(balancer, 1, [True])
  for seed, output in enumerate(outputs):
    if balancer.needs_gradients:
      expected = jax.tree.map(
        lambda leaf: np.asarray(leaf)[0], random_grads(1, seed)
      )
    else:
      output, expected = output["loss"], random_losses(1, seed)[0]
    assert_same(output, expected, rtol=1e-6)


@pytest.mark.parametrize("balancer", OF_GRADIENTS, ids=name_of)
def test_a_task_with_a_zero_gradient_adds_nothing(balancer):
  _, state = balancer.init(2)
  grads = replaced(random_grads(2), 1, 0.0)
  present = jnp.ones(2, bool)
  combined, _ = of_gradients(balancer, grads, random_losses(2), present, state)
  first = np.asarray(grads["kernel"])[0]
  # The direction of the first, and finite.
  share = np.asarray(combined["kernel"]) / first
  np.testing.assert_allclose(share, share[0, 0], rtol=1e-5)
  assert share[0, 0] > 0
  zeros = replaced(grads, 0, 0.0)
  combined, _ = of_gradients(balancer, zeros, random_losses(2), present, state)
  assert_same(combined, jax.tree.map(lambda x: np.asarray(x)[0], zeros), rtol=0)


@pytest.mark.parametrize("size", [1e-25, 1e25])
@pytest.mark.parametrize("balancer", OF_GRADIENTS, ids=name_of)
def test_gradients_may_be_tiny_or_huge(balancer, size):
  """Their squares are no numbers of float32; the direction is the same."""
  _, state = balancer.init(3)
  grads, losses = random_grads(3), random_losses(3)
  present = jnp.ones(3, bool)
  scaled = jax.tree.map(lambda x: jnp.asarray(np.asarray(x) * size), grads)
  expected, _ = of_gradients(balancer, grads, losses, present, state)
  combined, after = of_gradients(balancer, scaled, losses, present, state)
  back = jax.tree.map(lambda leaf: np.asarray(leaf) / size, combined)
  assert_same(back, expected, rtol=1e-4, atol=1e-5)
  assert all(np.all(np.isfinite(leaf)) for leaf in after.values())


@pytest.mark.parametrize("balancer", OF_GRADIENTS, ids=name_of)
def test_gradients_keep_their_type(balancer):
  grads = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_grads(2))
  _, state = balancer.init(2)
  combined, _ = of_gradients(
    balancer, grads, random_losses(2), jnp.ones(2, bool), state
  )
  assert {leaf.dtype for leaf in combined.values()} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("balancer", ALL, ids=name_of)
def test_there_must_be_a_task(balancer):
  rule = f"{name_of(balancer)} num_tasks must lie in .1, inf.; got 0"
  with pytest.raises(ConfigError, match=rule):
    balancer.init(0)
