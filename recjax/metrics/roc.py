"""The ROC curve: the rate of true against that of false positives."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recjax.errors import check_range
from recjax.metrics.examples import Labels, Mask, Vector, counted
from recjax.metrics.tied_runs import tied_runs


class RocCurve(NamedTuple):
  """Points from (0, 0) to (1, 1), as the threshold falls.

  Attributes:
    false_positive_rate: share of the negatives at or above the threshold.
    true_positive_rate: share of the positives there.
  """

  false_positive_rate: Float[np.ndarray, " point"]
  true_positive_rate: Float[np.ndarray, " point"]


def roc_curve(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
  *,
  max_points: int = 1000,
) -> RocCurve:
  """The curve over all thresholds, on the host; examples that tie share one.

  Args:
    score: any real scores.
    label: 1 for positives, 0 for negatives.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.
    max_points: a longer curve is thinned to points at about equal distances
      of the sum of both rates.

  Returns:
    The curve; without points if there is one class or none.

  Raises:
    ConfigError: fewer than two points are asked for.
  """
  examples = counted(score, label, weight, where)
  score, label, weight = (np.asarray(x, np.float64) for x in examples)
  order = np.argsort(score)
  runs = tied_runs(score[order])
  stops = runs.stop[runs.stop == np.arange(len(order)) + 1]
  masses = [weight[order] * label[order], weight[order] * (1 - label[order])]
  positive, negative = (
    np.diff(np.cumsum(m)[stops - 1], prepend=0.0) for m in masses
  )
  return roc_from_masses(positive, negative, max_points=max_points)


def roc_from_masses(
  positive: Float[np.ndarray, " bin"],
  negative: Float[np.ndarray, " bin"],
  *,
  max_points: int = 1000,
) -> RocCurve:
  """The curve of masses by rising score, such as those of a `StreamingAUC`.

  Args:
    positive: summed weights of the positives in each bin of scores.
    negative: those of the negatives.
    max_points: a longer curve is thinned.

  Returns:
    The curve; without points if there is one class or none.

  Raises:
    ConfigError: fewer than two points are asked for.
  """
  check_range("max_points", max_points, 2, integer=True)
  rates = []
  for mass in (negative, positive):
    falling = np.cumsum(np.asarray(mass, np.float64)[::-1])
    if not falling.size or falling[-1] <= 0:
      return RocCurve(np.zeros(0), np.zeros(0))
    rates.append(np.concatenate([[0.0], falling / falling[-1]]))
  along = rates[0] + rates[1]
  if len(along) > max_points:
    kept = np.unique(np.searchsorted(along, np.linspace(0, 2, max_points)))
    # Rounding may put the last point past the end.
    kept = np.unique(np.append(kept[kept < len(along)], len(along) - 1))
    rates = [rate[kept] for rate in rates]
  return RocCurve(*rates)
