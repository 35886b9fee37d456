"""Which of the variants differ, over seeds and over users.

    python experiments/two_tower_ml1m/compare.py RUNS

RUNS holds a run in VARIANT_SEED for each variant and seed. Two tables are
printed: NDCG@10 of each variant, and the differences of pairs. Seeds that both
have are paired. The interval over seeds is Student's of the differences, with
its p-value times the number of pairs (Bonferroni); that over users is a
bootstrap of their values in the mean of the seeds. A difference is called real
where this p-value is below 0.05 and neither interval holds 0.
"""

import pathlib
import sys

import numpy as np
import scipy.stats

from recjax.evaluation.significance import compare
from recjax.runs.record import RunRecord

METRIC = "ndcg@10"
VARIANTS = (
  "ids",
  "mean",
  "gate_off",
  "gate",
  "interests_1",
  "interests_2",
  "interests_4",
)
PAIRS = (
  ("mean", "ids"),
  ("gate_off", "mean"),
  ("gate", "gate_off"),
  ("interests_1", "mean"),
  ("interests_2", "interests_1"),
  ("interests_4", "interests_1"),
)


def load(runs: pathlib.Path) -> dict[str, dict[int, np.ndarray]]:
  """NDCG@10 of every user by variant and seed."""
  found: dict[str, dict[int, np.ndarray]] = {name: {} for name in VARIANTS}
  for name in VARIANTS:
    for workdir in sorted(runs.glob(f"{name}_[0-9]*")):
      seed = int(workdir.name.removeprefix(f"{name}_"))
      record = RunRecord(workdir)
      if record.is_finished():
        found[name][seed] = record.load_per_user("test")[METRIC]
  return found


def over_seeds(values: np.ndarray) -> tuple[float, float]:
  """Student's 95% interval of a mean."""
  error = scipy.stats.sem(values)
  low, high = scipy.stats.t.interval(
    0.95, len(values) - 1, values.mean(), error
  )
  return float(low), float(high)


def main() -> None:
  """Prints both tables."""
  found = load(pathlib.Path(sys.argv[1]))
  print("| variant | seeds | NDCG@10 | 95% over seeds |")
  print("| --- | ---: | ---: | --- |")
  for name, seeds in found.items():
    means = np.array([users.mean() for users in seeds.values()])
    if len(means) < 2:
      sys.exit(f"{sys.argv[1]} holds {len(means)} runs of {name}; 2 at least.")
    low, high = over_seeds(means)
    interval = f"[{low:.4f}, {high:.4f}]"
    print(f"| {name} | {len(means)} | {means.mean():.4f} | {interval} |")
  print("\n| pair | difference | over seeds | p | over users | real |")
  print("| --- | ---: | --- | ---: | --- | --- |")
  for a, b in PAIRS:
    seeds = sorted(found[a].keys() & found[b].keys())
    one, other = (np.stack([found[x][seed] for seed in seeds]) for x in (a, b))
    gains = one.mean(axis=1) - other.mean(axis=1)
    low, high = over_seeds(gains)
    p = min(1.0, len(PAIRS) * scipy.stats.ttest_1samp(gains, 0.0).pvalue)
    users = compare(one.mean(axis=0), other.mean(axis=0)).interval
    real = p < 0.05 and low * high > 0 and users[0] * users[1] > 0
    print(
      f"| {a} - {b} | {gains.mean():+.4f} | [{low:+.4f}, {high:+.4f}]"
      f" | {p:.4f} | [{users[0]:+.4f}, {users[1]:+.4f}]"
      f" | {'yes' if real else 'no'} |"
    )


if __name__ == "__main__":
  main()
