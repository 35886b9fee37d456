"""What each way of dealing with positions finds of the planted order.

    python experiments/planted_positions/compare.py RUNS

RUNS holds a run in WAY_SEED for each way and seed, where the seed draws the
rows as well. Three things are told of each way: the AUC of true labels of
relevance in all test rows; the share of pairs inside a test list that the
served score has in the order of their true relevance (two items of one user,
so that users have no part in it); and the mean distance of the propensities
from the planted ones. Each way is paired by seed with "biased", which does
nothing: a t-test of the differences in the order, its p-value times the number
of ways (Bonferroni). "truth" scores by the true relevance itself. results.json
beside this file gets all numbers.
"""

import pathlib
import sys
from typing import Any

import numpy as np
import scipy.stats

from recjax import files
from recjax.data.sources.planted_positions import PlantedPositions
from recjax.metrics.auc import auc_metric
from recjax.runs.predictions import load_predictions
from recjax.runs.record import RunRecord

WAYS = ("biased", "pal", "sum", "ipw_swap", "ipw_em", "ipw_true")
METRIC = "auc/click@all"


def order_in_lists(
  score: np.ndarray, truth: np.ndarray, lists: np.ndarray
) -> float:
  """The share of pairs inside lists that stand in their true order."""
  length = np.bincount(lists)[0]
  score, truth = (x.reshape(-1, length) for x in (score, truth))
  right, pairs = 0.0, 0
  for i in range(length):
    for j in range(i):
      sign = np.sign(truth[:, i] - truth[:, j])
      gap = sign * (score[:, i] - score[:, j])
      right += np.sum(gap > 0) + np.sum((gap == 0) & (sign != 0)) / 2
      pairs += np.sum(sign != 0)
  return float(right / pairs)


def load(runs: pathlib.Path, way: str) -> list[dict[str, Any]]:
  """What was measured for each seed of a way."""
  found = []
  for workdir in sorted(runs.glob(f"{way}_[0-9]*")):
    seed = int(workdir.name.removeprefix(f"{way}_"))
    result = RunRecord(workdir).read_result()
    source = PlantedPositions(swap_share=0.2, seed=seed)
    test = source.read(pathlib.Path()).test
    truth = test.column("true_relevance").astype(np.float64)
    score = load_predictions(workdir).tasks["click"].score
    positions = result["position_bias"] or {}
    found.append(
      {
        "way": way,
        "seed": seed,
        "auc": result["metrics"][METRIC],
        "best_auc": float(auc_metric(truth, test.column("relevant"))),
        "order": order_in_lists(score, truth, test.column("list")),
        "propensity_error": positions.get("mean_absolute_error"),
        "secs": round(result["wall_secs"], 1),
      }
    )
  return found


def told(values: Any) -> str:
  """Mean and deviation over seeds."""
  numbers = [x for x in values if x is not None]
  if not numbers:
    return ""
  return f"{np.mean(numbers):.4f} ({np.std(numbers, ddof=1):.4f})"


def main() -> None:
  """Prints the table and writes all numbers."""
  runs = pathlib.Path(sys.argv[1])
  found = {way: load(runs, way) for way in WAYS}
  of = lambda way, name: [seed[name] for seed in found[way]]
  print("| way | AUC of relevance | order in lists | propensities off by |"
        " gain in order | p |")  # fmt: skip
  print("| --- | ---: | ---: | ---: | --- | ---: |")
  for way in WAYS:
    line = [told(of(way, x)) for x in ("auc", "order", "propensity_error")]
    gain, p = "", ""
    if way != "biased":
      if of(way, "seed") != of("biased", "seed"):
        sys.exit(f"{way} has other seeds than biased.")
      gains = np.subtract(of(way, "order"), of("biased", "order"))
      test: Any = scipy.stats.ttest_1samp(gains, 0.0)
      low, high = test.confidence_interval()
      gain = f"{gains.mean():+.4f} [{low:.4f}, {high:.4f}]"
      p = f"{min(1.0, float(test.pvalue) * (len(WAYS) - 1)):.2g}"
    print(f"| {way} | {' | '.join([*line, gain, p])} |")
  print(f"| truth | {told(of('biased', 'best_auc'))} | 1 | | | |")
  files.write_json_atomically(
    pathlib.Path(__file__).with_name("measured.json"),
    [row for rows in found.values() for row in rows],
  )


if __name__ == "__main__":
  main()
