import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.token_bag import POOLINGS, TokenBag

LEN, IN, DIM = 5, 3, 4
X = np.random.default_rng(0).normal(size=(4, LEN, IN))
TOKENS = jnp.asarray(X, jnp.float32)
# Tokens may be missing anywhere.
WHERE = jnp.asarray(
  [[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool
)

both = pytest.mark.parametrize("pooling", POOLINGS)


def variables_of(module):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), TOKENS, WHERE)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


@both
def test_equals_the_formula(pooling):
  module = TokenBag(DIM, pooling)
  variables = variables_of(module)
  out = jax.jit(module.apply)(variables, TOKENS, WHERE)
  np.testing.assert_allclose(
    out, module.apply(variables, TOKENS, WHERE), atol=1e-6
  )
  params = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64), variables["params"]
  )
  for row in range(3):
    rows = X[row, np.asarray(WHERE[row])]
    weights = np.full(len(rows), 1 / len(rows))
    if pooling == "attention":
      hidden = rows @ params["hidden"]["kernel"] + params["hidden"]["bias"]
      logits = (np.tanh(hidden) @ params["query"]["kernel"])[:, 0]
      weights = np.exp(logits) / np.exp(logits).sum()
    pooled = weights @ rows
    expected = pooled @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(out[3], 0.0)


@both
def test_masked_tokens_have_no_effect_even_if_nan(pooling):
  module = TokenBag(DIM, pooling)
  variables = variables_of(module)
  loss = lambda v, x: jnp.sum(module.apply(v, x, WHERE) ** 2)
  run = jax.jit(jax.value_and_grad(loss, (0, 1)))
  plain = run(variables, TOKENS)
  spoiled = run(variables, jnp.where(WHERE[..., None], TOKENS, jnp.nan))
  jax.tree.map(np.testing.assert_array_equal, spoiled, plain)
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(plain))
  moved = np.abs(np.asarray(plain[1][1])).max(axis=2) > 0
  np.testing.assert_array_equal(moved, WHERE)


@both
def test_the_order_of_tokens_does_not_matter(pooling):
  module = TokenBag(DIM, pooling)
  variables = variables_of(module)
  order = np.array([4, 2, 0, 3, 1])
  out = module.apply(variables, TOKENS, WHERE)
  permuted = module.apply(variables, TOKENS[:, order], WHERE[:, order])
  np.testing.assert_allclose(permuted, out, rtol=1e-5, atol=1e-6)


def test_dropout_takes_away_parts_of_the_pooled_vector():
  module = TokenBag(1, dropout_rate=0.5)
  params = {"output": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}
  ones, where = jnp.ones((400, 2, 1)), jnp.ones((400, 2), bool)
  train = module.apply(
    {"params": params},
    ones,
    where,
    deterministic=False,
    rngs={"dropout": jax.random.key(0)},
  )
  kept = np.asarray(train) > 0
  assert abs(kept.mean() - 0.5) < 4 * 0.5 / 20
  np.testing.assert_array_equal(train[kept], 2.0)
  np.testing.assert_array_equal(
    module.apply({"params": params}, ones, where), 1.0
  )


def test_bad_settings_name_the_rule():
  with pytest.raises(ConfigError, match="TokenBag.pooling.*mean 'mean'"):
    TokenBag(4, "means")
  with pytest.raises(ConfigError, match="TokenBag.dim must lie in"):
    TokenBag(0)
  with pytest.raises(ConfigError, match="TokenBag.dropout_rate must lie in"):
    TokenBag(4, dropout_rate=1.0)
