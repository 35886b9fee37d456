import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.balancing.fixed_weights import FixedWeights
from recjax.errors import ConfigError

LOSSES = jnp.asarray([0.5, 2.0, 3.0])
PRESENT = jnp.asarray([True, True, False])
ALL = jnp.ones(3, bool)


def combine(balancer, present=ALL):
  loss, state = jax.jit(balancer.combine_losses)(LOSSES, present, {}, {})
  assert state == {}
  return loss


def test_no_weights_are_ones():
  assert FixedWeights().init(3) == ({}, {})
  np.testing.assert_allclose(combine(FixedWeights()), 5.5)


def test_the_weighted_sum():
  balancer = FixedWeights((2.0, 0.0, 0.5))
  np.testing.assert_allclose(combine(balancer), 2 * 0.5 + 0.5 * 3)
  np.testing.assert_allclose(combine(balancer, PRESENT), 2 * 0.5)
  slopes = jax.grad(
    lambda losses: balancer.combine_losses(losses, PRESENT, {}, {})[0]
  )(LOSSES)
  np.testing.assert_array_equal(slopes, [2.0, 0.0, 0.0])


def test_another_number_of_weights_than_tasks_is_refused():
  balancer = FixedWeights((1.0, 2.0))
  rule = r"one weight for each task, .* got 2 weights \(1.0, 2.0\) for 3 tasks"
  with pytest.raises(ConfigError, match=rule):
    balancer.init(3)
  with pytest.raises(ConfigError, match=rule):
    balancer.combine_losses(LOSSES, ALL, {}, {})


@pytest.mark.parametrize(
  "weights,rule",
  [
    ((1.0, -0.5), r"weights\[1\] must lie in \[0.0, 1e\+30\]; got -0.5"),
    ((float("nan"),), r"weights\[0\] must lie in .*; got nan"),
    ((float("inf"),), r"weights\[0\] must lie in .*; got inf"),
    ((0.0, 0.0), r"must have one that is not 0; got \(0.0, 0.0\)"),
  ],
)
def test_bad_weights_are_refused(weights, rule):
  with pytest.raises(ConfigError, match=rule):
    FixedWeights(weights)
