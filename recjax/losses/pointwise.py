"""Losses that look at every score on its own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range


def binary_cross_entropy_loss(
  positive: Float[Array, "*positions"],
  negative: Float[Array, "*positions k"],
  where: Bool[Array, "*positions"],
  ignored: Bool[Array, "*positions k"] | None = None,
) -> Float[Array, "*positions"]:
  r"""Binary cross-entropy of one positive and its k sampled negatives.

  loss = -log sigmoid(s+) - sum_j log(1 - sigmoid(s_j))

  Args:
    positive: scores of the positives.
    negative: scores of their negatives.
    where: which positions count.
    ignored: negatives that do not count.

  Returns:
    The loss at each position, 0 where masked.

  References:
    Kang and McAuley, ICDM 2018, equation 6 (one negative a position),
    https://arxiv.org/abs/1808.09781
  """
  # Masked before the logarithm: its gradient must not see NaN either.
  positive = jnp.where(where, positive, 0.0)
  negative = jnp.where(where[..., None], negative, 0.0)
  if ignored is not None:
    negative = jnp.where(ignored, -jnp.inf, negative)
  loss = jax.nn.softplus(-positive) + jnp.sum(jax.nn.softplus(negative), -1)
  return jnp.where(where, loss, 0.0)


def gbce_loss(
  positive: Float[Array, "*positions"],
  negative: Float[Array, "*positions k"],
  where: Bool[Array, "*positions"],
  *,
  num_items: int,
  calibration: float,
) -> Float[Array, "*positions"]:
  r"""Generalized binary cross-entropy: undoes what sampling does to sigmoids.

  loss = -(beta * log sigmoid(s+) + sum_j log(1 - sigmoid(s_j))) / (k + 1)
  beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha),  alpha = k / (n - 1)

  With t = 0 it is the mean binary cross-entropy; with t = 1 the scores are
  as if all n - 1 negatives had been used.

  Args:
    positive: scores of the positives.
    negative: scores of their negatives.
    where: which positions count.
    num_items: n, the size of the catalogue.
    calibration: t, in [0, 1].

  Returns:
    The loss at each position, 0 where masked.

  Raises:
    ConfigError: `calibration` or `num_items` is out of range.

  References:
    Petrov and Macdonald: gSASRec, RecSys 2023, equations 8 to 11,
    https://arxiv.org/abs/2308.07192
  """
  check_range("gBCE num_items", num_items, 2, integer=True)
  check_range("gBCE calibration t", calibration, 0.0, 1.0)
  num_negatives = negative.shape[-1]
  alpha = num_negatives / (num_items - 1)
  beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
  # Masked before the logarithm: its gradient must not see NaN either.
  positive = jnp.where(where, positive, 0.0)
  negative = jnp.where(where[..., None], negative, 0.0)
  loss = beta * jax.nn.softplus(-positive)
  loss += jnp.sum(jax.nn.softplus(negative), -1)
  return jnp.where(where, loss / (num_negatives + 1), 0.0)
