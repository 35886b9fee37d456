"""What is known of an A/B test while its units come.

Each look is made of the units that had come by then, and of nothing else; the
intervals hold at all looks at once (see `always_valid`).

Of the variance of each arm and that of both together the one counts that gives
the larger error. A small arm that has seen no rare event yet varies too little
by itself: with events in .5% of units and arms of nine to one, looks by that
alone gave false alarms in a quarter of tests.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int, Num

from recjax.errors import DataError, check_range
from recjax.evaluation.ab_values import Measured, adjusted, num_arms, pair
from recjax.evaluation.always_valid import Arm, Looks, always_valid, tau_for
from recjax.progress import progress_bar

_FEWEST_AT_A_LOOK = 200


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

  A look at which nothing can be told, for all units are alike so far, say, is
  left out, unless it is the last.

  Raises:
    ConfigError: an option is out of range.
    DataError: as `effects`, or there are fewer than 200 units in an arm.
  """
  check_range("num_looks", num_looks, 1, integer=True)
  check_range("planned_units", planned_units, 0, integer=True)
  check_range("alpha", alpha, 1e-12, 0.5)
  arms = range(1, num_arms(arm))
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


def _seen(
  metric: Measured,
  arm: np.ndarray,
  order: np.ndarray,
  number: int,
  num_looks: int,
  advance: Callable[[], None],
) -> tuple[np.ndarray, tuple[Arm, Arm]]:
  """What each look finds of the control and of another arm."""
  chosen = pair(arm, number)
  chosen = chosen[np.argsort(order[chosen], kind="stable")]
  side = (arm[chosen] == number).astype(np.int64)
  nums = _looks(metric.name, side, order[chosen], num_looks)
  found: tuple[list, list] = [], []
  told = []
  for num in nums:
    advance()
    try:
      sides = adjusted(metric.rows(chosen[:num]), side[:num]).sides
    except DataError:
      if num == nums[-1]:
        raise
      continue
    told.append(num)
    for known, x, variance in zip(found, sides, _variances(*sides)):
      known.append((len(x), x.mean(), variance))
  a, b = (Arm(*map(np.array, zip(*known))) for known in found)
  return np.array(told), (a, b)


def _variances(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
  """Of both arms: each its own, or that of both if it gives a larger error."""
  of_a, of_b = a.var(ddof=1), b.var(ddof=1)
  inner = of_a * (len(a) - 1) + of_b * (len(b) - 1)
  pooled = inner / (len(a) + len(b) - 2)
  own = of_a / len(a) + of_b / len(b)
  if pooled * (1 / len(a) + 1 / len(b)) > own:
    return pooled, pooled
  return of_a, of_b


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
