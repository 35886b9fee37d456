"""What every encoder of histories must satisfy."""

import importlib
import inspect
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recjax.layers
from recjax.layers.causal_conv import ConvHistory
from recjax.layers.hierarchy import HierarchicalHistory
from recjax.layers.histories import MeanHistory
from recjax.layers.interests import DynamicRouting, SelfAttentiveInterests
from recjax.layers.recurrent import GRUHistory
from recjax.layers.transformer import TransformerHistory

LEN, DIM = 7, 3
LENGTHS = (LEN, 4, 1, 0)
ENCODERS = {
  "mean": MeanHistory(),
  "gru": GRUHistory(4, 2),
  "conv": ConvHistory(4, 2, 3),
  "conv of the same width": ConvHistory(DIM, 3, 2, residual=False),
  "transformer": TransformerHistory(4, 2, 2, 5, max_len=12),
  "hierarchy": HierarchicalHistory(3, MeanHistory(), GRUHistory(4)),
  "two conv": HierarchicalHistory(2, GRUHistory(3), ConvHistory(4, 2, 2)),
  "routing": DynamicRouting(3, 4),
  "adaptive routing": DynamicRouting(3, 4, num_layers=0, adaptive=True),
  "attention": SelfAttentiveInterests(2, 4, max_len=12),
  "attention of the same width": SelfAttentiveInterests(2, DIM),
}
DROPPING = {
  "gru": GRUHistory(4, 1, 0.5),
  "conv": ConvHistory(4, 2, 2, True, 0.5),
  "transformer": TransformerHistory(4, 1, 2, 5, 12, 0.5),
  "hierarchy": HierarchicalHistory(3, GRUHistory(4, 1, 0.5)),
}

_rng = np.random.default_rng(0)
HISTORY = jnp.asarray(_rng.normal(size=(4, LEN, DIM)), jnp.float32)
WHERE = jnp.asarray(np.arange(LEN)[None] < np.array(LENGTHS)[:, None])

each = pytest.mark.parametrize("name", ENCODERS)


def random_variables(module, history=HISTORY):
  """Random weights, biases included, of the right shapes."""
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), history, WHERE[: len(history)]
  )
  return jax.tree.map(
    lambda leaf: jnp.asarray(0.7 * rng.normal(size=leaf.shape), jnp.float32),
    shapes,
  )


@pytest.fixture(scope="module")
def encoded():
  """Name -> weights, result, gradients by weights and by history."""

  def run(module):
    variables = random_variables(module)
    out = module.apply(variables, HISTORY, WHERE)
    towards = jnp.asarray(
      np.random.default_rng(2).normal(size=out.shape), jnp.float32
    )
    loss = lambda v, x: jnp.sum(module.apply(v, x, WHERE) * towards)
    return variables, out, jax.jit(jax.grad(loss, (0, 1))), variables

  return {name: run(module) for name, module in ENCODERS.items()}


def test_all_encoders_are_here():
  found = set()
  for info in pkgutil.iter_modules(recjax.layers.__path__):
    module = importlib.import_module(f"recjax.layers.{info.name}")
    for kind in vars(module).values():
      if isinstance(kind, type) and issubclass(kind, nn.Module):
        if {"history", "where"} <= set(
          inspect.signature(kind.__call__).parameters
        ):
          found.add(kind)
  assert found == {type(module) for module in ENCODERS.values()}
  dropping = {kind for kind in found if hasattr(kind, "dropout_rate")}
  assert dropping <= {type(module) for module in DROPPING.values()}


@each
def test_jit_equals_eager(name, encoded):
  variables, out = encoded[name][:2]
  assert out.dtype == jnp.float32
  jitted = jax.jit(ENCODERS[name].apply)(variables, HISTORY, WHERE)
  np.testing.assert_allclose(jitted, out, atol=2e-6)


