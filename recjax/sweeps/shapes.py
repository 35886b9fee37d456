"""Which combinations of levels a sweep has, by its shape."""

import dataclasses
import itertools
from collections.abc import Mapping

from recjax.errors import ConfigError
from recjax.sweeps.spec import FULL, Level, Sweep


@dataclasses.dataclass(frozen=True)
class Combination:
  """A level for each factor that differs from the base.

  Attributes:
    name: how tables call it.
    levels: names of levels by factor; a factor that is not named is as the
      base run has it.
  """

  name: str
  levels: Mapping[str, str]

  def chosen(self, sweep: Sweep) -> list[Level]:
    """The levels themselves, in the order of the factors."""
    return [
      factor.level(self.levels[factor.name])
      for factor in sweep.factors
      if factor.name in self.levels
    ]


def combinations(sweep: Sweep) -> list[Combination]:
  """All combinations of a sweep that is no search, the baseline first.

  The baseline has the first level of every factor, or, in a `remove_one`, is
  the base run.

  Raises:
    ConfigError: two of them would have one name.
  """
  found = {
    "grid": _grid,
    "one_at_a_time": _one_at_a_time,
    "remove_one": _remove_one,
  }[sweep.shape](sweep)
  names = [each.name for each in found]
  for each in found:
    if names.count(each.name) > 1:
      raise ConfigError(
        f"two combinations would be called {each.name!r}: give factors or"
        " levels other names."
      )
  return found


def named(sweep: Sweep, levels: Mapping[str, str]) -> Combination:
  """A combination by the names of its levels: "BCE", "depth 2, rate .1"."""
  if len(sweep.factors) == 1:
    return Combination(next(iter(levels.values())), levels)
  text = ", ".join(f"{factor} {level}" for factor, level in levels.items())
  return Combination(text, levels)


def _grid(sweep: Sweep) -> list[Combination]:
  choices = [[level.name for level in f.levels] for f in sweep.factors]
  names = [factor.name for factor in sweep.factors]
  return [
    named(sweep, dict(zip(names, chosen)))
    for chosen in itertools.product(*choices)
  ]


def _one_at_a_time(sweep: Sweep) -> list[Combination]:
  first = {f.name: f.levels[0].name for f in sweep.factors}
  found = [Combination("baseline", first)]
  for factor in sweep.factors:
    for level in factor.levels[1:]:
      name = f"{factor.name} {level.name}"
      found.append(Combination(name, first | {factor.name: level.name}))
  return found


def _remove_one(sweep: Sweep) -> list[Combination]:
  found = [Combination(FULL, {})]
  for factor in sweep.factors:
    for level in factor.levels:
      found.append(Combination(level.name, {factor.name: level.name}))
  names = [each.name for each in found]
  return [
    each
    if names.count(each.name) == 1
    else dataclasses.replace(
      each, name=f"{next(iter(each.levels))} {each.name}"
    )
    for each in found
  ]
