import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError
from recjax.layers.dropout import Dropout, dropout

NUM = 1 << 18
jitted = jax.jit(dropout, static_argnames="rate")


@pytest.mark.parametrize("rate", [0.001, 0.2, 0.99])
def test_rate_and_mean(rate):
  x = np.linspace(1.0, 2.0, NUM, dtype=np.float32)
  y = np.asarray(jitted(jax.random.key(0), x, rate=rate))
  dropped = y == 0
  error = np.sqrt(rate * (1 - rate) / NUM)
  assert abs(dropped.mean() - rate) < 4 * error
  np.testing.assert_allclose(y[~dropped], x[~dropped] / (1 - rate), rtol=1e-6)
  assert abs(y.mean() - x.mean()) < 4 * y.std() / np.sqrt(NUM)


def test_elements_of_a_mask_are_independent():
  shape = (64, 64, 64)
  mask = np.asarray(jitted(jax.random.key(0), jnp.ones(shape), rate=0.5)) > 0
  signs = np.where(mask, 1.0, -1.0)
  # Products of neighbours along each axis, and of whole words apart.
  flat = signs.reshape(-1)
  products = [
    flat[lag:] * flat[:-lag] for lag in (1, 2, 3, 64, 65, 4096, 2**16)
  ]
  # Three in a row, and the corners of squares: where XOR would show.
  products.append(flat[2:] * flat[1:-1] * flat[:-2])
  products.append(flat[0::4] * flat[1::4] * flat[2::4] * flat[3::4])
  products.append(
    signs[:, 0::2, 0::2]
    * signs[:, 0::2, 1::2]
    * signs[:, 1::2, 0::2]
    * signs[:, 1::2, 1::2]
  )
  for product in products:
    assert abs(product.mean()) < 4.5 / np.sqrt(product.size)
  # Each byte of the mask is as frequent as any other.
  counts = np.bincount(np.packbits(mask.reshape(-1)), minlength=256)
  assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_masks_of_many_keys_are_independent():
  keys = jax.random.split(jax.random.key(0), 64)
  draw = jax.jit(jax.vmap(lambda key: dropout(key, jnp.ones(4096), rate=0.5)))
  signs = np.asarray(draw(keys)) - 1.0
  agreement = signs @ signs.T / 4096
  off_diagonal = agreement[~np.eye(64, dtype=bool)]
  assert np.abs(off_diagonal).max() < 5 / np.sqrt(4096)
  assert abs(off_diagonal.std() * np.sqrt(4096) - 1) < 0.1
  # A place is dropped by as many keys as chance has it.
  assert abs(signs.mean(0).var() * 64 - 1) < 5 * np.sqrt(2 / 4096)


def test_the_key_alone_fixes_the_mask():
  x = jnp.ones(1000)
  draw = lambda seed: np.asarray(jitted(jax.random.key(seed), x, rate=0.5))
  np.testing.assert_array_equal(draw(0), draw(0))
  agree = np.mean((draw(0) == 0) == (draw(1) == 0))
  assert abs(agree - 0.5) < 4 * np.sqrt(0.25 / 1000)


def test_gradient_is_mask_and_scale():
  x, key = jnp.arange(1.0, 101.0), jax.random.key(3)
  y = dropout(key, x, rate=0.5)
  grad = jax.grad(lambda x: jnp.sum(dropout(key, x, rate=0.5)))(x)
  np.testing.assert_array_equal(grad, np.where(y == 0, 0.0, 2.0))


def test_a_rate_of_zero_is_the_identity():
  x = jnp.arange(5.0)
  np.testing.assert_array_equal(dropout(jax.random.key(0), x, rate=0.0), x)


def test_keeps_the_type():
  x = jnp.ones(100, jnp.bfloat16)
  y = dropout(jax.random.key(0), x, rate=0.5)
  assert y.dtype == jnp.bfloat16
  assert set(np.asarray(y, np.float32)) == {0.0, 2.0}


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "half"])
def test_refuses_a_rate_out_of_range(rate):
  call = dropout.__wrapped__ if isinstance(rate, str) else dropout
  with pytest.raises(ConfigError, match="dropout rate must"):
    call(jax.random.key(0), jnp.ones(3), rate=rate)


def test_module():
  x = jnp.ones((2, 500))
  module = Dropout(0.5)
  apply = lambda **kwargs: np.asarray(module.apply({}, x, **kwargs))
  np.testing.assert_array_equal(apply(deterministic=True), x)
  rngs = {"dropout": jax.random.key(0)}
  first = apply(deterministic=False, rngs=rngs)
  np.testing.assert_array_equal(first, apply(deterministic=False, rngs=rngs))
  assert set(np.unique(first)) == {0.0, 2.0}
  none = Dropout(0.0).apply({}, x, deterministic=False)
  np.testing.assert_array_equal(none, x)
