import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.gates import ContextGate, LongShortGate

_rng = np.random.default_rng(0)
LONG, SHORT, CONTEXT = (
  jnp.asarray(_rng.normal(size=(4, width)), jnp.float32) for width in (3, 2, 5)
)
DIM = 4


def params_of(module, *args):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("args", [(LONG, SHORT), (LONG, SHORT, CONTEXT)])
def test_the_gate_mixes_the_mapped_states(args):
  module = LongShortGate(DIM)
  params = params_of(module, *args)
  out = jax.jit(module.apply)({"params": params}, *args)
  eager = module.apply({"params": params}, *args)
  np.testing.assert_allclose(out, eager, atol=2e-6)
  wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  for row in range(4):
    seen = np.concatenate([np.asarray(x[row]) for x in args])
    gate = sigmoid(seen @ wide["gate"]["kernel"] + wide["gate"]["bias"])
    long = np.asarray(LONG[row]) @ wide["long"]["kernel"]
    short = np.asarray(SHORT[row]) @ wide["short"]["kernel"]
    expected = gate * long + (1 - gate) * short
    np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-5)


def test_an_open_and_a_shut_gate():
  params = params_of(LongShortGate(DIM), LONG, SHORT)
  params["gate"]["kernel"] = jnp.zeros_like(params["gate"]["kernel"])
  for bias, state, name in ((99.0, LONG, "long"), (-99.0, SHORT, "short")):
    params["gate"]["bias"] = jnp.full(DIM, bias)
    out = LongShortGate(DIM).apply({"params": params}, LONG, SHORT)
    expected = state @ params[name]["kernel"]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_the_ablation_is_the_plain_mean_and_has_no_gate():
  module = LongShortGate(DIM, learned=False)
  params = params_of(module, LONG, SHORT, CONTEXT)
  assert set(params) == {"long", "short"}
  out = module.apply({"params": params}, LONG, SHORT, CONTEXT)
  mapped = [
    np.asarray(LONG) @ params["long"]["kernel"],
    np.asarray(SHORT) @ params["short"]["kernel"],
  ]
  np.testing.assert_allclose(out, np.mean(mapped, axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("learned", [True, False])
def test_two_empty_states_give_zeros(learned):
  module = LongShortGate(DIM, learned)
  params = params_of(module, LONG, SHORT)
  out = module.apply(
    {"params": params}, jnp.zeros_like(LONG), jnp.zeros_like(SHORT)
  )
  np.testing.assert_array_equal(out, 0.0)


def test_the_context_gate_starts_as_the_identity_and_can_be_trained():
  module = ContextGate()
  variables = module.init(jax.random.key(0), LONG, CONTEXT)
  np.testing.assert_array_equal(module.apply(variables, LONG, CONTEXT), LONG)
  loss = lambda v: jnp.sum(module.apply(v, LONG, CONTEXT) ** 3)
  gradient = jax.jit(jax.grad(loss))(variables)["params"]["gate"]
  assert np.abs(gradient["kernel"]).max() > 0
  assert np.abs(gradient["bias"]).max() > 0


@pytest.mark.parametrize("reduction,width", [(2, 2), (9, 1)])
def test_the_context_alone_scales_each_input(reduction, width):
  module = ContextGate(reduction)
  params = params_of(module, CONTEXT, LONG)
  assert params["hidden"]["kernel"].shape == (3, width)
  out = jax.jit(module.apply)({"params": params}, CONTEXT, LONG)
  wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  inner = np.asarray(LONG) @ wide["hidden"]["kernel"] + wide["hidden"]["bias"]
  logits = np.maximum(inner, 0) @ wide["gate"]["kernel"] + wide["gate"]["bias"]
  expected = np.asarray(CONTEXT) * 2 * sigmoid(logits)
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_bad_settings_name_the_rule():
  with pytest.raises(ConfigError, match="LongShortGate.dim must lie in"):
    LongShortGate(0)
  with pytest.raises(ConfigError, match="ContextGate.reduction must lie in"):
    ContextGate(0)
