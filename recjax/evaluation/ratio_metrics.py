"""Ratios of means in an A/B test, such as clicks over impressions.

Alex Deng, Ulf Knoblich, Jiannan Lu: Applying the Delta Method in Metric
Analytics: A Practical Guide with Novel Ideas, KDD 2018,
https://doi.org/10.1145/3219819.3219919

Units are dealt to arms, such as users, and their impressions hang together, so
that impressions are no sample of their own. By the delta method

  R = mean x / mean y,   Var R = Var(x - R y) / (n mean(y)^2)

A unit's linearized value is R + (x - R y) / mean y. Within an arm these values
have the mean R, and their variance over n is that of R: what holds for means
holds for them.
"""

import numpy as np
from jaxtyping import Float, Num

from recjax.errors import DataError


def linearized(
  numerator: Num[np.ndarray, " unit"], denominator: Num[np.ndarray, " unit"]
) -> Float[np.ndarray, " unit"]:
  """The values of the units of one arm, whose mean is the ratio of sums.

  Args:
    numerator: x of each unit, such as its clicks.
    denominator: y of each unit, such as its impressions; not negative.

  Raises:
    DataError: a denominator is negative, or all are 0.
  """
  x = np.asarray(numerator, np.float64)
  y = np.asarray(denominator, np.float64)
  if (y < 0).any() or not y.sum() > 0:
    raise DataError(
      "the denominator of a ratio must not be negative, nor 0 in all units of"
      f" an arm; got values of {y.min():.4g} to {y.max():.4g}."
    )
  ratio = x.sum() / y.sum()
  return ratio + (x - ratio * y) / y.mean()
