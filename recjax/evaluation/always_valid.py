"""Intervals and p-values of an A/B test that may be looked at at any time.

Ramesh Johari, Pete Koomen, Leonid Pekelis, David Walsh: Peeking at A/B Tests,
KDD 2017, https://doi.org/10.1145/3097983.3097992 (mixture sequential
probability ratio test of Robbins, 1970)

With the difference of means D and its variance V = s_a^2 / n_a + s_b^2 / n_b,
and a normal prior of variance tau^2 over true differences,

  Lambda = sqrt(V / (V + tau^2)) exp(tau^2 D^2 / (2 V (V + tau^2)))
  p_t    = min(p_(t-1), 1 / Lambda_t)
  D +- sqrt(V (V + tau^2) / tau^2 * (2 ln(1 / alpha) + ln((V + tau^2) / V)))

hold at all looks at once: the chance that the interval leaves out the true
difference at any look is at most alpha, as n grows (V is estimated, so the
guarantee is asymptotic; do not look before some hundred units of an arm).
Any tau holds; it decides where the interval is narrow. `tau_for` gives the one
that is narrowest at a planned V (Steven Howard, Aaditya Ramdas, Jon McAuliffe,
Jasjeet Sekhon: Time-uniform, nonparametric, nonasymptotic confidence sequences,
Annals of Statistics 2021, https://doi.org/10.1214/20-AOS1991, section 3.5).
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Num

from recjax.errors import ConfigError, DataError, check_range


@dataclasses.dataclass(frozen=True)
class Looks:
  """What is known at each look.

  Attributes:
    difference: mean of b less mean of a.
    low: lower end of the interval.
    high: upper end.
    p_value: the least so far.
  """

  difference: Float[np.ndarray, " look"]
  low: Float[np.ndarray, " look"]
  high: Float[np.ndarray, " look"]
  p_value: Float[np.ndarray, " look"]


@dataclasses.dataclass(frozen=True)
class Arm:
  """One arm, cumulated up to each look.

  Attributes:
    num: units so far.
    mean: of their values.
    variance: of their values.
  """

  num: Num[np.ndarray, " look"]
  mean: Num[np.ndarray, " look"]
  variance: Num[np.ndarray, " look"]


def cumulated(values: Num[np.ndarray, " unit"], looks: np.ndarray) -> Arm:
  """An arm after the first `looks` units, from its values in time's order.

  Args:
    values: of all units.
    looks: growing numbers of units, 2 at least.

  Raises:
    DataError: a value is NaN, or there are fewer than two units at a look, or
      more than there are.
  """
  values, looks = np.asarray(values, np.float64), np.asarray(looks)
  if np.isnan(values).any():
    raise DataError("a value of an A/B test is NaN.")
  if looks.min() < 2 or looks.max() > len(values):
    raise DataError(
      f"looks must lie in [2, {len(values)}], the units there are; got"
      f" {looks.min()} to {looks.max()}."
    )
  # About the mean of all, so that squares do not cancel.
  center = values.mean()
  sums = np.cumsum(values - center)[looks - 1]
  squares = np.cumsum((values - center) ** 2)[looks - 1]
  variance = (squares - sums**2 / looks) / (looks - 1)
  return Arm(looks, center + sums / looks, np.maximum(variance, 0.0))


def always_valid(
  a: Arm, b: Arm, tau: float | int, alpha: float = 0.05
) -> Looks:
  """The intervals and p-values of all looks.

  Args:
    a: control.
    b: treatment, at the same looks.
    tau: standard deviation of the prior over true differences; see `tau_for`.
    alpha: the chance that an interval is wrong at any look.

  Raises:
    ConfigError: tau is not positive, or alpha out of range.
    DataError: arms of different numbers of looks, or values without variance.
  """
  _check(tau, alpha)
  if len(a.num) != len(b.num):
    raise DataError(
      "both arms must be told at the same looks; got"
      f" {len(a.num)} and {len(b.num)}."
    )
  variance = a.variance / a.num + b.variance / b.num
  if not (variance > 0).all():
    raise DataError(
      "the variance of the difference must be positive at every look; begin"
      " later, or look at the logging: all values of both arms are equal."
    )
  difference = b.mean - a.mean
  wide = variance + tau**2
  width = np.sqrt(
    variance * wide / tau**2 * (2 * np.log(1 / alpha) + np.log(wide / variance))
  )
  log_ratio = 0.5 * np.log(variance / wide)
  log_ratio += tau**2 * difference**2 / (2 * variance * wide)
  p_value = np.minimum.accumulate(np.exp(np.minimum(-log_ratio, 0.0)))
  return Looks(difference, difference - width, difference + width, p_value)


def tau_for(variance: float | int, alpha: float = 0.05) -> float:
  """The tau whose interval is about narrowest at a planned variance.

  Args:
    variance: V of the look that counts most, such as 2 s^2 / n of the last.
    alpha: as of `always_valid`.

  Raises:
    ConfigError: a variance that is not positive, or alpha out of range.
  """
  _check(variance, alpha, "variance")
  logs = -2 * math.log(alpha)
  return math.sqrt(variance * (logs + math.log(logs) + 1))


def _check(value: float | int, alpha: float, name: str = "tau") -> None:
  check_range("alpha", alpha, 1e-12, 0.5)
  if not 0 < value < math.inf:
    raise ConfigError(f"{name} must be positive and finite; got {value!r}.")
