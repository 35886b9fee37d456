"""Heads of two tasks as the tasks become less alike.

  python experiments/planted_tasks/curve.py --workdir=DIR

trains each head at each correlation and seed (a seed draws the data, too), and
writes results.csv and curve.png beside this file. What is finished is not run
again.
"""

import argparse
import csv
import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import scipy.stats

from recjax import files
from recjax.runs.plot_style import new_figure, png_bytes, title_axes

HERE = pathlib.Path(__file__).parent
CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
GIN_FILES = {
  "shared bottom": HERE / "shared_bottom.gin",
  "MMoE": "runs/mmoe_planted_tasks.gin",
}


def run(
  head: str, correlation: float, seed: int, workdir: pathlib.Path
) -> tuple[float, float]:
  """The test MSE of both tasks; the run is made unless it is there."""
  path = workdir / f"{head.replace(' ', '_')}_{correlation}_{seed}"
  if not (path / "result.json").exists():
    recjax = pathlib.Path(sys.executable).with_name("recjax")
    command = [str(recjax), "train", f"--gin_file={GIN_FILES[head]}"]
    command += [f"--workdir={path}", f"--gin.SEED={seed}"]
    command += [f"--gin.CORRELATION={correlation}"]
    with open(workdir / f"{path.name}.log", "w") as log:
      subprocess.run(command, check=True, stdout=log, stderr=log)
  metrics = json.loads((path / "result.json").read_text())["metrics"]
  return metrics["rmse/first"] ** 2, metrics["rmse/second"] ** 2


def draw(losses: dict[str, np.ndarray]) -> None:
  """Both losses, and their difference with Student's interval over seeds.

  Args:
    losses: by head, [correlation, seed], means of both tasks.
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
  title_axes(right, "shared bottom - MMoE, 95% over seeds")
  for axis in (left, right):
    axis.set_xlabel("correlation of the tasks' weights")
  content = png_bytes(figure)
  files.write_atomically(HERE / "curve.png", lambda file: file.write(content))


def main() -> None:
  """Makes all runs and writes what was found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--num_seeds", type=int, default=5)
  args = parser.parse_args()
  args.workdir.mkdir(parents=True, exist_ok=True)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(("head", "correlation", "seed", "mse_first", "mse_second"))
  shape = len(CORRELATIONS), args.num_seeds
  losses = {head: np.zeros(shape) for head in GIN_FILES}
  for seed in range(args.num_seeds):
    for place, correlation in enumerate(CORRELATIONS):
      for head in GIN_FILES:
        found = run(head, correlation, seed, args.workdir)
        losses[head][place, seed] = np.mean(found)
        row = [f"{value:.5f}" for value in found]
        writer.writerow((head, correlation, seed, *row))
        print(head, correlation, seed, *row, flush=True)
  files.write_text_atomically(HERE / "results.csv", text.getvalue())
  draw(losses)


if __name__ == "__main__":
  main()
