import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.recurrent import GRUHistory

BATCH, LEN, IN, DIM = 3, 6, 4, 5
LENGTHS = [6, 3, 1]
X = np.random.default_rng(0).normal(size=(BATCH, LEN, IN))
HISTORY = jnp.asarray(X, jnp.float32)
WHERE = jnp.asarray(np.arange(LEN)[None] < np.array(LENGTHS)[:, None])


def variables_of(module):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), HISTORY, WHERE)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def gru(inputs, params, layer):
  """All states of one layer for one history, one gate at a time."""
  wide = lambda x: np.asarray(x, np.float64)
  w_r, w_z, w_c = np.split(wide(params[f"input_kernel_{layer}"]), 3, axis=1)
  b_r, b_z, b_c = np.split(wide(params[f"input_bias_{layer}"]), 3)
  u_r, u_z, u_c = np.split(wide(params[f"recurrent_kernel_{layer}"]), 3, axis=1)
  a = wide(params[f"recurrent_bias_{layer}"])
  state, states = np.zeros(DIM), []
  for x in inputs:
    r = sigmoid(x @ w_r + state @ u_r + b_r)
    z = sigmoid(x @ w_z + state @ u_z + b_z)
    candidate = np.tanh(x @ w_c + b_c + r * (state @ u_c + a))
    state = z * state + (1 - z) * candidate
    states.append(state)
  return states


@pytest.mark.parametrize(
  "num_layers,project_once", [(1, True), (1, False), (2, True)]
)
def test_equals_the_equations_step_by_step(num_layers, project_once):
  module = GRUHistory(DIM, num_layers, project_once=project_once)
  variables = variables_of(module)
  out = jax.jit(module.apply)(variables, HISTORY, WHERE)
  for row, length in enumerate(LENGTHS):
    states = X[row, :length]
    for layer in range(num_layers):
      states = gru(states, variables["params"], layer)
    np.testing.assert_allclose(out[row], states[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("project_once,products", [(True, 1), (False, 2)])
def test_how_many_products_a_step_of_the_loop_has(project_once, products):
  module = GRUHistory(DIM, project_once=project_once)
  variables = variables_of(module)
  jaxpr = jax.make_jaxpr(module.apply)(variables, HISTORY, WHERE)
  (scan,) = (e for e in jaxpr.eqns if e.primitive.name == "scan")
  names = [e.primitive.name for e in scan.params["jaxpr"].eqns]
  assert names.count("dot_general") == products


def test_recurrent_kernels_start_orthogonal():
  init = jax.jit(GRUHistory(DIM).init)
  params = init(jax.random.key(0), HISTORY, WHERE)["params"]
  parts = np.split(np.asarray(params["recurrent_kernel_0"]), 3, axis=1)
  for part in parts:
    np.testing.assert_allclose(part.T @ part, np.eye(DIM), atol=1e-5)
  assert not np.allclose(parts[0], parts[1])


def test_dropout_takes_away_the_inputs():
  """Without inputs and biases the state stays where it starts."""
  module = GRUHistory(DIM, dropout_rate=0.5)
  variables = variables_of(module)
  one = jnp.ones((400, 1, 1))
  variables = jax.tree.map(jnp.zeros_like, variables)
  params = variables["params"]
  params["input_kernel_0"] = jnp.ones((1, 3 * DIM))
  train = lambda key: module.apply(
    variables,
    one,
    jnp.ones((400, 1), bool),
    deterministic=False,
    rngs={"dropout": key},
  )
  out = jax.jit(train)(jax.random.key(0))
  kept = np.asarray(out[:, 0]) > 0
  assert abs(kept.mean() - 0.5) < 4 * 0.5 / 20
  # x = 2 where it is kept: h = (1 - sigmoid(2)) tanh(2).
  expected = (1 - sigmoid(2.0)) * np.tanh(2.0)
  np.testing.assert_allclose(out[kept], expected, rtol=1e-5)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "GRUHistory.dim must lie in"),
    ({"num_layers": 0}, "GRUHistory.num_layers must lie in"),
    ({"dropout_rate": 1.0}, "GRUHistory.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    GRUHistory(**settings)
