"""Welch's comparison of two means, where something was fitted beforehand.

Bernard Welch: The Generalization of Student's Problem when Several Different
Population Variances are Involved, Biometrika 1947,
https://doi.org/10.1093/biomet/34.1-2.28

Values from which k fitted covariates were taken off vary too little: their
variance is that of n - 2 - k and not of n - 2 degrees of freedom.
"""

import dataclasses
import math

import numpy as np
import scipy.stats
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Welch:
  """The difference of two means.

  Attributes:
    difference: mean of b less mean of a.
    error: its standard error.
    freedom: degrees of freedom.
    skewness: of the difference, if both sides are of one distribution. Above
      .3 or so the normal approximation fails: rare events in a small side are
      found too often.
  """

  difference: float
  error: float
  freedom: float
  skewness: float

  @property
  def p_value(self) -> float:
    """Two-sided; NaN where neither side varies."""
    if not self.error:
      return math.nan
    shift = abs(self.difference) / self.error
    return 2 * float(scipy.stats.t.sf(shift, self.freedom))

  def interval(self, alpha: float = 0.05) -> tuple[float, float]:
    """Of the difference, of the level 1 - alpha."""
    width = float(scipy.stats.t.ppf(1 - alpha / 2, self.freedom)) * self.error
    return self.difference - width, self.difference + width


def welch(
  a: Float[np.ndarray, " unit"],
  b: Float[np.ndarray, " other"],
  num_fitted: int = 0,
) -> Welch:
  """Compares two sides of two or more values each.

  Args:
    a: values of one side.
    b: values of the other.
    num_fitted: covariates that were fitted to both and taken off; less than
      there are values, less 2.
  """
  num = len(a) + len(b)
  lost = (num - 2) / (num - 2 - num_fitted)
  of_a, of_b = (x.var(ddof=1) * lost / len(x) for x in (a, b))
  total = of_a + of_b
  freedom = math.nan
  if total:
    parts = of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1)
    freedom = total**2 / parts - num_fitted
  return Welch(
    float(b.mean() - a.mean()),
    math.sqrt(total),
    float(max(freedom, 1.0)),
    _skewness(a, b),
  )


def _skewness(a: np.ndarray, b: np.ndarray) -> float:
  """Of mean b - mean a: k3 (1 / n_b^2 - 1 / n_a^2) / Var^1.5, pooled."""
  rest = np.concatenate([a - a.mean(), b - b.mean()])
  variance = (rest**2).mean() * (1 / len(a) + 1 / len(b))
  if not variance:
    return 0.0
  third = (rest**3).mean() * (1 / len(b) ** 2 - 1 / len(a) ** 2)
  return float(third / variance**1.5)
