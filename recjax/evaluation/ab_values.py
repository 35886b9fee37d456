"""The values of the units of an A/B test whose means are compared.

Ratios are made values of units (see `ratio_metrics`), and what was known of the
units beforehand is taken off (see `cuped`).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Num

from recjax.errors import DataError
from recjax.evaluation.cuped import cuped
from recjax.evaluation.ratio_metrics import linearized

# A smaller deviation than so many of the largest value is one of rounding.
_ROUNDING = 1e-10


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
  """A metric of the units of a test.

  Attributes:
    name: such as "clicks/impressions".
    values: of each unit; the numerators of a ratio.
    per: the denominators of a ratio; None of a mean.
    before: what was known of each unit before the test, for CUPED; of the same
      metric a week earlier, say. None is nothing.
  """

  name: str
  values: Num[np.ndarray, " unit"]
  per: Num[np.ndarray, " unit"] | None = None
  before: Num[np.ndarray, "unit covariate"] | None = None

  def rows(self, chosen: Num[np.ndarray, " row"]) -> "Measured":
    """Some of the units."""
    some = lambda x: None if x is None else x[chosen]
    return Measured(
      self.name, self.values[chosen], some(self.per), some(self.before)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Adjusted:
  """A value of each unit, whose means are compared.

  Attributes:
    values: less what was known beforehand.
    explained: what of each unit that was, about its mean; 0 without covariates.
    num_fitted: covariates.
    reduction: the share of the variance that was known; None without them.
    side: 0 (control) or 1 of each unit.
  """

  values: Float[np.ndarray, " unit"]
  explained: Float[np.ndarray, " unit"]
  num_fitted: int
  reduction: float | None
  side: Int[np.ndarray, " unit"]

  @property
  def sides(
    self,
  ) -> tuple[Float[np.ndarray, " control"], Float[np.ndarray, " treated"]]:
    """The values of the control, and those of the arm."""
    return self.values[self.side == 0], self.values[self.side == 1]


def num_arms(arm: Int[np.ndarray, " unit"]) -> int:
  """How many arms there are, the control with them.

  Raises:
    DataError: there is one, or an arm has fewer than two units.
  """
  counts = np.bincount(arm)
  if len(counts) < 2 or counts.min() < 2:
    raise DataError(
      "an A/B test needs a control (0) and one or more other arms, of two"
      f" units each at least; got arms of {counts.tolist()} units."
    )
  return len(counts)


def pair(
  arm: Int[np.ndarray, " unit"], number: int
) -> Int[np.ndarray, " chosen"]:
  """The places of the units of the control and of another arm."""
  return np.flatnonzero((arm == 0) | (arm == number))


def adjusted(metric: Measured, side: Int[np.ndarray, " unit"]) -> Adjusted:
  """Ratios are made values of units, and what was known is taken off.

  Raises:
    DataError: a value is NaN, or neither arm varies.
  """
  values = np.array(metric.values, np.float64)
  per = np.ones_like(values) if metric.per is None else metric.per
  if np.isnan(values).any() or np.isnan(per).any():
    raise DataError(f"{metric.name}: a value is NaN.")
  largest = np.abs(values).max()
  if metric.per is not None:
    for number in (0, 1):
      of_arm = side == number
      values[of_arm] = linearized(metric.values[of_arm], metric.per[of_arm])
    largest /= metric.per.mean()
  found = Adjusted(values, np.zeros_like(values), 0, None, side)
  if metric.before is not None:
    known = cuped(values, metric.before, side)
    found = Adjusted(
      known.values,
      values - known.values,
      metric.before.shape[1],
      known.variance_reduction,
      side,
    )
  if max(x.std() for x in found.sides) <= _ROUNDING * largest:
    raise DataError(
      f"{metric.name}: all units of the control and of an arm have one value;"
      " is the metric logged, and none that was known before the test?"
    )
  return found
