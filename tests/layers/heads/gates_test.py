"""Gates, their dropout, and what is told of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.layers.heads.gates import GATES, ExpertGate, expert_utilization
from tests.layers.heads import oracle

X = jnp.asarray(oracle.X)


def test_a_gate_is_a_softmax_and_is_told():
  gate = ExpertGate(num_experts=3, num_tasks=2)
  variables = gate.init(jax.random.key(0), X, deterministic=True)
  found, told = gate.apply(
    {"params": variables["params"]}, X, deterministic=True, mutable=[GATES]
  )
  kernel = np.asarray(variables["params"]["logits"]["kernel"]).reshape(4, 2, 3)
  for row, x in enumerate(oracle.X):
    for task in range(2):
      expected = oracle.softmax(x @ kernel[:, task])
      np.testing.assert_allclose(found[row, task], expected, rtol=1e-5)
  np.testing.assert_array_equal(told[GATES]["gate"][0], found)


@pytest.mark.parametrize("rate", [0.3, 0.95])
def test_dropped_gates_leave_a_sum_of_one(rate):
  x = jnp.ones((2000, 4))
  gate = ExpertGate(num_experts=3, num_tasks=2, dropout_rate=rate)
  variables = gate.init(jax.random.key(0), x, deterministic=True)
  params = {"params": variables["params"]}
  full = gate.apply(params, x, deterministic=True)
  found = gate.apply(
    params, x, deterministic=False, rngs={"dropout": jax.random.key(1)}
  )
  found = np.asarray(found)
  np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)
  kept = found > 0
  # Where all three would go, none does.
  share = (1 - rate) + rate**3
  np.testing.assert_allclose(kept.mean(), share, atol=0.02)
  # Those that stay keep their proportions.
  ratio = found / np.asarray(full)
  largest = ratio.max(-1, keepdims=True)
  np.testing.assert_allclose(
    np.where(kept, ratio, largest),
    np.broadcast_to(largest, kept.shape),
    rtol=1e-4,
  )


def test_utilization_and_entropy():
  gates = jnp.array(
    [
      [[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]],
      [[0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]],
      [[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]],
    ]
  )
  where = jnp.array([True, True, False])
  mean, entropy = expert_utilization(gates, where)
  np.testing.assert_allclose(
    mean, [[0.5, 0.5, 0.0, 0.0], [0.25] * 4], rtol=1e-6
  )
  np.testing.assert_allclose(entropy, [0.0, 1.0], atol=1e-6)
  nothing = expert_utilization(gates, jnp.zeros(3, bool))
  np.testing.assert_array_equal(nothing[0], np.zeros((2, 4)))
  np.testing.assert_array_equal(nothing[1], np.zeros(2))
