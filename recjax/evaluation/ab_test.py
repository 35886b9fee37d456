"""An A/B test: what each arm changes against the control, metric by metric.

Means are compared by Welch's test, ratios by the delta method (see
`ratio_metrics`), both less what was known of the units beforehand (see
`cuped`), and p-values are corrected by Holm's rule over all metrics and arms.

A lift is the ratio of the two means less 1; its variance is that of the delta
method (Deng, Knoblich, Lu, KDD 2018, section 2). Under CUPED both means are
less what was known about the mean of all units, which does not cancel in their
ratio R: with that part c of each unit the error of R is that of

  (mean_b - R mean_a + (1 - R) mean c) / mean_a
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats
from jaxtyping import Int

from recjax.errors import ConfigError, check_range
from recjax.evaluation.ab_values import (
  Adjusted,
  Measured,
  adjusted,
  num_arms,
  pair,
)
from recjax.evaluation.sample_size import smallest_difference_of_means
from recjax.evaluation.significance import holm
from recjax.evaluation.welch import Welch, welch

_POWER = 0.8
# A control's mean nearer to 0 than so many of its errors gives no lift.
_CLEARLY_POSITIVE = 3.0


@dataclasses.dataclass(frozen=True)
class ArmEffect:
  """What an arm changes in a metric, against the control.

  Attributes:
    metric: its name.
    arm: the place of the arm; the control is 0.
    num_control: units of the control.
    num_treatment: units of the arm.
    control: the mean or ratio of the control, less what was known beforehand.
    treatment: that of the arm.
    difference: treatment - control.
    interval: of the difference.
    lift: treatment / control - 1; NaN where the control is not clearly above 0.
    lift_interval: of the lift.
    p_value: two-sided.
    p_holm: corrected over all metrics and arms of the test.
    smallest: the difference that is seen with a power of 80%, uncorrected.
    variance_reduction: the share of the variance that was known beforehand;
      None where nothing was.
    skewness: of the difference, see `welch`: above .3 or so the p-value is
      rough.
  """

  metric: str
  arm: int
  num_control: int
  num_treatment: int
  control: float
  treatment: float
  difference: float
  interval: tuple[float, float]
  lift: float
  lift_interval: tuple[float, float]
  p_value: float
  p_holm: float
  smallest: float
  variance_reduction: float | None
  skewness: float


def effects(
  metrics: Sequence[Measured],
  arm: Int[np.ndarray, " unit"],
  *,
  alpha: float = 0.05,
) -> list[ArmEffect]:
  """Compares each arm with the control, in each metric.

  Args:
    metrics: of all units.
    arm: of each unit; 0 is the control.
    alpha: intervals are of the level 1 - alpha.

  Raises:
    ConfigError: alpha is out of range, or there is no metric.
    DataError: an arm of fewer than two units, a value that is NaN, or a metric
      without variance.
  """
  check_range("alpha", alpha, 1e-12, 0.5)
  if not metrics:
    raise ConfigError("an A/B test needs a metric.")
  arms = range(1, num_arms(arm))
  found = [
    _effect(metric, arm, number, alpha) for metric in metrics for number in arms
  ]
  corrected = holm(np.array([each.p_value for each in found]))
  return [
    dataclasses.replace(each, p_holm=float(p))
    for each, p in zip(found, corrected)
  ]


def _effect(
  metric: Measured, arm: np.ndarray, number: int, alpha: float
) -> ArmEffect:
  chosen = pair(arm, number)
  side = (arm[chosen] == number).astype(np.int64)
  found = adjusted(metric.rows(chosen), side)
  a, b = found.sides
  test = welch(a, b, found.num_fitted)
  smallest = smallest_difference_of_means(
    len(a),
    # Of arms that vary alike and have this error.
    test.error / math.sqrt(1 / len(a) + 1 / len(b)),
    ratio=len(b) / len(a),
    alpha=alpha,
    power=_POWER,
  )
  lift, lift_interval = _lift(found, test, alpha)
  return ArmEffect(
    metric.name,
    number,
    len(a),
    len(b),
    float(a.mean()),
    float(b.mean()),
    test.difference,
    test.interval(alpha),
    lift,
    lift_interval,
    test.p_value,
    test.p_value,
    smallest,
    found.reduction,
    test.skewness,
  )


def _lift(
  found: Adjusted, test: Welch, alpha: float
) -> tuple[float, tuple[float, float]]:
  """The ratio of means less 1, and its interval."""
  (a, b), side = found.sides, found.side
  mean = a.mean()
  if mean <= _CLEARLY_POSITIVE * a.std(ddof=1) / math.sqrt(len(a)):
    return math.nan, (math.nan, math.nan)
  ratio = b.mean() / mean
  # The part of each unit in the error of the ratio.
  parts = (1 - ratio) * found.explained / len(side)
  parts[side == 0] -= ratio * (a - mean) / len(a)
  parts[side == 1] += (b - b.mean()) / len(b)
  lost = len(side) / (len(side) - 2 - found.num_fitted)
  error = math.sqrt((parts**2).sum() * lost) / mean
  width = float(scipy.stats.t.ppf(1 - alpha / 2, test.freedom)) * error
  return float(ratio - 1), (float(ratio - 1 - width), float(ratio - 1 + width))
