"""Conversion models under selection bias, judged by the known truth.

  python experiments/planted_conversions/run.py --workdir=DIR

Models:

  clicks         a model of conversions alone, on clicked rows
  given          conversions on clicked rows, embeddings shared with clicks
  entire         ESMM
  inverse        ESCM2, inverse propensities
  doubly_robust  ESCM2, doubly robust

Each has six trials on two seeds of each data set: three rates, by two widths of
the embeddings (clicks) or by two weights of the conversion's loss beside that
of the click (all others). The best AUC of conversions on clicked validation
rows, which real data would tell as well, chooses. The other seeds are then
judged; a seed draws the data, too. What is finished is not run again. Writes
results.csv beside this file and prints the tables of the README.
"""

import argparse
import csv
import io
import itertools
import json
import pathlib
import subprocess
import sys
from concurrent import futures
from typing import Any

import numpy as np
import scipy.stats

from recjax import files

HERE = pathlib.Path(__file__).parent
RATES = (1e-3, 3e-3, 1e-2)
_ALONE = tuple(
  {"ParamGroup.learning_rate": rate, "MultiTask.dim": dim}
  for rate, dim in itertools.product(RATES, (8, 16))
)
_JOINT = tuple(
  {"ParamGroup.learning_rate": rate, "WEIGHTS": (1.0, weight)}
  for rate, weight in itertools.product(RATES, (1.0, 5.0))
)
TRIALS: dict[str, tuple[dict[str, object], ...]] = {
  "clicks": _ALONE,
  "given": _JOINT,
  "entire": _JOINT,
  "inverse": _JOINT,
  "doubly_robust": _JOINT,
}
DATA = {
  "1,000 users and items": {},
  "5,000 users and items": {"num_users": 5000, "num_items": 5000},
}
SIZES = {"num_train": 200_000, "num_validation": 100_000, "num_test": 100_000}
TUNED_ON = (1, 2)
TRUE = ("auc/conversion@all", "log_loss/conversion@all", "auc/conversion")


def run(
  data: str, model: str, trial: int, seed: int, workdir: pathlib.Path
) -> Any:
  """The result of a model, which is trained unless it is there."""
  path = workdir / f"{list(DATA).index(data)}_{model}_{trial}_{seed}"
  if not (path / "result.json").exists():
    recjax = pathlib.Path(sys.executable).with_name("recjax")
    command = [str(recjax), "train", f"--workdir={path}", f"--gin.SEED={seed}"]
    if model == "clicks":
      command.append(f"--gin_file={HERE / 'clicks.gin'}")
    else:
      command.append("--gin_file=runs/esmm_planted_conversions.gin")
      command.append(f"--gin.SPACE={model!r}")
      command.append(f"--gin.MultiTaskExperiment.name={model!r}")
    for name, value in (DATA[data] | SIZES).items():
      command.append(f"--gin.PlantedConversions.{name}={value!r}")
    for name, value in TRIALS[model][trial].items():
      command.append(f"--gin.{name}={value!r}")
    with open(workdir / f"{path.name}.log", "w") as log:
      subprocess.run(command, check=True, stdout=log, stderr=log)
  return json.loads((path / "result.json").read_text())


def best_trial(data: str, model: str, workdir: pathlib.Path, rows: list) -> int:
  """The trial that is best on clicked validation rows."""
  means = []
  for trial in range(len(TRIALS[model])):
    found = [run(data, model, trial, seed, workdir) for seed in TUNED_ON]
    values = [each["validation"]["auc/conversion"] for each in found]
    for seed, result in zip(TUNED_ON, found, strict=True):
      rows.append(row_of(data, model, trial, seed, result))
    means.append(np.mean(values))
  return int(np.argmax(means))


def row_of(
  data: str, model: str, trial: int, seed: int, result: Any
) -> tuple[object, ...]:
  """A line of results.csv."""
  values = [result["validation"]["auc/conversion"]]
  values += [result["metrics"][name] for name in TRUE]
  settings = json.dumps(TRIALS[model][trial])
  part = "tuning" if seed in TUNED_ON else "judged"
  numbers = [f"{value:.5f}" for value in values]
  return (data, model, settings, part, seed, *numbers)


def main() -> None:
  """Trains all models and writes what was found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--num_seeds", type=int, default=6)
  parser.add_argument("--num_workers", type=int, default=1, help="at once")
  args = parser.parse_args()
  args.workdir.mkdir(parents=True, exist_ok=True)
  rows: list[tuple[object, ...]] = []
  for data in DATA:
    with futures.ThreadPoolExecutor(args.num_workers) as pool:
      jobs = itertools.product(TRIALS, range(len(_JOINT)), TUNED_ON)
      for job in jobs:
        pool.submit(run, data, *job, args.workdir)
    print(f"\n{data}\n\n| model | setting | AUC | above clicks | p |")
    print("| --- | --- | ---: | --- | ---: |")
    clicks: list[float] = []
    for model in TRIALS:
      trial = best_trial(data, model, args.workdir, rows)
      values = []
      for seed in range(3, 3 + args.num_seeds):
        result = run(data, model, trial, seed, args.workdir)
        rows.append(row_of(data, model, trial, seed, result))
        values.append(result["metrics"][TRUE[0]])
      line = f"| {model} | {TRIALS[model][trial]} | {np.mean(values):.4f} |"
      if model == "clicks":
        clicks = values
        print(line, "| |", flush=True)
        continue
      test = scipy.stats.ttest_rel(values, clicks)
      low, high = test.confidence_interval()
      gain = f"{np.mean(values) - np.mean(clicks):+.4f}"
      text = f"{gain} [{low:+.4f}, {high:+.4f}] | {test.pvalue:.2g} |"
      print(line, text, flush=True)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  names = ("data", "model", "settings", "part", "seed", "validation", *TRUE)
  writer.writerows([names, *rows])
  files.write_text_atomically(HERE / "results.csv", text.getvalue())


if __name__ == "__main__":
  main()
