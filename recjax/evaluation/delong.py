r"""DeLong's test of two AUCs over the same rows.

Of a model, V_i is the share of the negatives that positive i beats, and V_j
that of the positives which beat negative j, ties counting one half; the AUC is
the mean of either. The difference D = AUC_a - AUC_b is the mean of the
differences of both, so that with P positives and N negatives

  var D = \sum_i (V_i^a - V_i^b - D)^2 / (P (P - 1))
          + \sum_j (V_j^a - V_j^b - D)^2 / (N (N - 1)),

which is DeLong's var_a + var_b - 2 cov_ab; z = D / sqrt(var D) is compared with
the normal distribution. The shares come from midranks, that is by sorting, in
O(n log n). With weights 1 / P becomes w_i^2 / (\sum_i w_i)^2 and so on.

Several models of a side, such as seeds, are averaged in their AUCs, not in
their scores: shares and differences are means over the seeds, so that D is the
mean difference of these very models and var D that over draws of other rows.

References:
  Elizabeth DeLong, David DeLong, Daniel Clarke-Pearson. Comparing the Areas
  under Two or More Correlated Receiver Operating Characteristic Curves: A
  Nonparametric Approach. Biometrics 1988. https://doi.org/10.2307/2531595
  Xu Sun, Weichao Xu. Fast Implementation of DeLong's Algorithm for Comparing
  the Areas Under Correlated Receiver Operating Characteristic Curves. IEEE
  Signal Processing Letters 2014. https://doi.org/10.1109/LSP.2014.2337313
"""

import dataclasses
import math

import numpy as np
import scipy.special
from jaxtyping import Bool, Num

from recjax.errors import DataError
from recjax.metrics.sums import range_sums
from recjax.metrics.tied_runs import tied_runs

_Z = float(scipy.special.ndtri(0.975))
_ROUNDING = 1e-12  # A difference below it is none.


@dataclasses.dataclass(frozen=True)
class AUCComparison:
  """Whether two AUCs differ.

  Attributes:
    auc_a: of one side, the mean over its models.
    auc_b: of the other.
    difference: auc_a - auc_b.
    variance: of the difference, over draws of rows; NaN with fewer than two
      rows of a class.
    z: difference / sqrt(variance).
    p_value: two-sided.
    interval: of 95%.
    num_rows: how many rows count.
  """

  auc_a: float
  auc_b: float
  difference: float
  variance: float
  z: float
  p_value: float
  interval: tuple[float, float]
  num_rows: int


def delong_test(
  a: Num[np.ndarray, "*model row"],
  b: Num[np.ndarray, "*rival _row"],
  label: Num[np.ndarray, " row"] | Bool[np.ndarray, " row"],
  weight: Num[np.ndarray, " row"] | None = None,
) -> AUCComparison:
  """DeLong's test; see the module.

  Args:
    a: scores of one side, one row of them or one a model.
    b: scores of the other, of the same rows.
    label: 1 for positives, 0 for negatives; NaN does not count.
    weight: of each row; all 1 without it; 0 does not count.

  Returns:
    AUCs, difference, variance, z, p and interval; NaN with one class alone.

  Raises:
    DataError: the sides do not hold the same rows, a score is NaN, or labels
      are others than 0 and 1.
  """
  if not a.shape[-1] == b.shape[-1] == len(label):
    raise DataError(
      "a paired comparison needs scores of the same rows from both sides; got"
      f" {a.shape[-1]} and {b.shape[-1]} for {len(label)} labels."
    )
  label = label.astype(np.float64)
  weight = np.ones(len(label)) if weight is None else weight.astype(np.float64)
  kept = ~np.isnan(label) & (weight > 0)
  label, weight = label[kept], weight[kept]
  if not np.isin(label, (0, 1)).all():
    raise DataError("DeLong's test is for labels of 0 and 1.")
  shares = [_shares(np.atleast_2d(x)[:, kept], label, weight) for x in (a, b)]
  auc_a, auc_b = (float(_mean(x, label == 1, weight)) for x in shares)
  difference = auc_a - auc_b
  off = shares[0] - shares[1] - difference
  variance = sum(_variance(off, label == kind, weight) for kind in (0, 1))
  error = math.sqrt(variance)
  z = difference / error if error else math.copysign(math.inf, difference)
  z = 0.0 if abs(difference) < _ROUNDING else z
  return AUCComparison(
    auc_a,
    auc_b,
    difference,
    float(variance),
    z,
    float(2.0 * scipy.special.ndtr(-abs(z))),
    (difference - _Z * error, difference + _Z * error),
    len(label),
  )


def _shares(scores, label, weight):
  """V of each row, the mean over models."""
  if np.isnan(scores).any():
    raise DataError("scores are NaN: the model has diverged.")
  total = np.zeros(len(label))
  masses = np.stack([weight * (label == kind) for kind in (0, 1)])
  all_negative, all_positive = masses.sum(axis=1)
  if not all_negative or not all_positive:
    return np.full(len(label), np.nan)
  for score in scores:
    order = np.argsort(score, kind="stable")
    runs, between = tied_runs(score[order]), range_sums(masses[:, order])
    ties = between(runs.first, runs.stop) / 2
    negative, positive = between(np.zeros_like(runs.first), runs.first) + ties
    total[order] += np.where(
      label[order] == 1,
      negative / all_negative,
      1.0 - positive / all_positive,
    )
  return total / len(scores)


def _mean(values, rows, weight):
  if not rows.any():
    return np.nan
  return np.average(values[rows], weights=weight[rows])


def _variance(off, rows, weight):
  """Of the mean of one class."""
  num = int(rows.sum())
  if num < 2:
    return math.nan
  share = weight[rows] / weight[rows].sum()
  return np.sum((share * off[rows]) ** 2) * num / (num - 1)
