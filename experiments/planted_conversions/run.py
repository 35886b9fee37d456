"""Conversion models under selection bias, judged by the known truth.

  python experiments/planted_conversions/run.py --workdir=DIR

trains each model on each data set and seed (a seed draws the data, too), and
writes results.csv beside this file. What is finished is not run again. Models:

  clicks         a model of conversions alone, on clicked rows
  given          conversions on clicked rows, embeddings shared with clicks
  entire         ESMM
  inverse        ESCM2, inverse propensities
  doubly_robust  ESCM2, doubly robust

Data sets differ by how many clicks there are to learn from.
"""

import argparse
import csv
import io
import json
import pathlib
import subprocess
import sys
from typing import Any

from recjax import files

HERE = pathlib.Path(__file__).parent
MODELS = ("clicks", "given", "entire", "inverse", "doubly_robust")
DATA = {
  "plenty": {"num_train": 200_000},
  "few": {"num_train": 200_000, "num_users": 5000, "num_items": 5000},
  "fewest": {
    "num_train": 200_000,
    "num_users": 5000,
    "num_items": 5000,
    "click_rate": 0.04,
  },
}
METRICS = ("auc/conversion@all", "log_loss/conversion@all", "auc/conversion")


def run(data: str, model: str, seed: int, workdir: pathlib.Path) -> Any:
  """The result of a model, which is trained unless it is there."""
  path = workdir / f"{data}_{model}_{seed}"
  if not (path / "result.json").exists():
    recjax = pathlib.Path(sys.executable).with_name("recjax")
    command = [str(recjax), "train", f"--workdir={path}", f"--gin.SEED={seed}"]
    if model == "clicks":
      command.append(f"--gin_file={HERE / 'clicks.gin'}")
    else:
      command.append("--gin_file=runs/esmm_planted_conversions.gin")
      command.append(f"--gin.SPACE={model!r}")
      command.append(f"--gin.MultiTaskExperiment.name={model!r}")
    for name, value in (DATA[data] | {"num_test": 100_000}).items():
      command.append(f"--gin.PlantedConversions.{name}={value!r}")
    with open(workdir / f"{path.name}.log", "w") as log:
      subprocess.run(command, check=True, stdout=log, stderr=log)
  return json.loads((path / "result.json").read_text())


def main() -> None:
  """Trains all models and writes what was found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--num_seeds", type=int, default=5)
  args = parser.parse_args()
  args.workdir.mkdir(parents=True, exist_ok=True)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(("data", "model", "seed", *METRICS))
  for seed in range(1, args.num_seeds + 1):
    for data in DATA:
      for model in MODELS:
        metrics = run(data, model, seed, args.workdir)["metrics"]
        row = [f"{metrics[name]:.5f}" for name in METRICS]
        writer.writerow((data, model, seed, *row))
        print(data, model, seed, *row, flush=True)
  files.write_text_atomically(HERE / "results.csv", text.getvalue())


if __name__ == "__main__":
  main()
