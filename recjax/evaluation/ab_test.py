"""An A/B test: what each arm changes against the control, metric by metric.

Means are compared by Welch's test, ratios by the delta method (see
`ratio_metrics`), both less what was known of the units beforehand (see
`cuped`), and p-values are corrected by Holm's rule over all metrics and arms.

A lift is the ratio of the two means less 1; its variance is that of the delta
method (Deng, Knoblich, Lu, KDD 2018, section 2).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats
from jaxtyping import Float, Int, Num

from recjax.errors import ConfigError, DataError, check_range
from recjax.evaluation.always_valid import Arm, Looks, always_valid, tau_for
from recjax.evaluation.cuped import cuped
from recjax.evaluation.ratio_metrics import linearized
from recjax.evaluation.sample_size import smallest_difference_of_means
from recjax.evaluation.significance import holm
from recjax.progress import progress_bar

_POWER = 0.8
_FEWEST_AT_A_LOOK = 200
# A control's mean nearer to 0 than so many of its errors gives no lift.
_CLEARLY_POSITIVE = 3.0


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


@dataclasses.dataclass(frozen=True)
class ArmEffect:
  """What an arm changes in a metric, against the control.

  Attributes:
    metric: its name.
    arm: the place of the arm; the control is 0.
    num_control: units of the control.
    num_treatment: units of the arm.
    control: the mean or ratio of the control, less what was known beforehand.
    treatment: that of the arm.
    difference: treatment - control.
    interval: of the difference.
    lift: treatment / control - 1; NaN where the control is not clearly above 0.
    lift_interval: of the lift.
    p_value: two-sided.
    p_holm: corrected over all metrics and arms of the test.
    smallest: the difference that is seen with a power of 80%, uncorrected.
    variance_reduction: the share of the variance that was known beforehand;
      None where nothing was.
  """

  metric: str
  arm: int
  num_control: int
  num_treatment: int
  control: float
  treatment: float
  difference: float
  interval: tuple[float, float]
  lift: float
  lift_interval: tuple[float, float]
  p_value: float
  p_holm: float
  smallest: float
  variance_reduction: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class OverTime:
  """What was known of an arm and a metric at each look.

  Attributes:
    metric: its name.
    arm: the place of the arm; the control is 0.
    num_units: units of both arms at each look.
    looks: intervals and p-values that hold at all looks at once.
  """

  metric: str
  arm: int
  num_units: Int[np.ndarray, " look"]
  looks: Looks

  @property
  def stop(self) -> int | None:
    """The first look at which the interval leaves out 0; None if none does."""
    apart = (self.looks.low > 0) | (self.looks.high < 0)
    return int(np.argmax(apart)) if apart.any() else None


def effects(
  metrics: Sequence[Measured],
  arm: Int[np.ndarray, " unit"],
  *,
  alpha: float = 0.05,
) -> list[ArmEffect]:
  """Compares each arm with the control, in each metric.

  Args:
    metrics: of all units.
    arm: of each unit; 0 is the control.
    alpha: intervals are of the level 1 - alpha.

  Raises:
    ConfigError: alpha is out of range, or there is no metric.
    DataError: an arm of fewer than two units, a value that is NaN, or a metric
      without variance.
  """
  check_range("alpha", alpha, 1e-12, 0.5)
  if not metrics:
    raise ConfigError("an A/B test needs a metric.")
  arms = range(1, _num_arms(arm))
  found = [
    _effect(metric, arm, number, alpha) for metric in metrics for number in arms
  ]
  corrected = holm(np.array([each.p_value for each in found]))
  return [
    dataclasses.replace(each, p_holm=float(p))
    for each, p in zip(found, corrected)
  ]


def over_time(
  metrics: Sequence[Measured],
  arm: Int[np.ndarray, " unit"],
  order: Num[np.ndarray, " unit"],
  *,
  num_looks: int = 20,
  planned_units: int = 0,
  alpha: float = 0.05,
) -> list[OverTime]:
  """What was known as units came, with intervals that hold at all looks.

  Each look is made of the units that had come by then, and of nothing else.

  Args:
    metrics: of all units.
    arm: of each unit; 0 is the control.
    order: of each unit; those with smaller numbers came first. Units of one
      number are seen at once.
    num_looks: at most; evenly spaced over the units of both arms.
    planned_units: of both arms at the planned end, where the intervals shall be
      narrowest; 0 takes those that there are.
    alpha: the chance that an interval is wrong at any look.

  Raises:
    ConfigError: an option is out of range.
    DataError: as `effects`, or there are fewer than 200 units in an arm.
  """
  check_range("num_looks", num_looks, 1, integer=True)
  check_range("planned_units", planned_units, 0, integer=True)
  check_range("alpha", alpha, 1e-12, 0.5)
  arms = range(1, _num_arms(arm))
  total = len(metrics) * len(arms) * num_looks
  found = []
  with progress_bar("looking", total, unit="looks") as bar:
    for metric in metrics:
      for number in arms:
        nums, sides = _seen(metric, arm, order, number, num_looks, bar.advance)
        tau = _tau(sides, planned_units, alpha)
        looks = always_valid(*sides, tau, alpha)
        found.append(OverTime(metric.name, number, nums, looks))
  return found


def _num_arms(arm: np.ndarray) -> int:
  counts = np.bincount(arm)
  if len(counts) < 2 or counts.min() < 2:
    raise DataError(
      "an A/B test needs a control (0) and one or more other arms, of two"
      f" units each at least; got arms of {counts.tolist()} units."
    )
  return len(counts)


def _pair(arm: np.ndarray, number: int) -> np.ndarray:
  """The places of the units of the control and of another arm."""
  return np.flatnonzero((arm == 0) | (arm == number))


def _values(
  metric: Measured, side: Int[np.ndarray, " unit"]
) -> tuple[Float[np.ndarray, " unit"], float | None]:
  """A value of each unit, whose means are compared, and what CUPED took off."""
  values = np.array(metric.values, np.float64)
  known = [values] if metric.per is None else [values, metric.per]
  if any(np.isnan(each).any() for each in known):
    raise DataError(f"{metric.name}: a value is NaN.")
  if metric.per is not None:
    for number in (0, 1):
      of_arm = side == number
      values[of_arm] = linearized(metric.values[of_arm], metric.per[of_arm])
  if metric.before is None:
    return values, None
  found = cuped(values, metric.before, side)
  return found.values, found.variance_reduction


def _effect(
  metric: Measured, arm: np.ndarray, number: int, alpha: float
) -> ArmEffect:
  chosen = _pair(arm, number)
  side = (arm[chosen] == number).astype(np.int64)
  values, reduction = _values(metric.rows(chosen), side)
  a, b = values[side == 0], values[side == 1]
  if not a.var() + b.var() > 0:
    raise _no_variance(metric.name)
  test = scipy.stats.ttest_ind(b, a, equal_var=False)
  low, high = test.confidence_interval(1 - alpha)
  freedom = len(a) + len(b) - 2
  inner = a.var() * len(a) + b.var() * len(b)
  smallest = smallest_difference_of_means(
    len(a),
    math.sqrt(inner / freedom),
    ratio=len(b) / len(a),
    alpha=alpha,
    power=_POWER,
  )
  lift, lift_interval = _lift(a, b, test.df, alpha)  # pyright: ignore
  p_value = float(test.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
  return ArmEffect(
    metric.name,
    number,
    len(a),
    len(b),
    float(a.mean()),
    float(b.mean()),
    float(b.mean() - a.mean()),
    (float(low), float(high)),
    lift,
    lift_interval,
    p_value,
    p_value,
    smallest,
    reduction,
  )


def _lift(
  a: np.ndarray, b: np.ndarray, freedom: float, alpha: float
) -> tuple[float, tuple[float, float]]:
  """The ratio of means less 1, and its interval."""
  variance_a, variance_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
  if a.mean() <= _CLEARLY_POSITIVE * math.sqrt(variance_a):
    return math.nan, (math.nan, math.nan)
  ratio = b.mean() / a.mean()
  error = math.sqrt(variance_b + ratio**2 * variance_a) / a.mean()
  width = float(scipy.stats.t.ppf(1 - alpha / 2, freedom)) * error
  return float(ratio - 1), (float(ratio - 1 - width), float(ratio - 1 + width))


def _seen(
  metric: Measured,
  arm: np.ndarray,
  order: np.ndarray,
  number: int,
  num_looks: int,
  advance: Callable[[], None],
) -> tuple[np.ndarray, tuple[Arm, Arm]]:
  """What each look finds of the control and of another arm."""
  chosen = _pair(arm, number)
  chosen = chosen[np.argsort(order[chosen], kind="stable")]
  side = (arm[chosen] == number).astype(np.int64)
  nums = _looks(metric.name, side, order[chosen], num_looks)
  found: tuple[list, list] = [], []
  for num in nums:
    values, _ = _values(metric.rows(chosen[:num]), side[:num])
    for place, known in enumerate(found):
      x = values[side[:num] == place]
      known.append((len(x), x.mean(), x.var(ddof=1)))
    advance()
  a, b = (Arm(*map(np.array, zip(*known))) for known in found)
  if not a.variance[-1] + b.variance[-1] > 0:
    raise _no_variance(metric.name)
  return nums, (a, b)


def _tau(sides: tuple[Arm, Arm], planned_units: int, alpha: float) -> float:
  """Where the intervals are narrowest: at the planned end."""
  variance = sum(arm.variance[-1] / arm.num[-1] for arm in sides)
  if planned_units:
    variance *= sum(arm.num[-1] for arm in sides) / planned_units
  return tau_for(float(variance), alpha)


def _looks(
  name: str, side: np.ndarray, order: np.ndarray, num_looks: int
) -> np.ndarray:
  """How many units each look is at; the first has enough of both arms.

  Units that came together, on one day say, are seen together.
  """
  counts = np.minimum(np.cumsum(side), np.cumsum(1 - side))
  if counts[-1] < _FEWEST_AT_A_LOOK:
    raise DataError(
      f"{name}: intervals that hold at all looks need {_FEWEST_AT_A_LOOK} units"
      f" in each arm; got {counts[-1]} in the smaller."
    )
  first = int(np.searchsorted(counts, _FEWEST_AT_A_LOOK)) + 1
  even = np.linspace(0, len(side), num_looks + 1)[1:].round().astype(np.int64)
  last = order[np.maximum(even, first) - 1]
  return np.unique(np.searchsorted(order, last, side="right"))


def _no_variance(name: str) -> DataError:
  return DataError(
    f"{name}: all units of the control and of an arm have one value; is the"
    " metric logged?"
  )
