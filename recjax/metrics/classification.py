r"""Metrics that look at each prediction on its own, and average.

Means are weighted: \sum_i w_i m_i / \sum_i w_i. Nothing that counts gives 0.
See `recjax.metrics.examples` for what counts, and for the types of arrays.
"""

from recjax.errors import check_range
from recjax.metrics.examples import (
  Floats,
  Labels,
  Mask,
  Scalar,
  Vector,
  counted,
  namespace,
  probabilities,
  ratio,
)
from recjax.metrics.sums import sum_of

EPSILON = 1e-7
"""Probabilities are clipped to [EPSILON, 1 - EPSILON] before a logarithm."""


def log_losses(
  score: Floats,
  label: Floats,
  *,
  from_logits: bool = False,
  epsilon: float = EPSILON,
) -> Floats:
  r"""-y log p - (1 - y) log(1 - p) of each example, in nats.

  Args:
    score: probabilities p, or logits.
    label: y, in [0, 1].
    from_logits: whether the scores are logits: p = sigmoid(score).
    epsilon: p is clipped to [epsilon, 1 - epsilon], so no loss exceeds
      -log(epsilon): 16.1 for 1e-7.

  Returns:
    One loss an example.

  Raises:
    ConfigError: epsilon is out of range.
  """
  check_range("log-loss epsilon", epsilon, 1e-30, 0.5)
  xp = namespace(score, label)
  if from_logits:
    # The clipped logit; exact also where sigmoid(score) rounds to 1.
    edge = xp.log1p(xp.asarray(-epsilon, score.dtype)) - xp.log(
      xp.asarray(epsilon, score.dtype)
    )
    score = xp.clip(score, -edge, edge)
    zero = xp.zeros_like(score)
    yes, no = xp.logaddexp(zero, -score), xp.logaddexp(zero, score)
  else:
    yes = -xp.log(xp.clip(score, epsilon, 1 - epsilon))
    no = -xp.log(xp.clip(1 - score, epsilon, 1 - epsilon))
  return label * yes + (1 - label) * no


def log_loss_metric(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
  *,
  from_logits: bool = False,
  epsilon: float = EPSILON,
) -> Scalar:
  r"""The mean log-loss (binary cross-entropy), in nats.

  LL = \sum_i w_i (-y_i log p_i - (1 - y_i) log(1 - p_i)) / \sum_i w_i

  Args:
    score: probabilities p, or logits.
    label: y, 0 or 1.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.
    from_logits: whether the scores are logits.
    epsilon: p is clipped to [epsilon, 1 - epsilon].

  Returns:
    The mean; 0 if nothing counts.

  Raises:
    ConfigError: epsilon is out of range.
  """
  score, label, weight = counted(score, label, weight, where)
  loss = log_losses(score, label, from_logits=from_logits, epsilon=epsilon)
  return ratio(sum_of(weight * loss), sum_of(weight))


def entropy(rate: Scalar) -> Scalar:
  """-q log q - (1 - q) log(1 - q) in nats; 0 for q = 0 and q = 1."""
  xp = namespace(rate)
  rate = xp.asarray(rate, float)
  inside = (rate > 0) & (rate < 1)
  q = xp.where(inside, rate, 0.5)
  value = -q * xp.log(q) - (1 - q) * xp.log1p(-q)
  return xp.where(inside, value, xp.where(xp.isnan(rate), rate, 0.0))[()]


def normalized_entropy_metric(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
  *,
  base_rate: float | None = None,
  from_logits: bool = False,
  epsilon: float = EPSILON,
) -> Scalar:
  r"""The log-loss over that of a constant prediction: below 1 is better.

  NE = LL / (-q log q - (1 - q) log(1 - q)), q the base rate

  Args:
    score: probabilities, or logits.
    label: 0 or 1.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.
    base_rate: q, such as that of the training data as in the paper; without
      it, the weighted mean label of the examples that count.
    from_logits: whether the scores are logits.
    epsilon: probabilities are clipped to [epsilon, 1 - epsilon].

  Returns:
    The ratio; 0 if nothing counts; NaN, that is undefined, if all labels
    that count are equal and no base rate is given.

  Raises:
    ConfigError: epsilon or the base rate is out of range.

  References:
    Xinran He et al. Practical Lessons from Predicting Clicks on Ads at
    Facebook. ADKDD 2014. https://doi.org/10.1145/2648584.2648589
  """
  if base_rate is not None:
    check_range("base_rate", base_rate, 1e-12, 1 - 1e-12)
  score, label, weight = counted(score, label, weight, where)
  xp = namespace(score)
  loss = log_losses(score, label, from_logits=from_logits, epsilon=epsilon)
  total = sum_of(weight)
  rate = ratio(sum_of(weight * label), total)
  if base_rate is not None:
    rate = xp.asarray(base_rate, float)[()]
  value = ratio(
    ratio(sum_of(weight * loss), total), entropy(rate), empty=float("nan")
  )
  return xp.where(total == 0, 0.0, value)[()]


def rmse_metric(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
  *,
  from_logits: bool = False,
) -> Scalar:
  r"""sqrt(\sum_i w_i (s_i - y_i)^2 / \sum_i w_i), of any real labels.

  Args:
    score: predictions, in the unit of the labels.
    label: y.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.
    from_logits: whether to compare sigmoid(score).

  Returns:
    The root of the mean square; 0 if nothing counts.
  """
  score, label, weight = counted(score, label, weight, where)
  error = probabilities(score, from_logits=from_logits) - label
  mean = ratio(sum_of(weight * error**2), sum_of(weight))
  return namespace(mean).sqrt(mean)
