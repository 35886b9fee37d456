"""Losses over pairs of a positive and a negative."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range


def bpr_loss(
  positive: Float[Array, "*positions"],
  negative: Float[Array, "*positions k"],
  where: Bool[Array, "*positions"],
  ignored: Bool[Array, "*positions k"] | None = None,
) -> Float[Array, "*positions"]:
  r"""Bayesian personalized ranking.

  loss = -mean_j log sigmoid(s+ - s_j)

  Args:
    positive: scores of the positives.
    negative: scores of their negatives.
    where: which positions count.
    ignored: negatives that do not count; the mean is over the others, and 0
      where there is none.

  Returns:
    The loss at each position, 0 where masked.

  References:
    Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR, UAI 2009,
    https://arxiv.org/abs/1205.2618
  """
  # Masked before the logarithm: its gradient must not see NaN either.
  positive, negative = _masked(positive, negative, where, ignored)
  losses = jax.nn.softplus(negative - positive[..., None])
  return jnp.where(where, _mean(losses, ignored), 0.0)


def hinge_loss(
  positive: Float[Array, "*positions"],
  negative: Float[Array, "*positions k"],
  where: Bool[Array, "*positions"],
  ignored: Bool[Array, "*positions k"] | None = None,
  *,
  margin: float = 1.0,
) -> Float[Array, "*positions"]:
  r"""Hinge: negatives are to stay below the positive by a margin.

  loss = mean_j max(0, margin - s+ + s_j)

  Args:
    positive: scores of the positives.
    negative: scores of their negatives.
    where: which positions count.
    ignored: negatives that do not count; the mean is over the others, and 0
      where there is none.
    margin: in the unit of the scores.

  Returns:
    The loss at each position, 0 where masked.

  Raises:
    ConfigError: the margin is negative.

  References:
    Herbrich, Graepel, Obermayer: Large Margin Rank Boundaries for Ordinal
    Regression, 2000
  """
  check_range("hinge_loss margin", margin, 0.0)
  positive, negative = _masked(positive, negative, where, ignored)
  losses = jax.nn.relu(margin - positive[..., None] + negative)
  return jnp.where(where, _mean(losses, ignored), 0.0)


def warp_loss(
  positive: Float[Array, "*positions"],
  negative: Float[Array, "*positions k"],
  ignored: Bool[Array, "*positions k"] | None,
  where: Bool[Array, "*positions"],
  *,
  num_items: int,
  margin: float = 1.0,
) -> Float[Array, "*positions"]:
  r"""WARP: the hinge of the first violator, weighted by a rank estimate.

  loss = L(floor((n - 1) / t)) * (margin - s+ + s_t),  L(r) = sum_{j<=r} 1/j

  where the t-th drawn negative is the first with s_t > s+ - margin; 0 where
  there is none. Early violators mean that many items stand above the
  positive. The weight has no gradient.

  Args:
    positive: scores of the positives.
    negative: scores of their negatives, in the order in which they were
      drawn; uniform draws make the estimate that of the rank.
    ignored: negatives that do not count, neither as violators nor as trials.
    where: which positions count.
    num_items: n, the size of the catalogue.
    margin: in the unit of the scores.

  Returns:
    The loss at each position, 0 where masked.

  Raises:
    ConfigError: `num_items` or `margin` is out of range.

  References:
    Weston, Bengio, Usunier: WSABIE, Scaling Up To Large Vocabulary Image
    Annotation, IJCAI 2011
  """
  check_range("warp_loss num_items", num_items, 2, integer=True)
  check_range("warp_loss margin", margin, 0.0)
  positive, negative = _masked(positive, negative, where, ignored)
  tried = jnp.broadcast_to(where[..., None], negative.shape)
  if ignored is not None:
    tried &= ~ignored
  slack = margin - positive[..., None] + negative
  violates = tried & (slack > 0)
  first = violates & (jnp.cumsum(violates, axis=-1) == 1)
  hinge = jnp.sum(jnp.where(first, slack, 0.0), axis=-1)
  trials = jnp.sum(jnp.where(first, jnp.cumsum(tried, axis=-1), 0), axis=-1)
  weights = _rank_weights(num_items, negative.shape[-1])
  return jnp.asarray(weights, hinge.dtype)[trials] * hinge


def _rank_weights(num_items: int, most: int) -> Float[np.ndarray, " trials"]:
  """L of the rank estimated from t trials, for t up to `most`; 0 for t = 0."""
  trials = np.arange(1, most + 1)
  # Sums of 1 / j in closed form.
  sums = scipy.special.digamma((num_items - 1) // trials + 1.0) + np.euler_gamma
  return np.concatenate([[0.0], sums]).astype(np.float32)


def _masked(positive, negative, where, ignored):
  """Scores with 0 where they do not count, whatever stood there."""
  positive = jnp.where(where, positive, 0.0)
  negative = jnp.where(where[..., None], negative, 0.0)
  if ignored is not None:
    negative = jnp.where(ignored, 0.0, negative)
  return positive, negative


def _mean(losses, ignored):
  """The mean over negatives that are not ignored; 0 if all are."""
  if ignored is None:
    return jnp.mean(losses, axis=-1)
  num = jnp.maximum(jnp.sum(~ignored, axis=-1), 1).astype(losses.dtype)
  return jnp.sum(jnp.where(ignored, 0.0, losses), axis=-1) / num
