"""Do the tables of a sweep keep their word? 1,000 simulated sweeps a design.

  python experiments/simulated_sweeps/simulate.py

A sweep has a baseline and six other combinations; the metric of a user under a
seed is drawn from the crossed model of `recjax.evaluation.crossed_design`, and
goes through `recjax.sweeps.effects`, as the values of real runs do. Without any
true difference, a false alarm is a sweep with a corrected p-value below .05.
With one combination better by what the design says it sees with a power of 80%
(at the level of its row), the power is how often that row is found. The note of
a table tells the same difference by the variances of its own values; its median
stands beside the true one. Writes results.csv beside this file.
"""

import csv
import io
import math
import pathlib

import numpy as np
import scipy.stats

from recjax import files, progress
from recjax.evaluation.crossed_design import Components, smallest_difference
from recjax.sweeps.effects import effects_of, sees, smallest_shift

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


def main() -> None:
  """Simulates all designs and writes what was found."""
  rows = []
  total = len(SPREADS) * len(DESIGNS) * NUM_SWEEPS
  with progress.progress_bar("simulating", total, unit="sweeps") as bar:
    for name, spread in SPREADS.items():
      for shape in DESIGNS:
        random = np.random.default_rng([len(rows), *shape])
        gain = planted_difference(spread, shape)
        alarms, found, told = 0, 0, []
        for _ in range(NUM_SWEEPS):
          values = draw(random, spread, shape)
          effects = effects_of(values)
          tested = [each for each in effects if each is not None]
          alarms += min(each.p_holm for each in tested) < ALPHA
          told.append(sees(effects))
          values[1] = values[1] + gain
          better = effects_of(values)[1]
          # Bonferroni's level, which is what the design was made for.
          found += better is not None and better.p_value < ALPHA / NUM_OTHERS
          bar.advance()
        low, high = scipy.stats.binomtest(alarms, NUM_SWEEPS).proportion_ci()
        rows.append(
          (name, *shape, NUM_SWEEPS, alarms / NUM_SWEEPS, round(low, 4),
           round(high, 4), f"{gain:.5f}", f"{np.median(told):.5f}", 0.8,
           found / NUM_SWEEPS)
        )  # fmt: skip
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
