"""Dropout from 16 random bits an element.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout, 2014,
https://jmlr.org/papers/v15/srivastava14a.html

y = x * m / (1 - rate), m ~ Bernoulli(1 - rate).

Random bits are the larger part of the cost of dropout on a CPU: 16 of them
cost half of the 32 that a float needs. The rate is therefore rounded to a
multiple of 2**-16, and the scale uses the rounded rate, so that the mean of
y is x.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from recjax.errors import check_range


def dropout(
  key: Key[Array, ""], x: Float[Array, "*shape"], *, rate: float
) -> Float[Array, "*shape"]:
  """Zeroes each element with probability `rate` and rescales the others.

  Args:
    key: a typed random key.
    x: any array of floats.
    rate: probability of dropping, in [0, 1); rounded to a multiple of 2**-16.

  Returns:
    An array like `x`.

  Raises:
    ConfigError: `rate` is out of range.
  """
  check_range("dropout rate", rate, 0.0, 0.999)
  threshold = round(rate * 2**16)
  if threshold == 0:
    return x
  bits = jax.random.bits(key, x.shape, jnp.uint16)
  scale = 1.0 / (1.0 - threshold / 2**16)
  kept = x * jnp.asarray(scale, x.dtype)
  return jnp.where(bits >= np.uint16(threshold), kept, jnp.zeros_like(x))


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
