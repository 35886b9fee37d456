"""How combinations of a sweep differ from its baseline, and how sure that is.

Values are [seed, user]: the metric of each user, or of each seed alone where
there is one column. What can be asked depends on how many there are:

  two seeds and users or more   for new seeds and new users, see
                                `evaluation.crossed_design`
  one column, two seeds or more for new seeds: Student's paired test
  one seed                      for new users, with these trained models

The last asks less, and would call chance between two trainings a difference:
its p-values are told, but they are in no family of corrected ones.
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
  CrossedTest,
  crossed_test,
  smallest_difference,
)
from recjax.evaluation.significance import benjamini_hochberg, holm

BOTH, SEEDS, USERS = "seeds and users", "seeds", "users"
ALPHA, POWER = 0.05, 0.8
_FAR_APART, _RARELY = 10.0, 1e-3
_ROUNDING = 1e-12
"""Relative to the values: differences that vary by less do not vary."""

Values = Float[np.ndarray, "seed user"]


@dataclasses.dataclass(frozen=True)
class Effect:
  """What one combination has more than another.

  Attributes:
    over: BOTH, SEEDS or USERS: what else the test speaks of.
    difference: the mean.
    p_value: two-sided.
    effect_size: the difference over the standard deviation of what is tested.
    num_seeds: seeds in common.
    num_users: users with a value on both sides, or 1.
    components: variances of the differences.
    num_left_out: users without a value on a side.
    p_holm: under which the family-wise error rate of the table holds; NaN for
      USERS.
    p_bh: under which its false discovery rate holds; NaN for USERS.
  """

  over: str
  difference: float
  p_value: float
  effect_size: float
  num_seeds: int
  num_users: int
  components: Components
  num_left_out: int = 0
  p_holm: float = math.nan
  p_bh: float = math.nan
  _crossed: CrossedTest | None = None

  @functools.cached_property
  def interval(self) -> tuple[float, float]:
    """Of 95%, not corrected for the number of comparisons."""
    if self._crossed is not None:
      return self._crossed.interval
    error = math.sqrt(self.components.of_mean(self.num_seeds, self.num_users))
    freedom = (self.num_seeds if self.over == SEEDS else self.num_users) - 1
    half = float(scipy.stats.t.isf(ALPHA / 2, freedom)) * error
    return self.difference - half, self.difference + half


def effect(a: Values, b: Float[np.ndarray, "rival other"]) -> Effect | None:
  """The effect of one pair, not yet corrected; None where nothing can be told.

  Users whose value is NaN for any seed of a side are left out.

  Args:
    a: values of one side.
    b: values of the other, for the same seeds and users.

  Raises:
    DataError: the sides differ in shape.
  """
  if a.shape != b.shape:
    raise DataError(
      f"an effect needs the same seeds and users on both sides; got {a.shape}"
      f" and {b.shape}."
    )
  gains = np.asarray(a, np.float64) - np.asarray(b, np.float64)
  known = ~np.isnan(gains).any(axis=0)
  gains = gains[:, known]
  num_left_out = int(np.sum(~known))
  if not gains.size:
    return None
  largest = max(np.abs(a[:, known]).max(), np.abs(b[:, known]).max())
  if np.ptp(gains) <= _ROUNDING * largest:
    return None
  if min(gains.shape) >= 2:
    test = crossed_test(gains)
    return Effect(
      BOTH,
      test.difference,
      test.p_value,
      test.effect_size,
      gains.shape[0],
      gains.shape[1],
      test.components,
      num_left_out,
      _crossed=test,
    )
  found = _student(gains, SEEDS if gains.shape[1] == 1 else USERS)
  return found and dataclasses.replace(found, num_left_out=num_left_out)


def _student(gains: Values, over: str) -> Effect | None:
  means = gains.ravel()
  num, mean = len(means), float(means.mean())
  if num < 2:
    return None
  variance = float(means.var(ddof=1))
  ratio = abs(mean) / math.sqrt(variance / num)
  return Effect(
    over,
    mean,
    float(2 * scipy.stats.t.sf(ratio, num - 1)),
    mean / math.sqrt(variance),
    gains.shape[0],
    gains.shape[1],
    Components(
      variance if over == SEEDS else 0.0,
      variance if over == USERS else 0.0,
      0.0,
    ),
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


def alike(effects: Sequence[Effect | None]) -> list[Effect]:
  """The effects tested over seeds that vary alike, from which a design is told.

  A row is left out whose difference varies more than ten times as much as those
  of the others in the mean, and more than chance alone does with these seeds: a
  part without which training fails for some, say. Rows tested over less than
  the others are left out as well.

  Args:
    effects: of a table.
  """
  tested = [e for e in effects if e is not None and e.over != USERS]
  most = max(tested, key=lambda each: each.num_seeds, default=None)
  kept = [e for e in tested if most is not None and e.over == most.over]
  kept.sort(key=_variance)
  while len(kept) > 2:
    *others, last = map(_variance, kept)
    freedom = kept[-1].num_seeds - 1
    chance = scipy.stats.f.isf(_RARELY, freedom, freedom * len(others))
    if last <= max(_FAR_APART, float(chance)) * float(np.mean(others)):
      break
    kept.pop()
  return kept


def _variance(effect: Effect) -> float:
  return effect.components.of_mean(effect.num_seeds, effect.num_users)


def sees(effects: Sequence[Effect | None]) -> float | None:
  """The smallest difference that the design of a table finds with power 80%.

  At the level that Bonferroni's rule gives one of its comparisons. Variances
  are the means over the comparisons that vary `alike`, each of which has few
  seeds to tell them by; so the number is an estimate, too.

  Args:
    effects: of a table.

  Returns:
    The difference; None where nothing was tested over seeds.
  """
  tested = [e for e in effects if e is not None and e.over != USERS]
  if not tested:
    return None
  most = max(tested, key=lambda each: each.num_seeds)
  kept = alike(effects)
  parts = Components(
    *(
      float(np.mean([getattr(each.components, name) for each in kept]))
      for name in ("seed", "user", "residual")
    )
  )
  sizes, alpha = (most.num_seeds, most.num_users), ALPHA / len(tested)
  if most.over == BOTH:
    return smallest_difference(parts, *sizes, alpha=alpha, power=POWER)
  error = math.sqrt(parts.of_mean(*sizes))
  return error * smallest_shift(most.num_seeds - 1, alpha, POWER)


def corrected(effects: Sequence[Effect | None]) -> list[Effect | None]:
  """The effects of a table; p-values over seeds are one family."""
  p_values = np.array(
    [
      math.nan if each is None or each.over == USERS else each.p_value
      for each in effects
    ]
  )
  return [
    None
    if each is None
    else dataclasses.replace(each, p_holm=float(h), p_bh=float(b))
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
