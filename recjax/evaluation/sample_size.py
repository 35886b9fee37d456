"""How many units an A/B test needs, and the smallest effect that it can see.

Means: Student's two-sample test of equal variances, of power by the noncentral
t distribution (Jacob Cohen: Statistical Power Analysis for the Behavioral
Sciences, 1988). Rates: the normal approximation with the pooled rate under the
null (Joseph Fleiss, Bruce Levin, Myunghee Cho Paik: Statistical Methods for
Rates and Proportions, 2003). All tests are two-sided.
"""

import math

import scipy.special
import scipy.stats
from scipy.optimize import root_scalar

from recjax.errors import ConfigError, check_range

_ENORMOUS = 1e6  # So many deviations are seen by any number of units.


def power_of_means(
  effect: float | int,
  stddev: float | int,
  num: float | int,
  *,
  ratio: float | int = 1.0,
  alpha: float = 0.05,
) -> float:
  """The chance that a true difference of means is found.

  Args:
    effect: the difference, in the units of `stddev`.
    stddev: of the values of a unit, within an arm.
    num: units of the smaller arm or of either; see `ratio`.
    ratio: units of the other arm for each of these.
    alpha: rate of false alarms.
  """
  _check(alpha=alpha, ratio=ratio, stddev=stddev)
  freedom = num * (1 + ratio) - 2
  if freedom <= 0:
    return alpha
  shift = abs(effect) / stddev * math.sqrt(num * ratio / (1 + ratio))
  limit = scipy.stats.t.ppf(1 - alpha / 2, freedom)
  # The square of a noncentral t is a noncentral F.
  return 1 - float(scipy.special.ncfdtr(1, freedom, shift**2, limit**2))


def sample_size_of_means(
  effect: float | int,
  stddev: float | int,
  *,
  ratio: float | int = 1.0,
  alpha: float = 0.05,
  power: float = 0.8,
) -> int:
  """Units of the first arm that find a difference with the given power.

  Args:
    effect: the difference of means that is to be seen.
    stddev: of the values of a unit, within an arm.
    ratio: units of the second arm for each of the first.
    alpha: rate of false alarms.
    power: the chance to find it.

  Raises:
    ConfigError: an option is out of range, or the effect is 0.
  """
  _check(alpha=alpha, ratio=ratio, stddev=stddev, power=power, effect=effect)
  if abs(effect) > _ENORMOUS * stddev:
    return 2
  enough = lambda num: (
    power_of_means(effect, stddev, num, ratio=ratio, alpha=alpha) - power
  )
  if enough(2) >= 0:
    return 2
  high = 4
  while enough(high) < 0:
    high *= 2
  found = float(root_scalar(enough, bracket=(2, high), xtol=1e-6).root)
  return math.ceil(found - 1e-6)


def smallest_difference_of_means(
  num: int,
  stddev: float | int,
  *,
  ratio: float | int = 1.0,
  alpha: float = 0.05,
  power: float = 0.8,
) -> float:
  """The difference that so many units find with the given power.

  Args:
    num: units of the first arm.
    stddev: of the values of a unit, within an arm.
    ratio: units of the second arm for each of the first.
    alpha: rate of false alarms.
    power: the chance to find it.

  Raises:
    ConfigError: an option is out of range.
  """
  _check(alpha=alpha, ratio=ratio, stddev=stddev, power=power)
  check_range("num", num, 2, integer=True)
  missing = lambda effect: (
    power_of_means(effect, stddev, num, ratio=ratio, alpha=alpha) - power
  )
  high = stddev
  while missing(high) < 0:
    high *= 2
  return float(root_scalar(missing, bracket=(0, high), xtol=1e-12 * high).root)


def sample_size_of_rates(
  control: float | int,
  treatment: float | int,
  *,
  ratio: float | int = 1.0,
  alpha: float = 0.05,
  power: float = 0.8,
) -> int:
  """Units of the first arm that tell two rates apart with the given power.

    n = (z_(1-alpha/2) sqrt((1 + 1/k) p q) + z_power sqrt(p0 q0 + p1 q1 / k))^2
        / (p1 - p0)^2,   p = (p0 + k p1) / (1 + k)

  Args:
    control: the rate of the first arm, such as its click-through rate.
    treatment: that of the second.
    ratio: k, units of the second arm for each of the first.
    alpha: rate of false alarms.
    power: the chance to find the difference.

  Raises:
    ConfigError: an option is out of range, or the rates are equal.
  """
  _check(alpha=alpha, ratio=ratio, power=power)
  check_range("control", control, 0.0, 1.0)
  check_range("treatment", treatment, 0.0, 1.0)
  if control == treatment:
    raise ConfigError(
      f"the rates must differ to be told apart; both are {control!r}."
    )
  options = {"ratio": ratio, "alpha": alpha, "power": power}
  return math.ceil(_size_of_rates(control, treatment, **options))


def _size_of_rates(
  control: float, treatment: float, *, ratio: float, alpha: float, power: float
) -> float:
  """Units of the first arm, as a real number."""
  pooled = (control + ratio * treatment) / (1 + ratio)
  spread = lambda rate: rate * (1 - rate)
  null = math.sqrt((1 + 1 / ratio) * spread(pooled))
  true = math.sqrt(spread(control) + spread(treatment) / ratio)
  z = scipy.stats.norm.ppf
  total = z(1 - alpha / 2) * null + z(power) * true
  return float((total / (treatment - control)) ** 2)


def smallest_difference_of_rates(
  num: int,
  control: float | int,
  *,
  ratio: float | int = 1.0,
  alpha: float = 0.05,
  power: float = 0.8,
) -> float:
  """The rise of a rate that so many units find with the given power.

  Args:
    num: units of the first arm.
    control: the rate of the first arm, below 1.
    ratio: units of the second arm for each of the first.
    alpha: rate of false alarms.
    power: the chance to find it.

  Raises:
    ConfigError: an option is out of range, or so few units find not even a
      rate of 1.
  """
  _check(alpha=alpha, ratio=ratio, power=power)
  check_range("num", num, 2, integer=True)
  check_range("control", control, 0.0, 1 - 1e-12)
  options = {"ratio": ratio, "alpha": alpha, "power": power}
  missing = lambda rise: (
    _size_of_rates(control, control + rise, **options) - num
  )
  if missing(1 - control) > 0:
    raise ConfigError(
      f"{num} units do not tell a rate of {control!r} from one of 1; give more."
    )
  low = 1e-12 * (1 - control)
  return float(root_scalar(missing, bracket=(low, 1 - control)).root)


def _check(**options: float) -> None:
  for name, value in options.items():
    if name in ("alpha", "power"):
      check_range(name, value, 1e-12, 1 - 1e-12)
    elif name == "effect":
      if not value or not math.isfinite(value):
        raise ConfigError(f"effect must be finite and not 0; got {value!r}.")
    elif not 0 < value < math.inf:
      raise ConfigError(f"{name} must be positive and finite; got {value!r}.")
  if options.get("power", 1.0) <= options["alpha"]:
    raise ConfigError(
      f"power must be above alpha, which has it without any effect; got"
      f" {options['power']!r} and {options['alpha']!r}."
    )
