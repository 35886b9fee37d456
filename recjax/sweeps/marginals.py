"""What each factor of a grid does, whatever the others are; and interactions.

A marginal effect is that of a level against the first level of its factor,
averaged over all levels of the other factors. Two factors interact where the
effect of one depends on the level of the other: the contrast

  (y[a, b] - y[a, first]) - (y[first, b] - y[first, first])

is 0 where they do not. Both are of the seeds that all combinations have.
"""

import dataclasses
import itertools
import math

import numpy as np
from jaxtyping import Float

from recjax.sweeps.effects import Effect, Values, corrected, effect
from recjax.sweeps.results import Combined, SweepResults


@dataclasses.dataclass(frozen=True)
class Marginal:
  """A level of a factor, averaged over the other factors.

  Attributes:
    factor: its name.
    level: its name.
    mean: of the metric.
    effect: against the first level; None of the first level itself.
  """

  factor: str
  level: str
  mean: float
  effect: Effect | None


@dataclasses.dataclass(frozen=True)
class Interaction:
  """Two factors together.

  Attributes:
    factors: their names.
    levels: the names of the levels of each.
    means: of the metric, averaged over the other factors.
    contrasts: by the levels of both; see the module.
  """

  factors: tuple[str, str]
  levels: tuple[tuple[str, ...], tuple[str, ...]]
  means: Float[np.ndarray, "level other"]
  contrasts: dict[tuple[str, str], Effect | None]


def _levels(results: SweepResults) -> dict[str, list[str]]:
  """The levels of each factor, in the order of the sweep file."""
  return {
    factor["name"]: [level["name"] for level in factor["levels"]]
    for factor in results.sweep["factors"]
  }


def is_balanced(results: SweepResults) -> bool:
  """Whether all combinations of two factors or more have a seed in common."""
  levels = _levels(results)
  num = int(np.prod([len(names) for names in levels.values()]))
  return (
    results.sweep["shape"] == "grid"
    and len(levels) > 1
    and len(results.rows) == num
    and bool(results.common_seeds)
  )


def _rows_where(
  results: SweepResults, wanted: dict[str, str]
) -> list[Combined]:
  """The combinations that have some levels."""
  return [r for r in results.rows if wanted.items() <= r.levels.items()]


def _values_where(results: SweepResults, wanted: dict[str, str]) -> Values:
  """Values averaged over the combinations that have some levels."""
  seeds = results.common_seeds
  values = [results.values(r, seeds) for r in _rows_where(results, wanted)]
  return np.mean(np.array(values, np.float64), axis=0)


def _mean_where(results: SweepResults, wanted: dict[str, str]) -> float:
  """The metric of the runs, averaged likewise."""
  metric, seeds = results.metric, results.common_seeds
  found = [
    row.runs[seed].result["metrics"].get(metric)
    for row in _rows_where(results, wanted)
    for seed in seeds
  ]
  return math.nan if None in found else float(np.mean(found))


def marginals(results: SweepResults) -> list[Marginal]:
  """The marginal effects of all factors, corrected together.

  Args:
    results: balanced.
  """
  levels = _levels(results)
  found = []
  for factor, names in levels.items():
    base = _values_where(results, {factor: names[0]})
    for name in names:
      gain = None
      if name != names[0]:
        gain = effect(_values_where(results, {factor: name}), base)
      mean = _mean_where(results, {factor: name})
      found.append(Marginal(factor, name, mean, gain))
  effects = corrected([each.effect for each in found])
  return [
    dataclasses.replace(each, effect=gain) for each, gain in zip(found, effects)
  ]


def interactions(results: SweepResults) -> list[Interaction]:
  """The interactions of all pairs of factors, corrected together.

  Args:
    results: balanced.
  """
  levels = _levels(results)
  found, all_effects = [], []
  for one, two in itertools.combinations(levels, 2):
    cells = {
      (a, b): _values_where(results, {one: a, two: b})
      for a, b in itertools.product(levels[one], levels[two])
    }
    first_a, first_b = levels[one][0], levels[two][0]
    contrasts = {
      (a, b): effect(
        cells[a, b] - cells[a, first_b],
        cells[first_a, b] - cells[first_a, first_b],
      )
      for a, b in itertools.product(levels[one][1:], levels[two][1:])
    }
    means = np.array(
      [
        [_mean_where(results, {one: a, two: b}) for b in levels[two]]
        for a in levels[one]
      ]
    )
    names = tuple(levels[one]), tuple(levels[two])
    found.append(Interaction((one, two), names, means, contrasts))
    all_effects += contrasts.values()
  effects = iter(corrected(all_effects))
  return [
    dataclasses.replace(
      each, contrasts={key: next(effects) for key in each.contrasts}
    )
    for each in found
  ]
