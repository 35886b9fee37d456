import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.mlp import (
  ACTIVATIONS,
  INITIALIZERS,
  MLP,
  check_mlp_settings,
)

_rng = np.random.default_rng(0)
X = jnp.asarray(3.0 + _rng.normal(size=(8, 4)), jnp.float32)
WIDE_X = np.asarray(X, np.float64)


def variables_of(mlp, seed=1):
  """Random weights and statistics of the right shapes."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(
    lambda key: mlp.init(key, X, deterministic=True), jax.random.key(0)
  )
  return jax.tree.map(
    lambda leaf: jnp.asarray(0.5 + rng.random(leaf.shape), jnp.float32), shapes
  )


def wide(tree):
  """Float64 of NumPy, for formulas."""
  return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def test_each_activation():
  x = np.linspace(-3, 3, 13)
  sigmoid = 1 / (1 + np.exp(-x))
  cube = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
  expected = {
    "relu": x * (x > 0),
    "sigmoid": sigmoid,
    "tanh": (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1),
    "gelu": 0.5 * x * (1 + np.tanh(cube)),
    "silu": x * sigmoid,
    "identity": x,
  }
  assert set(expected) == set(ACTIVATIONS)
  for name, values in expected.items():
    found = ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_order_of_the_parts_in_training(batch_norm):
  """Linear, norm by the batch, activation, dropout."""
  mlp = MLP((64,), "sigmoid", dropout_rate=0.5, batch_norm=batch_norm)
  variables = variables_of(mlp)
  found, changed = mlp.apply(
    variables,
    X,
    deterministic=False,
    rngs={"dropout": jax.random.key(0)},
    mutable=["batch_stats"],
  )
  params = wide(variables["params"])
  z = WIDE_X @ params["layer_0"]["kernel"] + params["layer_0"]["bias"]
  if batch_norm:
    mean, var = z.mean(axis=0), z.var(axis=0)
    norm = params["norm_0"]
    z = (z - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
    old = wide(variables["batch_stats"]["norm_0"])
    new = changed["batch_stats"]
    for name, value in (("mean", mean), ("var", var)):
      np.testing.assert_allclose(
        new["norm_0"][name], 0.9 * old[name] + 0.1 * value, rtol=1e-5
      )
  # A sigmoid is never 0, so each 0 was dropped, behind it; others doubled.
  expected = 2 / (1 + np.exp(-z))
  kept = np.asarray(found) > 0
  assert 0.4 < kept.mean() < 0.6
  np.testing.assert_allclose(found[kept], expected[kept], rtol=1e-4)


def test_running_statistics_are_used_when_deterministic():
  mlp = MLP((5, 3), batch_norm=True)
  variables = variables_of(mlp)
  found = mlp.apply(variables, X, deterministic=True)
  x, params = WIDE_X, wide(variables["params"])
  for layer in range(2):
    weights, norm = params[f"layer_{layer}"], params[f"norm_{layer}"]
    stats = wide(variables["batch_stats"])[f"norm_{layer}"]
    x = x @ weights["kernel"] + weights["bias"]
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    x = np.maximum(x * norm["scale"] + norm["bias"], 0)
  np.testing.assert_allclose(found, x, rtol=1e-5)


def test_the_running_variance_is_the_biased_one():
  """Unlike PyTorch's, which divides by n - 1."""
  mlp = MLP((2,), batch_norm=True)
  variables = variables_of(mlp)
  _, changed = mlp.apply(
    variables, X, deterministic=False, mutable=["batch_stats"]
  )
  old = wide(variables["batch_stats"]["norm_0"]["var"])
  weights = wide(variables["params"]["layer_0"])
  z = WIDE_X @ weights["kernel"] + weights["bias"]
  step = (changed["batch_stats"]["norm_0"]["var"] - 0.9 * old) / 0.1
  np.testing.assert_allclose(step, z.var(axis=0, ddof=0), rtol=1e-4)
  assert np.all(np.abs(step / z.var(axis=0, ddof=1) - 1) > 0.1)


