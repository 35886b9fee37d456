"""Ours and a peer, one after the other in one process, as ratios of pairs."""

import json
import statistics
import time
from collections.abc import Callable, Mapping

from recjax.runs import environment


def time_in_turn(
  runs: Mapping[str, Callable[[int], object]],
  rounds: int,
  unit: str,
  *,
  scale: float = 1.0,
  clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
  """Times of each round of "ours" and "peer", printed as they come.

  Args:
    runs: take the number of the round, from 1.
    rounds: how many.
    unit: of the times, such as "s/epoch".
    scale: of the unit in a second, such as 1e3 / steps for "ms/step".
    clock: gives seconds; `time.process_time` counts those of this process
      alone.
  """
  times: dict[str, list[float]] = {name: [] for name in runs}
  for number in range(1, rounds + 1):
    for name, run in runs.items():
      start = clock()
      run(number)
      times[name].append(scale * (clock() - start))
    mine, theirs = times["ours"][-1], times["peer"][-1]
    print(
      f"round {number}: ours {mine:.4g}, theirs {theirs:.4g} {unit}, ratio"
      f" {mine / theirs:.3f}",
      flush=True,
    )
  return times


def print_summary(
  name: str,
  times: Mapping[str, list[float]],
  *,
  unit: str,
  peer_name: str,
  **more: object,
) -> None:
  """The line that `python -m benchmarks` reads: medians, and of the ratios.

  Args:
    name: of the benchmark.
    times: of `time_in_turn`.
    unit: of the times.
    peer_name: what stands beside us.
    **more: what else the line holds.
  """
  pairs = zip(times["ours"], times["peer"], strict=True)
  line = {
    "name": name,
    "ratio": round(statistics.median(a / b for a, b in pairs), 4),
    "ours": round(statistics.median(times["ours"]), 4),
    "peer": round(statistics.median(times["peer"]), 4),
    "unit": unit,
    "peer_name": peer_name,
    "device": environment.device_text(),
    "rounds": len(times["ours"]),
  }
  print(json.dumps(line | more))
