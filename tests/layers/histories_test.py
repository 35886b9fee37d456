import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.layers.histories import (
  MeanHistory,
  ages,
  dense_rows,
  last_state,
  masked_softmax,
  newest_first,
  valid_rows,
)

X = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
LENGTHS = [4, 2, 0]
WHERE = jnp.asarray(np.arange(4)[None] < np.array(LENGTHS)[:, None])


def test_the_mean_is_over_the_items():
  out = MeanHistory().apply({}, jnp.asarray(X), WHERE)
  expected = [X[0].mean(axis=0), X[1, :2].mean(axis=0), [0, 0]]
  np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_the_mean_of_many_bfloat16_is_summed_in_float32():
  ones = jnp.full((1, 1000, 1), 1.0078125, jnp.bfloat16)
  out = MeanHistory().apply({}, ones, jnp.ones((1, 1000), bool))
  np.testing.assert_allclose(out, 1.0078125, rtol=1e-6)


def test_valid_rows_are_zero_where_masked():
  np.testing.assert_array_equal(
    valid_rows(jnp.asarray(X), WHERE), X * np.asarray(WHERE)[..., None]
  )


def test_ages_count_the_items_behind():
  expected = [[3, 2, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
  np.testing.assert_array_equal(ages(WHERE), expected)


def test_the_last_state():
  out = last_state(jnp.asarray(X), WHERE)
  np.testing.assert_array_equal(out, [X[0, 3], X[1, 1], [0, 0]])


def test_newest_first_reads_from_the_end():
  for num in (1, 3, 6):
    rows, there = newest_first(jnp.asarray(X), WHERE, num)
    for row, length in enumerate(LENGTHS):
      expected = np.zeros((num, 2), np.float32)
      count = min(num, length)
      expected[:count] = X[row, :length][::-1][:num]
      np.testing.assert_array_equal(rows[row], expected)
      np.testing.assert_array_equal(there[row], np.arange(num) < count)


def test_the_softmax_of_what_counts():
  logits = jnp.asarray([[1.0, 2.0, 3.0], [1e4, -1e4, 0.0], [1.0, 1.0, 1.0]])
  where = jnp.asarray([[1, 0, 1], [0, 1, 1], [0, 0, 0]], bool)
  weight = 1 / (1 + np.exp(2.0))
  expected = [[weight, 0, 1 - weight], [0, 0, 1], [0, 0, 0]]
  np.testing.assert_allclose(masked_softmax(logits, where), expected, rtol=1e-6)
  gradient = jax.grad(lambda x: masked_softmax(x, where)[:, 2].sum())(logits)
  slope = weight * (1 - weight)
  np.testing.assert_allclose(gradient[0], [-slope, 0, slope], rtol=1e-5)
  np.testing.assert_array_equal(gradient[1:], 0.0)


class TwoLayers(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = dense_rows(x, 5, name="first")
    return dense_rows(x, 2, name="second", use_bias=False)


def test_a_linear_layer_over_the_last_axis():
  x = jnp.asarray(X)
  params = jax.jit(TwoLayers().init)(jax.random.key(0), x)["params"]
  bias = jnp.arange(5.0)
  params["first"]["bias"] = bias
  out = jax.jit(TwoLayers().apply)({"params": params}, x)
  first, second = (np.asarray(params[n]["kernel"]) for n in params)
  for place in np.ndindex(3, 4):
    expected = (X[place] @ first + np.arange(5.0)) @ second
    np.testing.assert_allclose(out[place], expected, rtol=1e-4, atol=1e-5)
  assert set(params["second"]) == {"kernel"}
