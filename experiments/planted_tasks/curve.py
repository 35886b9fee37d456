"""Heads of two tasks as the tasks become less alike.

  python experiments/planted_tasks/curve.py low --workdir=DIR
  python experiments/planted_tasks/curve.py high --workdir=DIR

with sines of low frequencies, 1 to 3, and of high ones, 2 to 6.

Each head has three rates at three correlations on three seeds that are not
judged; the least mean validation error of both tasks chooses one rate for all
correlations. Then each head is trained at each correlation and seed (a seed
draws the data, too). Writes DATA.csv, with the trials, and DATA.png beside this
file. What is finished is not run again.
"""

import argparse
import csv
import io
import itertools
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import numpy as np
import scipy.stats

from recjax import files
from recjax.runs.plot_style import new_figure, png_bytes, title_axes

HERE = pathlib.Path(__file__).parent
Job = tuple[str, float, float, int]  # Head, rate, correlation and seed.
RATES = (3e-3, 1e-2, 3e-2)
TUNED_AT, TUNED_ON = (0.0, 0.5, 1.0), (100, 101, 102)
CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
ALPHAS = {"low": (1.0, 1.5, 2.0, 2.5, 3.0), "high": (2.0, 3.0, 4.0, 5.0, 6.0)}
GIN_FILES = {
  "shared bottom": HERE / "shared_bottom.gin",
  "MMoE": "runs/mmoe_planted_tasks.gin",
}


def run(
  workdir: pathlib.Path, head: str, rate: float, correlation: float, seed: int
) -> Any:
  """The result of a run, which is made unless it is there."""
  name = f"{head.replace(' ', '_')}_{rate}_{correlation}_{seed}"
  path = workdir / name
  if not (path / "result.json").exists():
    recjax = pathlib.Path(sys.executable).with_name("recjax")
    command = [str(recjax), "train", f"--gin_file={GIN_FILES[head]}"]
    command += [f"--workdir={path}", f"--gin.SEED={seed}"]
    command += [f"--gin.CORRELATION={correlation}", f"--gin.RATE={rate}"]
    command += [f"--gin.PlantedTasks.alphas={ALPHAS[workdir.name]}"]
    with open(workdir / f"{name}.log", "w") as log:
      subprocess.run(command, check=True, stdout=log, stderr=log)
  return json.loads((path / "result.json").read_text())


def run_all(
  workdir: pathlib.Path, jobs: Sequence[Job], num_workers: int
) -> list[Any]:
  """The results of several runs, some at once."""
  with futures.ThreadPoolExecutor(num_workers) as pool:
    return list(pool.map(lambda job: run(workdir, *job), jobs))


def errors(metrics: Any) -> tuple[float, float]:
  """The squared errors of both tasks."""
  return metrics["rmse/first"] ** 2, metrics["rmse/second"] ** 2


def draw(losses: dict[str, np.ndarray], path: pathlib.Path) -> None:
  """Both losses, and their difference with Student's interval over seeds.

  Args:
    losses: by head, [correlation, seed], means of both tasks.
    path: of the plot.
  """
  figure = new_figure(7.6, 3.2)
  left, right = figure.subplots(1, 2)
  for head, values in losses.items():
    left.plot(CORRELATIONS, values.mean(axis=1), marker="o", label=head)
  left.set_ylabel("mean squared error, both tasks")
  left.legend(frameon=False)
  lead = losses["shared bottom"] - losses["MMoE"]
  error = scipy.stats.sem(lead, axis=1)
  error = error * scipy.stats.t.ppf(0.975, lead.shape[1] - 1)
  right.errorbar(CORRELATIONS, lead.mean(axis=1), error, marker="o")
  right.axhline(0.0, color="0.7", linewidth=0.8)
  title_axes(left, "loss")
  title_axes(right, "lead of MMoE, 95% over seeds")
  for axis in (left, right):
    axis.set_xlabel("correlation of the tasks' weights")
  content = png_bytes(figure)
  files.write_atomically(path, lambda file: file.write(content))


def main() -> None:
  """Makes all runs and writes what was found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("data", choices=list(ALPHAS))
  parser.add_argument("--num_seeds", type=int, default=10)
  parser.add_argument("--num_workers", type=int, default=1, help="at once")
  args = parser.parse_args()
  workdir = args.workdir / args.data
  workdir.mkdir(parents=True, exist_ok=True)
  trials = list(itertools.product(GIN_FILES, RATES, TUNED_AT, TUNED_ON))
  found = run_all(workdir, trials, args.num_workers)
  judged = [errors(result["validation"]) for result in found]
  best = {
    head: min(
      RATES,
      key=lambda rate, head=head: np.mean(
        [e for job, e in zip(trials, judged) if job[:2] == (head, rate)]
      ),
    )
    for head in GIN_FILES
  }
  print("rates:", best, flush=True)
  seeds = range(args.num_seeds)
  jobs = [
    (head, best[head], correlation, seed)
    for head, correlation, seed in itertools.product(
      GIN_FILES, CORRELATIONS, seeds
    )
  ]
  results = run_all(workdir, jobs, args.num_workers)
  tested = [errors(result["metrics"]) for result in results]
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(
    ("part", "head", "rate", "correlation", "seed", "mse_first", "mse_second")
  )
  for part, rows, values in (
    ("validation of trials", trials, judged),
    ("test", jobs, tested),
  ):
    for job, pair in zip(rows, values, strict=True):
      writer.writerow((part, *job, *(f"{value:.5f}" for value in pair)))
  files.write_text_atomically(HERE / f"{args.data}.csv", text.getvalue())
  shape = len(GIN_FILES), len(CORRELATIONS), args.num_seeds
  means = np.mean(tested, axis=1).reshape(shape)
  draw(dict(zip(GIN_FILES, means, strict=True)), HERE / f"{args.data}.png")


if __name__ == "__main__":
  main()
