import jax.numpy as jnp
import numpy as np

from recjax.balancing.task_gradients import along_leaf, weighted_sum


def test_the_sum_over_tasks_of_each_leaf():
  rng = np.random.default_rng(0)
  kernel, bias = rng.normal(size=(3, 4, 2)), rng.normal(size=3)
  weights = np.array([0.5, 2.0, -1.0])
  present = np.array([True, False, True])
  grads = {"kernel": kernel.copy(), "deep": [bias.copy()]}
  grads["kernel"][1] = np.nan
  total = weighted_sum(
    {
      "kernel": jnp.asarray(grads["kernel"], jnp.float32),
      "deep": [jnp.asarray(bias, jnp.float32)],
    },
    jnp.asarray(weights, jnp.float32),
    jnp.asarray(present),
  )
  np.testing.assert_allclose(
    total["kernel"], 0.5 * kernel[0] - kernel[2], rtol=1e-5
  )
  np.testing.assert_allclose(
    total["deep"][0], 0.5 * bias[0] - bias[2], rtol=1e-5
  )


def test_values_get_the_axes_of_a_leaf():
  values = along_leaf(jnp.arange(3.0), jnp.zeros((3, 4, 2)))
  np.testing.assert_array_equal(values, np.arange(3.0).reshape(3, 1, 1))
  assert along_leaf(jnp.arange(3.0), jnp.zeros(3)).shape == (3,)
