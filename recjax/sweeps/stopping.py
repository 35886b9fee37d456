"""When a trial is stopped early: rules over validation curves.

A rule sees the curves of all trials so far, each a list of (step, value), and
says which running ones are not worth going on with. Curves are compared at
equal numbers of steps, so a rule does nothing for trials that are validated
at other steps than all others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax import errors

Curve = list[tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class MedianRule:
  """Stops a trial whose best value so far is worse than the median.

  The median is of the running means of the other trials up to the same step.

  Attributes:
    after: validations that every trial is given.
    min_trials: other trials that must have come as far.

  References:
    Daniel Golovin et al. Google Vizier: A Service for Black-Box Optimization.
    KDD 2017, section 3.2.1. https://doi.org/10.1145/3097983.3098043
  """

  after: int = 3
  min_trials: int = 4

  def __post_init__(self):
    errors.check_range("stop: after", self.after, 1, integer=True)
    errors.check_range("stop: min_trials", self.min_trials, 1, integer=True)

  def is_hopeless(
    self, name: str, curves: Mapping[str, Curve], *, less_is_better: bool
  ) -> bool:
    """Whether the trial of that name should be stopped where it is.

    Args:
      name: a key of `curves`.
      curves: of all trials, those under way and those that have ended.
      less_is_better: of the values.
    """
    curve = curves[name]
    if len(curve) < self.after:
      return False
    step = curve[-1][0]
    others = [
      np.mean([value for at, value in other if at <= step])
      for key, other in curves.items()
      if key != name and other and other[-1][0] >= step
    ]
    if len(others) < self.min_trials:
      return False
    sign = -1 if less_is_better else 1
    best = max(sign * value for _, value in curve)
    return bool(best < np.median(sign * np.array(others)))

  def to_dict(self) -> dict[str, Any]:
    """Plain values, as the sweep file has them."""
    return {"rule": "median", **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class HalvingRule:
  """Asynchronous successive halving.

  At the validations first, first * factor, first * factor^2, ... only the best
  1 / factor of the trials that came so far go on.

  Attributes:
    first: validations up to the first rung.
    factor: between rungs, and of the trials that are left.

  References:
    Liam Li et al. A System for Massively Parallel Hyperparameter Tuning. MLSys
    2020. https://arxiv.org/abs/1810.05934
  """

  first: int = 1
  factor: int = 3

  def __post_init__(self):
    errors.check_range("stop: first", self.first, 1, integer=True)
    errors.check_range("stop: factor", self.factor, 2, integer=True)

  def is_hopeless(
    self, name: str, curves: Mapping[str, Curve], *, less_is_better: bool
  ) -> bool:
    """Whether the trial of that name should be stopped where it is.

    Args:
      name: a key of `curves`.
      curves: of all trials, those under way and those that have ended.
      less_is_better: of the values.
    """
    rung = self.first
    while rung * self.factor <= len(curves[name]):
      rung *= self.factor
    if len(curves[name]) < rung:
      return False
    sign = -1 if less_is_better else 1
    step = curves[name][rung - 1][0]
    at_rung = {
      key: max(sign * value for at, value in curve if at <= step)
      for key, curve in curves.items()
      if curve and curve[-1][0] >= step and curve[0][0] <= step
    }
    kept = len(at_rung) // self.factor
    if not kept:  # Too few to tell: the first ones go on.
      return False
    worst = sorted(at_rung.values(), reverse=True)[kept - 1]
    return at_rung[name] < worst

  def to_dict(self) -> dict[str, Any]:
    """Plain values, as the sweep file has them."""
    return {"rule": "halving", **dataclasses.asdict(self)}


StopRule = MedianRule | HalvingRule
_RULES = {"median": MedianRule, "halving": HalvingRule}


def make_rule(values: Any, place: str) -> StopRule | None:
  """The rule of a [stop] table; None where there is none.

  Raises:
    ConfigError: a key or a value is wrong.
  """
  if values is None:
    return None
  if not isinstance(values, Mapping):
    raise errors.ConfigError(
      f"{place} must be a table, such as [stop] rule = 'median'; got"
      f" {values!r}."
    )
  rest = dict(values)
  name = rest.pop("rule", None)
  errors.check_choice(f"{place}: rule", name, _RULES)
  kind = _RULES[name]
  for key in rest:
    errors.check_choice(
      f"{place}: a key of {name!r}",
      key,
      [field.name for field in dataclasses.fields(kind)],
    )
  return kind(**rest)
