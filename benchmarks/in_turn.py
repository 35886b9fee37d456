"""Ours and a peer, one after the other in one process, as ratios of pairs."""

import json
import statistics
import time
from collections.abc import Callable, Mapping

from recjax.runs import environment


def time_in_turn(
  runs: Mapping[str, Callable[[int], object]], rounds: int, unit: str
) -> dict[str, list[float]]:
  """Seconds of each round of "ours" and "peer", printed as they come.

  Args:
    runs: take the number of the round, from 1.
    rounds: how many.
    unit: of what is printed, such as "s/epoch".
  """
  secs: dict[str, list[float]] = {name: [] for name in runs}
  for number in range(1, rounds + 1):
    for name, run in runs.items():
      start = time.perf_counter()
      run(number)
      secs[name].append(time.perf_counter() - start)
    mine, theirs = secs["ours"][-1], secs["peer"][-1]
    print(
      f"round {number}: ours {mine:.4g}, theirs {theirs:.4g} {unit}, ratio"
      f" {mine / theirs:.3f}",
      flush=True,
    )
  return secs


def print_summary(
  name: str,
  secs: Mapping[str, list[float]],
  *,
  unit: str,
  peer_name: str,
  **more: object,
) -> None:
  """The line that `python -m benchmarks` reads: medians, and of the ratios.

  Args:
    name: of the benchmark.
    secs: of `time_in_turn`.
    unit: of the times.
    peer_name: what stands beside us.
    **more: what else the line holds.
  """
  pairs = zip(secs["ours"], secs["peer"], strict=True)
  line = {
    "name": name,
    "ratio": round(statistics.median(a / b for a, b in pairs), 4),
    "ours": round(statistics.median(secs["ours"]), 4),
    "peer": round(statistics.median(secs["peer"]), 4),
    "unit": unit,
    "peer_name": peer_name,
    "device": environment.device_text(),
    "rounds": len(secs["ours"]),
  }
  print(json.dumps(line | more))