@each
def test_masked_places_have_no_effect_even_if_nan(name, encoded):
  variables, out, gradients, _ = encoded[name]
  spoiled = jnp.where(WHERE[..., None], HISTORY, jnp.nan)
  after = ENCODERS[name].apply(variables, spoiled, WHERE)
  np.testing.assert_array_equal(after, out)
  of_weights, of_history = gradients(variables, HISTORY)
  np.testing.assert_array_equal(of_history[~WHERE], 0.0)
  spoiled_gradients = gradients(variables, spoiled)
  for got, want in zip(
    jax.tree.leaves(spoiled_gradients),
    jax.tree.leaves((of_weights, of_history)),
    strict=True,
  ):
    assert np.all(np.isfinite(want))
    np.testing.assert_array_equal(got, want)


@each
def test_every_item_matters(name, encoded):
  variables, _, gradients, _ = encoded[name]
  of_history = gradients(variables, HISTORY)[1]
  assert np.all(np.abs(of_history[WHERE]).max(axis=1) > 1e-6)


@each
def test_more_padding_has_no_effect(name, encoded):
  variables, out = encoded[name][:2]
  longer = jnp.pad(HISTORY, ((0, 0), (0, 5), (0, 0)), constant_values=9.0)
  where = jnp.pad(WHERE, ((0, 0), (0, 5)))
  after = jax.jit(ENCODERS[name].apply)(variables, longer, where)
  np.testing.assert_allclose(after, out, atol=2e-6)


@each
def test_an_empty_history_gives_zeros_and_finite_gradients(name, encoded):
  variables, out = encoded[name][:2]
  np.testing.assert_array_equal(out[3], 0.0)
  assert np.all(np.abs(out[:3]).reshape(3, -1).max(axis=1) > 0)
  nothing = jnp.zeros_like(WHERE)
  loss = lambda v, x: jnp.sum(ENCODERS[name].apply(v, x, nothing) ** 2)
  gradients = jax.jit(jax.grad(loss, (0, 1)))(variables, HISTORY)
  for gradient in jax.tree.leaves(gradients):
    np.testing.assert_array_equal(gradient, 0.0)


@each
def test_rows_do_not_see_each_other(name, encoded):
  variables, out = encoded[name][:2]
  order = np.array([2, 0, 3, 1])
  apply = jax.jit(ENCODERS[name].apply)
  permuted = apply(variables, HISTORY[order], WHERE[order])
  np.testing.assert_allclose(permuted, out[order], atol=2e-6)
  alone = apply(variables, HISTORY[1:2], WHERE[1:2])
  np.testing.assert_allclose(alone, out[1:2], atol=2e-6)


@each
def test_bfloat16_rows_are_computed_with_in_float32(name, encoded):
  rounded = HISTORY.astype(jnp.bfloat16)
  apply = jax.jit(ENCODERS[name].apply)
  out = apply(encoded[name][0], rounded, WHERE)
  assert out.dtype == jnp.float32
  exact = apply(encoded[name][0], rounded.astype(jnp.float32), WHERE)
  np.testing.assert_allclose(out, exact, atol=2e-6)


@each
def test_weights_at_the_start_are_drawn_by_the_key_alone(name):
  module = ENCODERS[name]
  init = jax.jit(module.init)
  first, second = (
    init(jax.random.key(0), HISTORY, WHERE),
    init(jax.random.key(0), HISTORY + 1.0, WHERE),
  )
  jax.tree.map(np.testing.assert_array_equal, first, second)
  assert hash(module) == hash(module.clone())


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_acts_in_training_alone(name):
  module = DROPPING[name]
  variables = random_variables(module)
  exact = module.apply(variables, HISTORY, WHERE)
  train = jax.jit(
    lambda key: module.apply(
      variables, HISTORY, WHERE, deterministic=False, rngs={"dropout": key}
    )
  )
  first, second = train(jax.random.key(0)), train(jax.random.key(1))
  assert np.abs(first - exact).max() > 1e-3
  assert np.abs(first - second).max() > 1e-3
  np.testing.assert_array_equal(first, train(jax.random.key(0)))
  np.testing.assert_array_equal(first[3], 0.0)
