"""Do the tables of a sweep keep their word? 1,000 simulated sweeps a design.

  python experiments/simulated_sweeps/simulate.py

A sweep has a baseline and six other combinations; the metric of a user under a
seed is drawn from the crossed model of `recjax.evaluation.crossed_design`, and
goes through `recjax.sweeps.effects`, as the values of real runs do. Without any
true difference, a false alarm is a sweep with a corrected p-value below .05.
With one combination better by what the design says it sees with a power of 80%
(at the level of its row), the power is how often that row is found. The note of
a table tells the same difference by the variances of its own values; its median
stands beside the true one. Hit rates, whose values are 0 and 1, are asked for
false alarms alone. Writes results.csv beside this file.
"""

import csv
import io
import math
import pathlib
from collections.abc import Sequence

import numpy as np
import scipy.stats

from recjax import files, progress
from recjax.evaluation.crossed_design import Components, smallest_difference
from recjax.sweeps.effects import Effect, effects_of, sees, smallest_shift

HERE = pathlib.Path(__file__).parent
NUM_SWEEPS, NUM_OTHERS, ALPHA = 1000, 6, 0.05
# Deviations of seeds, of users (shared by all combinations), of users under
# one combination, and of what is left.
SPREADS = {
  "seeds weigh little": (0.002, 0.3, 0.05, 0.2),
  "seeds weigh much": (0.01, 0.3, 0.05, 0.2),
}
# Seeds and users; one user is a metric that is known by seed alone.
DESIGNS = ((2, 2000), (3, 2000), (5, 2000), (10, 2000), (5, 1), (10, 1))

# Of hits: the mean chance of a user, which users differ in.
CHANCE = 0.05
DESIGNS_OF_HITS = ((2, 300), (2, 1000), (3, 1000), (5, 1000))


def draw(
  random: np.random.Generator, spread: tuple[float, ...], shape: tuple[int, int]
) -> list[np.ndarray]:
  """Values [seed, user] of all combinations, without any true difference."""
  of_seed, of_user, of_pair, rest = spread
  num, (seeds, users) = NUM_OTHERS + 1, shape
  values = 0.3 + of_user * random.normal(size=(1, 1, users))
  if users > 1:  # What one user likes better would be a true difference.
    values = values + of_pair * random.normal(size=(num, 1, users))
  values = values + of_seed * random.normal(size=(num, seeds, 1))
  return list(values + rest * random.normal(size=(num, seeds, users)))


def draw_hits(
  random: np.random.Generator, shape: tuple[int, int]
) -> list[np.ndarray]:
  """Hits [seed, user] of all combinations, without any true difference."""
  chance = random.beta(0.5, 0.5 / CHANCE - 0.5, size=shape[1])
  return list(1.0 * (random.random((NUM_OTHERS + 1, *shape)) < chance))


def planted_difference(
  spread: tuple[float, ...], shape: tuple[int, int]
) -> float:
  """What the design sees with a power of 80% in one comparison of several."""
  of_seed, _, of_pair, rest = spread
  # Variances of a difference: of two combinations each.
  alpha = ALPHA / NUM_OTHERS
  if shape[1] == 1:
    variance = 2 * (of_seed**2 + rest**2)
    error = math.sqrt(variance / shape[0])
    return error * smallest_shift(shape[0] - 1, alpha, 0.8)
  parts = Components(2 * of_seed**2, 2 * of_pair**2, 2 * rest**2)
  return smallest_difference(parts, *shape, alpha=alpha, power=0.8)


def is_alarm(effects: Sequence[Effect | None]) -> bool:
  """Whether any corrected p-value of a table is below .05."""
  return any(each.p_holm < ALPHA for each in effects if each is not None)


def shares(alarms: int) -> tuple[int, float, float, float]:
  """Sweeps, the share of them with an alarm, and its 95% interval."""
  low, high = scipy.stats.binomtest(alarms, NUM_SWEEPS).proportion_ci()
  return NUM_SWEEPS, alarms / NUM_SWEEPS, round(low, 4), round(high, 4)


def main() -> None:
  """Simulates all designs and writes what was found."""
  rows = []
  num_designs = len(SPREADS) * len(DESIGNS) + len(DESIGNS_OF_HITS)
  total = num_designs * NUM_SWEEPS
  with progress.progress_bar("simulating", total, unit="sweeps") as bar:
    for name, spread in SPREADS.items():
      for shape in DESIGNS:
        random = np.random.default_rng([len(rows), *shape])
        gain = planted_difference(spread, shape)
        alarms, found, told = 0, 0, []
        for _ in range(NUM_SWEEPS):
          values = draw(random, spread, shape)
          effects = effects_of(values)
          alarms += is_alarm(effects)
          told.append(sees(effects))
          values[1] = values[1] + gain
          better = effects_of(values)[1]
          # Bonferroni's level, which is what the design was made for.
          found += better is not None and better.p_value < ALPHA / NUM_OTHERS
          bar.advance()
        rows.append(
          (name, *shape, *shares(alarms), f"{gain:.5f}",
           f"{np.median(told):.5f}", 0.8, found / NUM_SWEEPS)
        )  # fmt: skip
        print(*rows[-1], flush=True)
    for shape in DESIGNS_OF_HITS:
      random = np.random.default_rng([len(rows), *shape])
      alarms = 0
      for _ in range(NUM_SWEEPS):
        alarms += is_alarm(effects_of(draw_hits(random, shape)))
        bar.advance()
      rows.append(("hits", *shape, *shares(alarms), "", "", "", ""))
      print(*rows[-1], flush=True)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  header = (
    "spread,seeds,users,sweeps,false_alarms,low,high,planted,told,promised,"
    "power"
  )
  writer.writerow(header.split(","))
  writer.writerows(rows)
  files.write_text_atomically(HERE / "results.csv", text.getvalue())


if __name__ == "__main__":
  main()
