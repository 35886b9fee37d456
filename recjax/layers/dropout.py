"""Dropout with a mask that is hashed and never stored.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout, 2014,
https://jmlr.org/papers/v15/srivastava14a.html

y = x * m / (1 - rate), m ~ Bernoulli(1 - rate).

A cryptographic generator is most of the cost of dropout on a CPU: threefry
takes a third of a whole SASRec step. Here two words of the key seed a hash of
each element's index (the finalizer "lowbias32" of the Hash Prospector,
https://github.com/skeeto/hash-prospector, public domain). It is a handful of
integer operations, fuses with what uses the mask, is formed anew in the
backward pass, and does not depend on how the array is sharded.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, UInt32

from recjax.errors import check_range


def dropout(
  key: Key[Array, ""], x: Float[Array, "*shape"], *, rate: float
) -> Float[Array, "*shape"]:
  """Zeroes each element with probability `rate` and rescales the others.

  Args:
    key: a typed random key.
    x: any array of floats.
    rate: probability of dropping, in [0, 1).

  Returns:
    An array like `x`.

  Raises:
    ConfigError: `rate` is out of range.
  """
  check_range("dropout rate", rate, 0.0, 0.999)
  threshold = np.uint32(round(rate * 2**32))
  if threshold == 0:
    return x
  kept = x * jnp.asarray(1.0 / (1.0 - rate), x.dtype)
  return jnp.where(
    _hashed_bits(key, x.shape) >= threshold, kept, jnp.zeros_like(x)
  )


def _hashed_bits(
  key: Key[Array, ""], shape: tuple[int, ...]
) -> UInt32[Array, "*shape"]:
  """32 bits an element that pass for random."""
  seed = jax.random.bits(key, (2,), jnp.uint32)
  index = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    steps = lax.broadcasted_iota(jnp.uint32, shape, axis)
    index += steps * np.uint32(stride % 2**32)
    stride *= shape[axis]
  bits = index ^ seed[0]
  bits = (bits ^ (bits >> 16)) * np.uint32(0x7FEB352D)
  bits = ((bits ^ (bits >> 15)) + seed[1]) * np.uint32(0x846CA68B)
  return bits ^ (bits >> 16)


class Dropout(nn.Module):
  """`dropout` with a key of the collection "dropout".

  Attributes:
    rate: probability of dropping an element.
  """

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, "*shape"], *, deterministic: bool
  ) -> Float[Array, "*shape"]:
    """Drops elements unless `deterministic`."""
    if deterministic or self.rate == 0.0:
      return x
    return dropout(self.make_rng("dropout"), x, rate=self.rate)
