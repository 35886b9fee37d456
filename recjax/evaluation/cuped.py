"""CUPED: what was known of units before an A/B test is taken off their values.

Alex Deng, Ya Xu, Ron Kohavi, Toby Walker: Improving the Sensitivity of Online
Controlled Experiments by Utilizing Pre-Experiment Data, WSDM 2013,
https://doi.org/10.1145/2433396.2433413

  y' = y - theta (x - mean x),   theta = Cov(x, y) / Var(x)

x was measured before the units were dealt to arms, so its mean is the same in
both arms but for chance, and y' has the same effect as y with the variance
(1 - corr(x, y)^2) Var(y). With several covariates theta is that of least
squares. theta is formed within arms, so that the effect does not enter it.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Num

from recjax.errors import DataError
from recjax.evaluation.welch import welch

_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Cuped:
  """Adjusted values and what they say.

  Attributes:
    values: y' of each unit.
    theta: of each covariate.
    variance_reduction: the share of the variance within arms that is gone.
    effect: mean of y' in arm 1 less that in arm 0.
    interval: its 95% interval, see `welch`.
    p_value: two-sided.
  """

  values: Float[np.ndarray, " unit"]
  theta: Float[np.ndarray, " covariate"]
  variance_reduction: float
  effect: float
  interval: tuple[float, float]
  p_value: float


def cuped(
  y: Num[np.ndarray, " unit"],
  x: Num[np.ndarray, "unit *covariate"],
  arm: Int[np.ndarray, " unit"],
) -> Cuped:
  """Adjusts the values of two arms and compares them.

  Args:
    y: measured in the test.
    x: measured before it, one column or several.
    arm: 0 (control) or 1 (treatment) of each unit.

  Raises:
    DataError: a value is NaN (fill an unknown x with a constant and add a
      column that tells it), arms are not 0 and 1, an arm has fewer than two
      units more than there are covariates, or x is constant within both arms.
  """
  y = np.asarray(y, np.float64)
  x = np.asarray(x, np.float64).reshape(len(y), -1)
  _check(y, x, arm)
  within_x, within_y = x.copy(), y.copy()
  for number in (0, 1):
    within_x[arm == number] -= x[arm == number].mean(axis=0)
    within_y[arm == number] -= y[arm == number].mean()
  scale = np.sqrt((within_x**2).mean(axis=0))
  if (scale <= _ROUNDING * np.abs(x).max(axis=0)).any():
    raise DataError(
      "CUPED: a covariate is constant within both arms, so it tells nothing."
    )
  # Of one scale, so that none is taken for a rounding error of another.
  theta = np.linalg.lstsq(within_x / scale, within_y, rcond=None)[0] / scale
  values = y - (x - x.mean(axis=0)) @ theta
  before, rest = (within_y**2).sum(), within_y - within_x @ theta
  reduction = 1 - (rest**2).sum() / before if before else 0.0
  found = welch(values[arm == 0], values[arm == 1], x.shape[1])
  return Cuped(
    values,
    theta,
    float(reduction),
    found.difference,
    found.interval(),
    found.p_value,
  )


def _check(y: np.ndarray, x: np.ndarray, arm: np.ndarray) -> None:
  if np.isnan(y).any() or np.isnan(x).any():
    raise DataError("CUPED: a value or covariate is NaN.")
  if not np.isin(arm, (0, 1)).all():
    raise DataError("CUPED: arms must be 0 (control) and 1 (treatment).")
  fewest = min((arm == 0).sum(), (arm == 1).sum())
  if fewest < x.shape[1] + 2:
    raise DataError(
      f"CUPED: an arm must have at least {x.shape[1] + 2} units with"
      f" {x.shape[1]} covariates; got {fewest}."
    )
