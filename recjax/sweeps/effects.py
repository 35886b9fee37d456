"""How combinations of a sweep differ from its baseline, and how sure that is.

Values are [seed, user]: the metric of each user, or of each seed alone where
there is one column. What can be asked depends on how many there are:

  three seeds and users or more   for new seeds and new users, see
                                  `evaluation.crossed_design`
  one column, two seeds or more   for new seeds: Student's paired test
  fewer seeds                     for new users, with these trained models

All differences of a table are corrected together.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
from jaxtyping import Float

from recjax.errors import DataError
from recjax.evaluation.crossed_design import (
  Components,
  crossed_test,
  smallest_difference,
)
from recjax.evaluation.significance import benjamini_hochberg, holm

BOTH, SEEDS, USERS = "seeds and users", "seeds", "users"
ALPHA, POWER = 0.05, 0.8

Values = Float[np.ndarray, "seed user"]


@dataclasses.dataclass(frozen=True)
class Effect:
  """What one combination has more than another.

  Attributes:
    over: BOTH, SEEDS or USERS: what else the test speaks of.
    difference: the mean.
    interval: of 95%, not corrected for the number of comparisons.
    p_value: two-sided.
    effect_size: the difference over the standard deviation of what is tested.
    num_seeds: seeds in common.
    num_users: users, or 1.
    components: variances of the differences.
    num_comparisons: of the table.
    p_holm: under which the family-wise error rate of the table holds.
    p_bh: under which its false discovery rate holds.
  """

  over: str
  difference: float
  interval: tuple[float, float]
  p_value: float
  effect_size: float
  num_seeds: int
  num_users: int
  components: Components
  num_comparisons: int = 1
  p_holm: float = math.nan
  p_bh: float = math.nan

  @functools.cached_property
  def sees(self) -> float:
    """The smallest difference that such a design finds with a power of 80%.

    At the level that Bonferroni's rule gives a comparison of the table.
    """
    alpha = ALPHA / max(self.num_comparisons, 1)
    sizes = self.num_seeds, self.num_users
    if self.over == BOTH:
      return smallest_difference(
        self.components, *sizes, alpha=alpha, power=POWER
      )
    num = sizes[0] if self.over == SEEDS else sizes[1]
    error = math.sqrt(self.components.of_mean(*sizes))
    return error * smallest_shift(num - 1, alpha, POWER)


def effect(a: Values, b: Float[np.ndarray, "rival other"]) -> Effect | None:
  """The effect of one pair, not yet corrected; None where nothing can be told.

  Args:
    a: values of one side.
    b: values of the other, for the same seeds and users.

  Raises:
    DataError: the sides differ in shape, or a value is NaN.
  """
  if a.shape != b.shape:
    raise DataError(
      f"an effect needs the same seeds and users on both sides; got {a.shape}"
      f" and {b.shape}."
    )
  gains = np.asarray(a, np.float64) - np.asarray(b, np.float64)
  if np.isnan(gains).any():
    raise DataError("a value is NaN: a model has diverged.")
  if np.ptp(gains) == 0:
    return None
  if min(gains.shape) >= 3:
    found = crossed_test(gains)
    return Effect(
      BOTH,
      found.difference,
      found.interval,
      found.p_value,
      found.effect_size,
      gains.shape[0],
      gains.shape[1],
      found.components,
    )
  over = SEEDS if gains.shape[1] == 1 else USERS
  means = gains.mean(axis=1 if over == SEEDS else 0)
  if len(means) < 2 or np.ptp(means) == 0:
    return None
  return _student(means, over, (gains.shape[0], gains.shape[1]))


def _student(
  means: Float[np.ndarray, " sample"], over: str, shape: tuple[int, int]
) -> Effect:
  num, mean = len(means), float(means.mean())
  variance = float(means.var(ddof=1))
  error = math.sqrt(variance / num)
  half = float(scipy.stats.t.ppf(1 - ALPHA / 2, num - 1)) * error
  # Of users, means over seeds: their residual is part of them.
  components = Components(
    variance if over == SEEDS else 0.0, variance if over == USERS else 0.0, 0.0
  )
  return Effect(
    over,
    mean,
    (mean - half, mean + half),
    float(2 * scipy.stats.t.sf(abs(mean) / error, num - 1)),
    mean / math.sqrt(variance),
    shape[0],
    shape[1],
    components,
  )


def smallest_shift(freedom: int, alpha: float, power: float) -> float:
  """The noncentrality that a two-sided t-test finds with a power.

  Args:
    freedom: degrees of freedom.
    alpha: level of the test.
    power: above alpha.
  """
  limit = float(scipy.stats.t.isf(alpha / 2, freedom))

  def missing(shift: float) -> float:
    # The square of a noncentral t is a noncentral F, which SciPy computes
    # without gaps.
    below = scipy.special.ncfdtr(1, freedom, shift**2, limit**2)
    return 1 - float(below) - power

  high = limit + 1.0
  while missing(high) < 0:
    high *= 2
  return float(scipy.optimize.root_scalar(missing, bracket=(0.0, high)).root)


def corrected(effects: Sequence[Effect | None]) -> list[Effect | None]:
  """The effects of a table; all of its p-values are one family."""
  p_values = np.array([math.nan if e is None else e.p_value for e in effects])
  num = int(np.sum(~np.isnan(p_values)))
  return [
    None
    if each is None
    else dataclasses.replace(
      each, p_holm=float(h), p_bh=float(b), num_comparisons=num
    )
    for each, h, b in zip(effects, holm(p_values), benjamini_hochberg(p_values))
  ]


def effects_of(
  values: Sequence[Values], baseline: int = 0
) -> list[Effect | None]:
  """What each combination has more than the baseline, corrected.

  Args:
    values: of each combination, for the same seeds and users.
    baseline: the one that the others are compared with; it has no effect.
  """
  return corrected(
    [
      None if place == baseline else effect(each, values[baseline])
      for place, each in enumerate(values)
    ]
  )
