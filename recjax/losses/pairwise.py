"""Losses over pairs of a positive and a negative."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def bpr_loss(
  positive: Float[Array, "*positions"],
  negative: Float[Array, "*positions k"],
  where: Bool[Array, "*positions"],
) -> Float[Array, "*positions"]:
  r"""Bayesian personalized ranking.

  loss = -mean_j log sigmoid(s+ - s_j)

  Args:
    positive: scores of the positives.
    negative: scores of their negatives.
    where: which positions count.

  Returns:
    The loss at each position, 0 where masked.

  References:
    Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR, UAI 2009,
    https://arxiv.org/abs/1205.2618
  """
  # Masked before the logarithm: its gradient must not see NaN either.
  positive = jnp.where(where, positive, 0.0)
  negative = jnp.where(where[..., None], negative, 0.0)
  loss = jnp.mean(jax.nn.softplus(negative - positive[..., None]), axis=-1)
  return jnp.where(where, loss, 0.0)
