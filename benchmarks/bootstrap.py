"""Bootstrap intervals over many users: ours against SciPy's.

    python -m benchmarks.bootstrap [--users U] [--resamples N] [--rounds R]

The percentile interval of a mean over U users by N resamples. SciPy is given
batches that fit into memory, which it needs, and is fastest with. Both use what
cores they can. They run in turn, R times; the median ratio is told.
"""

import argparse

import numpy as np
import scipy.stats

from benchmarks.in_turn import print_summary, time_in_turn
from recjax.evaluation.significance import bootstrap_interval


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--users", type=int, default=100_000)
  parser.add_argument("--resamples", type=int, default=10_000)
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args()
  values = np.random.default_rng(0).random(args.users)

  def ours() -> tuple[float, float]:
    return bootstrap_interval(values, num_resamples=args.resamples)

  def peer() -> tuple[float, float]:
    found = scipy.stats.bootstrap(
      (values,),
      np.mean,
      n_resamples=args.resamples,
      batch=100,
      method="percentile",
      rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)

  unit = f"s for {args.resamples:,} resamples of {args.users:,} users"
  runs = {"ours": lambda _: ours(), "peer": lambda _: peer()}
  times = time_in_turn(runs, args.rounds, unit)
  print_summary(
    "bootstrap", times, unit=unit, peer_name="scipy.stats.bootstrap"
  )


if __name__ == "__main__":
  main()
