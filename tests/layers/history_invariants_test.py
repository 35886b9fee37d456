"""What every encoder of histories must satisfy."""

import functools
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
  "conv": ConvHistory(8, 4, 2),
  "transformer": TransformerHistory(4, 2, 2, 5, max_len=12),
  "hierarchy": HierarchicalHistory(3, MeanHistory(), GRUHistory(4)),
  "routing": DynamicRouting(3, 4),
  "adaptive routing": DynamicRouting(3, 4, num_layers=0, adaptive=True),
  "attention": SelfAttentiveInterests(2, 4, max_len=12),
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


class Encoded:
  """An encoder with its weights; each program is compiled once."""

  def __init__(self, module):
    self.variables = random_variables(module)
    self.apply = jax.jit(module.apply)
    self.out = np.asarray(self.apply(self.variables, HISTORY, WHERE))
    towards = jnp.asarray(
      np.random.default_rng(2).normal(size=self.out.shape), jnp.float32
    )
    loss = lambda *args: jnp.sum(module.apply(*args) * towards)
    self.gradients = jax.jit(jax.grad(loss, (0, 1)))


@pytest.fixture(scope="module")
def encoded():
  """Name -> encoder, made at its first use."""
  return functools.cache(lambda name: Encoded(ENCODERS[name]))


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


# Without the compiler each operation is slow: one encoder of a kind is enough.
@pytest.mark.parametrize(
  "name", [n for n in ENCODERS if n != "adaptive routing"]
)
def test_jit_equals_eager(name, encoded):
  module, found = ENCODERS[name], encoded(name)
  eager = module.apply(found.variables, HISTORY, WHERE)
  np.testing.assert_allclose(found.out, eager, atol=2e-6)
  assert hash(module) == hash(module.clone())


@each
def test_masked_places_have_no_effect_even_if_nan(name, encoded):
  found = encoded(name)
  spoiled = jnp.where(WHERE[..., None], HISTORY, jnp.nan)
  after = found.apply(found.variables, spoiled, WHERE)
  np.testing.assert_array_equal(after, found.out)
  plain = found.gradients(found.variables, HISTORY, WHERE)
  np.testing.assert_array_equal(plain[1][~WHERE], 0.0)
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(plain))
  after = found.gradients(found.variables, spoiled, WHERE)
  jax.tree.map(np.testing.assert_array_equal, after, plain)


@each
def test_every_item_matters(name, encoded):
  found = encoded(name)
  gradient = found.gradients(found.variables, HISTORY, WHERE)[1]
  assert np.all(np.abs(gradient[WHERE]).max(axis=1) > 1e-6)


@each
def test_more_padding_has_no_effect(name, encoded):
  found = encoded(name)
  longer = jnp.pad(HISTORY, ((0, 0), (0, 5), (0, 0)), constant_values=9.0)
  where = jnp.pad(WHERE, ((0, 0), (0, 5)))
  after = found.apply(found.variables, longer, where)
  np.testing.assert_allclose(after, found.out, atol=2e-6)


@each
def test_an_empty_history_gives_zeros_and_no_gradient(name, encoded):
  found = encoded(name)
  np.testing.assert_array_equal(found.out[3], 0.0)
  assert np.all(np.abs(found.out[:3]).reshape(3, -1).max(axis=1) > 0)
  nothing = jnp.zeros_like(WHERE)
  gradients = found.gradients(found.variables, HISTORY, nothing)
  for gradient in jax.tree.leaves(gradients):
    np.testing.assert_array_equal(gradient, 0.0)


@each
def test_rows_do_not_see_each_other(name, encoded):
  found = encoded(name)
  order = np.array([2, 0, 3, 1])
  permuted = found.apply(found.variables, HISTORY[order], WHERE[order])
  np.testing.assert_allclose(permuted, found.out[order], atol=2e-6)
  others = HISTORY.at[1:].add(5.0)
  alone = found.apply(found.variables, others, WHERE.at[1:].set(True))
  np.testing.assert_allclose(alone[0], found.out[0], atol=2e-6)


@each
def test_bfloat16_rows_are_taken_to_float32(name, encoded):
  rounded = HISTORY.astype(jnp.bfloat16)
  out = jax.eval_shape(
    ENCODERS[name].apply, encoded(name).variables, rounded, WHERE
  )
  assert out.dtype == encoded(name).out.dtype == jnp.float32


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_acts_in_training_alone(name):
  module = DROPPING[name]
  variables = random_variables(module)
  exact = jax.jit(module.apply)(variables, HISTORY, WHERE)
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
