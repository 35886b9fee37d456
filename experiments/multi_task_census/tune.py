"""The same budget of tuning for each head on census-income.

Each head has as many trials, of settings drawn at random from one space: the
rate, the width of embeddings, dropout, and how a like number of units is laid
out in its layers. A trial is a run of the head's file with one seed, which the
comparison does not use; it is judged on the validation part alone. A trial
that is finished is not run again.

  python experiments/multi_task_census/tune.py --workdir=DIR --data_dir=DATA

writes DIR/HEAD_TRIAL for each run, and trials.csv beside this file.
"""

import argparse
import csv
import io
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from recjax import files

HERE = pathlib.Path(__file__).parent
SEED = 0
UNITS = (64, 128, 256)


def _single(
  random: np.random.Generator, units: int, tower: int
) -> dict[str, Any]:
  del random
  return {"Separate.hidden": (units, tower)}


def _shared_bottom(
  random: np.random.Generator, units: int, tower: int
) -> dict[str, Any]:
  del random
  return {"SharedBottom.hidden": (units,), "SharedBottom.tower": (tower,)}


def _mixture(
  random: np.random.Generator, units: int, tower: int
) -> dict[str, Any]:
  num = int(random.choice((4, 8)))
  return {
    "MMoE.num_experts": num,
    "MMoE.expert": (units // num,),
    "MMoE.tower": (tower,),
  }


def _ple(random: np.random.Generator, units: int, tower: int) -> dict[str, Any]:
  return {
    "PLE.num_layers": int(random.choice((1, 2))),
    "PLE.task_experts": 3,
    "PLE.shared_experts": 2,
    "PLE.expert": (units // 8,),
    "PLE.tower": (tower,),
  }


Layers = Callable[[np.random.Generator, int, int], dict[str, Any]]
HEADS: dict[str, tuple[Layers, str]] = {
  "single": (_single, "Separate"),
  "shared_bottom": (_shared_bottom, "SharedBottom"),
  "omoe": (_mixture, "MMoE"),
  "mmoe": (_mixture, "MMoE"),
  "ple": (_ple, "PLE"),
}


def settings(head: str, trial: int) -> dict[str, Any]:
  """What trial number `trial` of a head sets, by names of gin."""
  # The rates and widths of a trial are those of all heads.
  shared = np.random.default_rng([SEED, trial])
  rate = float(np.exp(shared.uniform(np.log(5e-4), np.log(1e-2))))
  dim = int(shared.choice((4, 8, 16)))
  dropout = float(shared.choice((0.0, 0.1, 0.3)))
  units, tower = int(shared.choice(UNITS)), int(shared.choice((8, 16)))
  layers, layer = HEADS[head]
  return {
    "ParamGroup.learning_rate": float(f"{rate:.3g}"),
    "MultiTask.dim": dim,
    f"{layer}.dropout_rate": dropout,
    **layers(shared, units, tower),
  }


def run(
  head: str, trial: int, workdir: pathlib.Path, data_dir: str
) -> dict[str, Any]:
  """The result of a trial, which is run unless it is there."""
  path = workdir / f"{head}_{trial}"
  if not (path / "result.json").exists():
    recjax = pathlib.Path(sys.executable).with_name("recjax")
    command = [str(recjax), "train"]
    command += [f"--gin_file=runs/{head}_census_income.gin"]
    command += [f"--workdir={path}", f"--data_dir={data_dir}"]
    command += [f"--gin.SEED={SEED}"]
    for name, value in settings(head, trial).items():
      command.append(f"--gin.{name}={value!r}")
    with open(workdir / f"{head}_{trial}.log", "w") as log:
      subprocess.run(command, check=True, stdout=log, stderr=log)
  return json.loads((path / "result.json").read_text())


def main() -> None:
  """Runs the trials and writes what they found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--data_dir", required=True)
  parser.add_argument("--num_trials", type=int, default=9)
  parser.add_argument("--heads", default=",".join(HEADS))
  args = parser.parse_args()
  args.workdir.mkdir(parents=True, exist_ok=True)
  for trial in range(args.num_trials):
    for head in args.heads.split(","):
      run(head, trial, args.workdir, args.data_dir)
  rows = []
  for head in args.heads.split(","):
    for trial in range(args.num_trials):
      result = run(head, trial, args.workdir, args.data_dir)
      rows.append(
        {
          "head": head,
          "trial": trial,
          "auc_income_validation": result["validation"]["auc/income"],
          "best_step": result["best_step"],
          "secs": round(result["wall_secs"], 1),
          "settings": json.dumps(settings(head, trial)),
        }
      )
  text = io.StringIO()
  writer = csv.DictWriter(text, rows[0], lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  files.write_text_atomically(HERE / "trials.csv", text.getvalue())


if __name__ == "__main__":
  main()
