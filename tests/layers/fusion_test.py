import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.fusion import (
  AttentionFusion,
  ConcatFusion,
  GatedFusion,
  WeightedFusion,
)

DIM = 4
FUSIONS = (ConcatFusion, WeightedFusion, AttentionFusion, GatedFusion)
_rng = np.random.default_rng(0)
X = {
  name: _rng.normal(size=(5, width))
  for name, width in (("image", 3), ("text", 2), ("id", 5))
}
MODALITIES = {name: jnp.asarray(x, jnp.float32) for name, x in X.items()}
PRESENT = {
  "image": jnp.asarray([1, 0, 1, 0, 0], bool),
  "text": jnp.asarray([1, 1, 0, 0, 0], bool),
  "id": jnp.asarray([1, 1, 1, 1, 0], bool),
}
NAMES = ["id", "image", "text"]

each = pytest.mark.parametrize("kind", FUSIONS)


def variables_of(module):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), MODALITIES)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


def dense(params, name, x):
  return x @ params[name]["kernel"] + params[name].get("bias", 0.0)


def softmax(x):
  return np.exp(x) / np.exp(x).sum()


def oracle(kind, params, vectors, there):
  """One example; `there` names what it has."""
  if not there:
    return np.zeros(DIM)
  whole = np.concatenate([vectors[name] * (name in there) for name in NAMES])
  if kind is ConcatFusion:
    return dense(params, "output", whole)
  z = {name: dense(params, f"project_{name}", vectors[name]) for name in there}
  if kind is GatedFusion:
    logits = dense(params, "gates", whole).reshape(len(NAMES), DIM)
    gates = dict(zip(NAMES, 1 / (1 + np.exp(-logits)), strict=True))
    return sum(gates[name] * np.tanh(z[name]) for name in there)
  if kind is WeightedFusion:
    learned = dict(zip(NAMES, params["weights"], strict=True))
    logits = np.array([learned[name] for name in there])
  else:
    logits = np.array(
      [
        dense(params, "query", np.tanh(dense(params, "hidden", z[name])))[0]
        for name in there
      ]
    )
  weights = softmax(logits)
  return sum(w * z[name] for w, name in zip(weights, there, strict=True))


@each
@pytest.mark.parametrize("present", [None, PRESENT])
def test_equals_the_formula_example_by_example(kind, present):
  module = kind(DIM)
  variables = variables_of(module)
  out = jax.jit(module.apply)(variables, MODALITIES, present)
  if present:
    eager = module.apply(variables, MODALITIES, present)
    np.testing.assert_allclose(out, eager, atol=1e-5)
  params = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64), variables["params"]
  )
  for row in range(5):
    there = [name for name in NAMES if present is None or present[name][row]]
    vectors = {name: x[row] for name, x in X.items()}
    expected = oracle(kind, params, vectors, there)
    np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-4)


@each
def test_missing_modalities_have_no_effect_even_if_nan(kind):
  module = kind(DIM)
  variables = variables_of(module)
  loss = lambda v, x: jnp.sum(module.apply(v, x, PRESENT) ** 2)
  run = jax.jit(jax.value_and_grad(loss, (0, 1)))
  spoiled = {
    name: jnp.where(PRESENT[name][:, None], x, jnp.nan)
    for name, x in MODALITIES.items()
  }
  plain = run(variables, MODALITIES)
  jax.tree.map(np.testing.assert_array_equal, run(variables, spoiled), plain)
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(plain))
  for name, gradient in plain[1][1].items():
    moved = np.abs(np.asarray(gradient)).max(axis=1) > 0
    np.testing.assert_array_equal(moved, PRESENT[name])


@each
def test_the_order_of_the_dict_does_not_matter(kind):
  module = kind(DIM)
  variables = variables_of(module)
  turned = dict(reversed(MODALITIES.items()))
  np.testing.assert_array_equal(
    module.apply(variables, turned, PRESENT),
    module.apply(variables, MODALITIES, PRESENT),
  )
  init = jax.jit(module.init)
  first, second = (init(jax.random.key(0), x) for x in (MODALITIES, turned))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_modality_that_is_not_named_is_there():
  module = ConcatFusion(DIM)
  variables = variables_of(module)
  some = {"text": PRESENT["text"]}
  ones = jnp.ones(5, bool)
  np.testing.assert_array_equal(
    module.apply(variables, MODALITIES, some),
    module.apply(variables, MODALITIES, {**some, "id": ones, "image": ones}),
  )


def test_weights_start_equal():
  params = WeightedFusion(DIM).init(jax.random.key(0), MODALITIES)["params"]
  np.testing.assert_array_equal(params["weights"], np.zeros(3))


@each
def test_bad_input_names_the_rule(kind):
  name = kind.__name__
  with pytest.raises(ConfigError, match=f"{name}.dim must lie in"):
    kind(0)
  with pytest.raises(ConfigError, match=f"{name} needs at least one modality"):
    kind(DIM).init(jax.random.key(0), {})
  wrong = {"images": PRESENT["image"]}
  with pytest.raises(ConfigError, match=f"{name}.*Did you mean 'image'"):
    kind(DIM).init(jax.random.key(0), MODALITIES, wrong)
