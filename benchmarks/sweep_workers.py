"""A sweep of small trials: two workers against one, and how trials start.

    python -m benchmarks.sweep_workers [--trials N] [--steps S] [--rounds R]

SASRec on planted data, N trials of S steps that differ in the rate and the
seed, so that all share one compilation. One worker has all cores of this
machine, two have half of them each. The compilation cache starts empty in each
sweep. They run in turn, R times; the median ratio of the times of whole sweeps
is told, processes and imports with them. "second trial" is the time from its
start to its first line of metrics, which is written after the first step.
"""

import argparse
import datetime
import json
import pathlib
import statistics
import tempfile
import threading
import time

from benchmarks.in_turn import print_summary, time_in_turn
from recjax.sweeps import carry_out
from recjax.sweeps.carry_out import Places
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.launchers.local import LocalLauncher
from recjax.sweeps.spec import Sweep, make_sweep


def sweep_of(trials: int, steps: int) -> Sweep:
  """Two rates and as many seeds as it takes."""
  return make_sweep(
    {
      "title": "small trials",
      "gin_files": ["runs/sasrec_planted.gin"],
      "bindings": [
        f"TrainConfig.max_steps = {steps}",
        "TrainConfig.log_every_steps = 1",
        "TrainConfig.steps_per_dispatch = 1",
      ],
      "seeds": list(range(trials // 2)),
      "factor": [
        {
          "name": "rate",
          "levels": {
            "low": ["ParamGroup.learning_rate = 1e-3"],
            "high": ["ParamGroup.learning_rate = 2e-3"],
          },
        }
      ],
    },
    "small.toml",
  )


def watch(folder: SweepFolder, first_lines: dict[str, float]) -> None:
  """Notes when each trial has logged its first step; ends with the sweep."""
  while not (folder.path / "done").exists():
    for path in folder.path.glob("trials/*/metrics.jsonl"):
      first_lines.setdefault(path.parent.name, time.time())
    time.sleep(0.02)


def run(sweep: Sweep, num_workers: int) -> float:
  """Carries out a sweep; seconds from start to step 1 of a worker's second."""
  made = carry_out.make(sweep)
  with tempfile.TemporaryDirectory() as name:
    folder = SweepFolder(pathlib.Path(name) / "sweep")
    folder.take_up(sweep)
    first_lines: dict[str, float] = {}
    watcher = threading.Thread(target=watch, args=(folder, first_lines))
    watcher.start()
    launcher = LocalLauncher(num_workers)
    places = Places(name, f"{name}/cache", f"{name}/xla")
    carry_out.carry_out(sweep, made, folder, launcher, places)
    launcher.close()
    (folder.path / "done").touch()
    watcher.join()
    lines = (folder.path / "events.jsonl").read_text().splitlines()
    starts = {}
    for event in map(json.loads, lines):
      if event["event"] == "started":
        starts[event["trial"]] = event["at"]
    second = made.trials[num_workers].key  # The first that a worker repeats.
    begun = datetime.datetime.fromisoformat(starts[second]).timestamp()
    return first_lines[second] - begun


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--trials", type=int, default=8)
  parser.add_argument("--steps", type=int, default=60)
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args()
  sweep = sweep_of(args.trials, args.steps)
  seconds: list[float] = []
  runs = {
    "ours": lambda _: seconds.append(run(sweep, 2)),
    "peer": lambda _: run(sweep, 1),
  }
  times = time_in_turn(runs, args.rounds, "s a sweep")
  print_summary(
    "sweep_workers",
    times,
    unit="s a sweep",
    peer_name="one worker",
    second_trial_secs=round(statistics.median(seconds), 2),
  )


if __name__ == "__main__":
  main()
