import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.cross import CrossNetwork, CrossNetworkV2

BATCH, DIM, LAYERS, RANK, EXPERTS = 4, 5, 3, 2, 3
X = np.random.default_rng(0).normal(size=(BATCH, DIM))


def random_params(module):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, DIM)))[
    "params"
  ]
  return jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape), shapes)


def apply(module, params):
  single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
  return module.apply({"params": single}, jnp.asarray(X, jnp.float32))


def test_first_kind_equals_the_outer_product_written_out():
  module = CrossNetwork(LAYERS)
  params = random_params(module)
  found = apply(module, params)
  for n, first in enumerate(X):
    x = first
    for layer in range(LAYERS):
      weight, bias = params[f"weight_{layer}"], params[f"bias_{layer}"]
      x = np.outer(first, x) @ weight[:, 0] + bias + x
    np.testing.assert_allclose(found[n], x, rtol=1e-5, atol=1e-5)


def test_first_kind_has_the_degree_of_its_layers():
  """Without biases, c x goes to sums of c, c^2, ..., c^(L+1)."""
  module = CrossNetwork(2)
  params = random_params(module) | {
    f"bias_{layer}": np.zeros(DIM) for layer in range(2)
  }
  single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
  call = lambda c: module.apply({"params": single}, jnp.float32(c * X))
  scales = np.array([0.5, 1.0, 2.0, -1.0])
  values = np.stack([np.asarray(call(c)).ravel() for c in scales])
  powers = scales[:, None] ** np.arange(1, 4)
  fitted, *_ = np.linalg.lstsq(powers, values, rcond=None)
  np.testing.assert_allclose(powers @ fitted, values, atol=1e-4)
  assert np.abs(fitted[2]).max() > 0.01


@pytest.mark.parametrize("kind", ["full", "low_rank"])
def test_second_kind_equals_the_formula(kind):
  module = CrossNetworkV2(LAYERS, kind, rank=RANK)
  params = random_params(module)
  found = apply(module, params)
  for n, first in enumerate(X):
    x = first
    for layer in range(LAYERS):
      if kind == "full":
        last = params[f"full_{layer}"]
        matrix = last["kernel"].T
      else:
        last = params[f"u_{layer}"]
        matrix = (params[f"v_{layer}"]["kernel"] @ last["kernel"]).T
        assert np.linalg.matrix_rank(matrix) == RANK
      x = first * (matrix @ x + last["bias"]) + x
    np.testing.assert_allclose(found[n], x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_mixture_equals_a_loop_over_experts(gate, activation):
  module = CrossNetworkV2(
    LAYERS, "mixture", RANK, EXPERTS, gate, expert_activation=activation
  )
  params = random_params(module)
  found = apply(module, params)
  g = np.tanh if activation == "tanh" else lambda x: x
  for n, first in enumerate(X):
    x = first
    for layer in range(LAYERS):
      scores = params[f"gate_{layer}"]["kernel"].T @ x
      gates = 1 / (1 + np.exp(-scores))
      if gate == "softmax":
        gates = np.exp(scores) / np.exp(scores).sum()
      new = x.copy()
      for e in range(EXPERTS):
        v, c, u = (params[f"{name}_{layer}"][e].T for name in "vcu")
        expert = first * (u @ g(c @ g(v @ x)) + params[f"bias_{layer}"])
        new += gates[e] * expert
      x = new
    np.testing.assert_allclose(found[n], x, rtol=1e-4, atol=1e-4)


def test_initial_values():
  x = jnp.zeros((1, 200))
  init = jax.jit(
    lambda module, key: module.init(key, x)["params"], static_argnums=0
  )
  params = init(CrossNetwork(3), jax.random.key(0))
  weights = np.stack([params[f"weight_{layer}"] for layer in range(3)])
  assert abs(weights.var() / (2 / 201) - 1) < 0.2
  np.testing.assert_array_equal(params["bias_0"], 0.0)
  params = init(CrossNetworkV2(1, "full"), jax.random.key(0))["full_0"]
  assert abs(np.var(params["kernel"]) / (2 / 400) - 1) < 0.15
  # Glorot's fans are those of one expert, not of all.
  params = init(
    CrossNetworkV2(1, "mixture", rank=30, num_experts=6), jax.random.key(0)
  )
  for name, fans in (("u", 230), ("v", 230), ("c", 60)):
    assert abs(np.var(params[f"{name}_0"]) / (2 / fans) - 1) < 0.15
  np.testing.assert_array_equal(params["bias_0"], 0.0)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"num_layers": 0}, "CrossNetworkV2.num_layers must lie in"),
    ({"rank": 0}, "CrossNetworkV2.rank must lie in"),
    ({"num_experts": -1}, "CrossNetworkV2.num_experts must lie in"),
    ({"kind": "fulll"}, "CrossNetworkV2.kind.*Did you mean 'full'"),
    ({"gate": "softmx"}, "CrossNetworkV2.gate.*Did you mean 'softmax'"),
    ({"expert_activation": "t"}, "expert_activation must be one of"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    CrossNetworkV2(**settings)
  with pytest.raises(ConfigError, match="CrossNetwork.num_layers must lie"):
    CrossNetwork(0)
