import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.interactions import (
  CIN,
  BilinearFusion,
  dot_interaction,
  fm_interaction,
)

BATCH, FIELDS, DIM = 4, 5, 3
X = np.random.default_rng(0).normal(size=(BATCH, FIELDS, DIM))
SINGLE = jnp.asarray(X, jnp.float32)


def random_params(module, *args):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


def test_fm_equals_the_sum_over_pairs():
  expected = [
    sum(a @ b for a, b in itertools.combinations(rows, 2)) for rows in X
  ]
  np.testing.assert_allclose(fm_interaction(SINGLE), expected, rtol=1e-5)
  np.testing.assert_allclose(fm_interaction(SINGLE[:, :1]), 0.0, atol=1e-6)


@pytest.mark.parametrize("include_self", [False, True])
def test_dot_interaction_is_the_lower_triangle_row_by_row(include_self):
  found = dot_interaction(SINGLE, include_self=include_self)
  for n, rows in enumerate(X):
    expected = [
      rows[i] @ rows[j] for i in range(FIELDS) for j in range(i + include_self)
    ]
    np.testing.assert_allclose(found[n], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("include_self", [False, True])
def test_gradient_of_the_dot_interaction(include_self):
  """The gradient is written by hand; sums of pairs need none."""
  pairs = [(i, j) for i in range(FIELDS) for j in range(i + include_self)]
  weights = jnp.asarray(
    np.random.default_rng(2).normal(size=(BATCH, len(pairs))), jnp.float32
  )

  def plain(x):
    products = [jnp.sum(x[:, i] * x[:, j], axis=1) for i, j in pairs]
    return jnp.sum(jnp.sin(jnp.stack(products, axis=1)) * weights)

  def ours(x):
    products = dot_interaction(x, include_self=include_self)
    return jnp.sum(jnp.sin(products) * weights)

  np.testing.assert_allclose(
    jax.jit(jax.grad(ours))(SINGLE),
    jax.jit(jax.grad(plain))(SINGLE),
    rtol=1e-4,
    atol=1e-5,
  )


def test_dot_interaction_of_one_vector():
  assert dot_interaction(SINGLE[:, :1]).shape == (BATCH, 0)
  gradient = jax.grad(lambda x: dot_interaction(x).sum())(SINGLE[:, :1])
  np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(
  "activation,use_bias", [("identity", False), ("sigmoid", True)]
)
def test_cin_equals_loops_over_pairs_of_maps(activation, use_bias):
  layers = (4, 2, 3)
  module = CIN(layers, activation, use_bias)
  params = random_params(module, SINGLE)
  found = module.apply({"params": params}, SINGLE)
  maps, expected = X, []
  for number, size in enumerate(layers):
    weights = params[f"layer_{number}"]
    kernel = np.asarray(weights["kernel"], np.float64)
    assert kernel.shape == (maps.shape[1] * FIELDS, size)
    new = np.zeros((BATCH, size, DIM))
    for h, i, j in itertools.product(
      range(size), range(maps.shape[1]), range(FIELDS)
    ):
      new[:, h] += kernel[i * FIELDS + j, h] * maps[:, i] * X[:, j]
    if use_bias:
      new += np.asarray(weights["bias"])[:, None]
      new = 1 / (1 + np.exp(-new))
    maps = new
    expected.append(maps.sum(axis=2))
  assert ("bias" in weights) == use_bias
  np.testing.assert_allclose(found, np.hstack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_bilinear_fusion_equals_the_form_written_out(num_heads):
  rng = np.random.default_rng(3)
  x, y = rng.normal(size=(BATCH, 6)), rng.normal(size=(BATCH, 4))
  args = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
  module = BilinearFusion(num_heads)
  params = random_params(module, *args)
  assert params["bilinear"].shape == (
    num_heads,
    6 // num_heads,
    4 // num_heads,
  )
  # One matrix with blocks on its diagonal.
  whole = np.zeros((6, 4))
  for h, block in enumerate(params["bilinear"]):
    rows, columns = block.shape
    whole[h * rows : (h + 1) * rows, h * columns : (h + 1) * columns] = block
  expected = [
    params["left"]["bias"][0]
    + a @ params["left"]["kernel"][:, 0]
    + b @ params["right"]["kernel"][:, 0]
    + a @ whole @ b
    for a, b in zip(x, y)
  ]
  found = module.apply({"params": params}, *args)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_initial_bilinear_form():
  x = jnp.zeros((1, 40))
  params = BilinearFusion(2).init(jax.random.key(0), x, x)["params"]
  assert abs(np.var(params["bilinear"]) / (2 / 801) - 1) < 0.2


def test_bad_settings_name_the_rule():
  with pytest.raises(ConfigError, match="CIN.layers must be a tuple"):
    CIN(())
  with pytest.raises(ConfigError, match="CIN.activation must be one of"):
    CIN((4,), "linear")
  with pytest.raises(ConfigError, match="BilinearFusion.num_heads must lie"):
    BilinearFusion(0)
  x = jnp.zeros((1, 6))
  with pytest.raises(ConfigError, match="widths 6 and 4 of both.* got 3"):
    BilinearFusion(3).init(jax.random.key(0), x, x[:, :4])