def test_padding_rows_do_not_count_in_the_statistics():
  mlp = MLP((3,), batch_norm=True)
  variables = variables_of(mlp)
  train = lambda x, where: mlp.apply(
    variables, x, deterministic=False, where=where, mutable=["batch_stats"]
  )
  alone, stats = train(X[:5], None)
  padded, masked_stats = train(X, jnp.arange(8) < 5)
  np.testing.assert_allclose(padded[:5], alone, rtol=1e-5, atol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    masked_stats,
    stats,
  )


def test_precision_far_from_zero():
  """E[x^2] - E[x]^2 in float32 would give 0 or less here."""
  mlp = MLP((1,), "identity", batch_norm=True)
  x = jnp.asarray([[4096.0], [4096.5], [4097.0], [4097.5]])
  variables = {
    "params": {
      "layer_0": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
      "norm_0": {"scale": jnp.ones(1), "bias": jnp.zeros(1)},
    },
    "batch_stats": {"norm_0": {"mean": jnp.zeros(1), "var": jnp.ones(1)}},
  }
  found, _ = mlp.apply(
    variables, x, deterministic=False, mutable=["batch_stats"]
  )
  z = np.array([-0.75, -0.25, 0.25, 0.75])
  np.testing.assert_allclose(found[:, 0], z / z.std(), rtol=1e-4)


def test_without_layers_the_input_comes_back():
  np.testing.assert_array_equal(
    MLP((), dropout_rate=0.5).apply({}, X, deterministic=False), X
  )


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initial_values(name):
  mlp = MLP((300,), kernel_init=name, batch_norm=True)
  x = jnp.zeros((1, 100))
  variables = jax.jit(lambda key: mlp.init(key, x, deterministic=True))(
    jax.random.key(0)
  )
  layer = variables["params"]["layer_0"]
  variance = {"glorot": 2 / 400, "lecun": 1 / 100, "he": 2 / 100}
  family, shape = name.split("_")
  kernel = np.asarray(layer["kernel"])
  # 30,000 draws: the deviation is known to better than 1 percent.
  assert abs(kernel.var() / variance[family] - 1) < 0.04
  bound = np.sqrt(3 * variance[family])
  assert (np.abs(kernel).max() <= 1.0001 * bound) == (shape == "uniform")
  np.testing.assert_array_equal(layer["bias"], 0.0)
  np.testing.assert_array_equal(variables["params"]["norm_0"]["scale"], 1.0)
  np.testing.assert_array_equal(variables["batch_stats"]["norm_0"]["var"], 1.0)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"hidden": (4, 0)}, r"MLP.hidden\[1\] must lie in"),
    ({"hidden": (4,), "activation": "Relu"}, "Did you mean 'relu'"),
    ({"hidden": (4,), "kernel_init": "xavier"}, "MLP.kernel_init must be"),
    ({"hidden": (4,), "dropout_rate": 1.0}, "MLP.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    MLP(**settings)


@pytest.mark.parametrize(
  "args,message",
  [
    (([400, 400],), r"M.hidden must be a tuple .* got \[400, 400\]"),
    ((400,), "M.hidden must be a tuple .* got 400"),
    (((),), "M.hidden must be a tuple of at least 1"),
    (((4.0,),), r"M.hidden\[0\] must be an integer; got 4.0"),
    (((4,), "sigmod"), "M.activation.*Did you mean 'sigmoid'"),
    (((4,), "relu", 1.5), "M.dropout_rate must lie in"),
  ],
)
def test_a_model_s_settings_are_checked_in_its_words(args, message):
  with pytest.raises(ConfigError, match=message):
    check_mlp_settings("M", *args)


def test_settings_that_pass():
  check_mlp_settings("M", (), min_layers=0)
  with pytest.raises(ConfigError, match="M.layers must be a tuple"):
    check_mlp_settings("M", (), field="layers")
