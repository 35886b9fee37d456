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
import math
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.stats
from jaxtyping import Float

from recjax.errors import DataError
from recjax.evaluation.crossed_design import crossed_test, smallest_difference
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
    sees: the smallest difference that this many seeds and users find with a
      power of 80%, at the level corrected by Bonferroni.
    num_seeds: seeds in common.
    num_users: users, or 1.
    p_holm: under which the family-wise error rate of the table holds.
    p_bh: under which its false discovery rate holds.
  """

  over: str
  difference: float
  interval: tuple[float, float]
  p_value: float
  effect_size: float
  sees: float
  num_seeds: int
  num_users: int
  p_holm: float = math.nan
  p_bh: float = math.nan


def effect(a: Values, b: Values, *, num_comparisons: int = 1) -> Effect | None:
  """The effect of one pair, not yet corrected; None where nothing can be told.

  Args:
    a: values of one side.
    b: values of the other, for the same seeds and users.
    num_comparisons: of the table, for `sees`.

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
  alpha = ALPHA / max(num_comparisons, 1)
  num_seeds, num_users = gains.shape
  if np.ptp(gains) == 0:
    return None
  if min(gains.shape) >= 3:
    return _crossed(gains, alpha)
  over = SEEDS if num_users == 1 else USERS
  means = gains.mean(axis=1 if over == SEEDS else 0)
  if len(means) < 2 or np.ptp(means) == 0:
    return None
  return dataclasses.replace(
    _student(means, over, alpha), num_seeds=num_seeds, num_users=num_users
  )


def _crossed(gains: Values, alpha: float) -> Effect:
  found = crossed_test(gains)
  return Effect(
    BOTH,
    found.difference,
    found.interval,
    found.p_value,
    found.effect_size,
    smallest_difference(
      found.components, *gains.shape, alpha=alpha, power=POWER
    ),
    *gains.shape,
  )


def _student(
  means: Float[np.ndarray, " sample"], over: str, alpha: float
) -> Effect:
  num, mean = len(means), float(means.mean())
  spread = float(means.std(ddof=1))
  error = spread / math.sqrt(num)
  half = float(scipy.stats.t.ppf(1 - ALPHA / 2, num - 1)) * error
  return Effect(
    over,
    mean,
    (mean - half, mean + half),
    float(2 * scipy.stats.t.sf(abs(mean) / error, num - 1)),
    mean / spread,
    error * smallest_shift(num - 1, alpha, POWER),
    0,
    0,
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
    found = scipy.stats.nct.sf(limit, freedom, shift)
    return float(found + scipy.stats.nct.cdf(-limit, freedom, shift)) - power

  high = limit + 1.0
  while missing(high) < 0:
    high *= 2
  return float(scipy.optimize.root_scalar(missing, bracket=(0.0, high)).root)


def corrected(effects: Sequence[Effect | None]) -> list[Effect | None]:
  """The effects of a table; all of its p-values are one family."""
  p_values = np.array([math.nan if e is None else e.p_value for e in effects])
  return [
    None
    if e is None
    else dataclasses.replace(e, p_holm=float(h), p_bh=float(b))
    for e, h, b in zip(effects, holm(p_values), benjamini_hochberg(p_values))
  ]


def effects_of(
  values: Sequence[Values], baseline: int = 0
) -> list[Effect | None]:
  """What each combination has more than the baseline, corrected.

  Args:
    values: of each combination, for the same seeds and users.
    baseline: the one that the others are compared with; it has no effect.
  """
  num = len(values) - 1
  return corrected(
    [
      None
      if place == baseline
      else effect(each, values[baseline], num_comparisons=num)
      for place, each in enumerate(values)
    ]
  )
