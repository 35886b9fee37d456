import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.causal_conv import ConvHistory

BATCH, LEN, IN, DIM = 4, 20, 3, 5
LENGTHS = [20, 13, 2, 1]
X = np.random.default_rng(0).normal(size=(BATCH, LEN, IN))
HISTORY = jnp.asarray(X, jnp.float32)
WHERE = jnp.asarray(np.arange(LEN)[None] < np.array(LENGTHS)[:, None])


def variables_of(module, history=HISTORY):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), history, WHERE)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


def oracle(module, variables, rows):
  """Every state of every layer, the newest of the last one at the end."""
  params = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64), variables["params"]
  )
  x = rows @ params["input"]["kernel"] if "input" in params else rows
  for layer in range(module.num_layers):
    kernel = params[f"conv_{layer}"]["kernel"].reshape(
      module.kernel_size, module.dim, module.dim
    )
    norm, out = params[f"norm_{layer}"], []
    for i in range(len(x)):
      total = params[f"conv_{layer}"]["bias"].copy()
      for t in range(module.kernel_size):
        if i - t * 2**layer >= 0:
          total += x[i - t * 2**layer] @ kernel[t]
      centred = total - total.mean()
      normed = centred / np.sqrt((centred**2).mean() + 1e-6)
      new = np.maximum(normed * norm["scale"] + norm["bias"], 0)
      out.append(x[i] + new if module.residual else new)
    x = np.stack(out)
  return x[-1]


@pytest.mark.parametrize(
  "kernel_size,num_layers,residual",
  [
    (2, 1, True),
    (2, 4, True),
    (3, 2, True),
    (3, 3, False),
    (4, 2, False),
    (3, 6, True),
  ],
)
def test_equals_the_dilated_convolutions(kernel_size, num_layers, residual):
  """With 6 layers most of what is seen lies before the history."""
  module = ConvHistory(DIM, kernel_size, num_layers, residual)
  variables = variables_of(module)
  out = jax.jit(module.apply)(variables, HISTORY, WHERE)
  for row, length in enumerate(LENGTHS):
    expected = oracle(module, variables, X[row, :length])
    np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-4)


def test_items_of_the_right_width_are_not_mapped():
  module = ConvHistory(IN, 3, 2)
  variables = variables_of(module)
  assert "input" not in variables["params"]
  out = jax.jit(module.apply)(variables, HISTORY, WHERE)
  expected = oracle(module, variables, X[1, : LENGTHS[1]])
  np.testing.assert_allclose(out[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel_size,num_layers", [(2, 3), (3, 2)])
def test_the_receptive_field(kernel_size, num_layers):
  module = ConvHistory(IN, kernel_size, num_layers)
  variables = variables_of(module)
  gradient = jax.jit(
    jax.grad(lambda x: jnp.sum(module.apply(variables, x, WHERE) ** 2))
  )(HISTORY)
  seen = np.abs(np.asarray(gradient[0])).max(axis=1) > 0
  field = 1 + (kernel_size - 1) * sum(2**n for n in range(num_layers))
  assert module.receptive_field == field < LEN
  np.testing.assert_array_equal(seen, np.arange(LEN) >= LEN - field)


def test_the_work_does_not_grow_with_the_history():
  module = ConvHistory(DIM, 3, 3)
  variables = variables_of(module)

  def products(length):
    args = jnp.zeros((1, length, IN)), jnp.ones((1, length), bool)
    lowered = jax.jit(module.apply).lower(variables, *args)
    return lowered.compile().cost_analysis()["flops"]

  # The mask is counted, and nothing else that is as long as the history.
  assert products(200) - products(20) < 5 * 180
  assert products(200) < products(20) * 1.2


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "ConvHistory.dim must lie in"),
    ({"kernel_size": 1}, "ConvHistory.kernel_size must lie in"),
    ({"num_layers": 17}, r"ConvHistory.num_layers must lie in \[1, 16\]"),
    ({"dropout_rate": -0.1}, "ConvHistory.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    ConvHistory(**settings)
