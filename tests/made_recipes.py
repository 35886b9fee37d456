"""Experiments with recipes, and a trainer that takes no time."""

import pathlib

import numpy as np

from recjax import errors

CELL = """
[[cell]]
run = "NAME"
dataset = "made"
model = "LR"
metric = "auc"
published = 0.8
tolerance = 0.01
source = "Table 1"
protocol = "random split"
MORE
"""
GIN = """
from __gin__ import dynamic_registration
from recjax import ranking_experiment
from recjax.data.sources import frappe
from recjax.models import fm
from recjax.train import loop

SEED = 0
ranking_experiment.RankingExperiment.source = @frappe.Frappe()
ranking_experiment.RankingExperiment.model = @fm.FM()
ranking_experiment.RankingExperiment.train = @loop.TrainConfig()
loop.TrainConfig.select = "auc"
ranking_experiment.RankingExperiment.seed = %SEED
ranking_experiment.RankingExperiment.name = "NAME"
"""


def add_experiment(
  root: pathlib.Path, name: str, recipe: str = "", cell: str = ""
) -> pathlib.Path:
  """An experiment of one cell and one recipe, whose gin file is beside it.

  Args:
    root: holds experiments/.
    name: of the experiment and of its runs.
    recipe: more lines of the recipe.
    cell: more lines of the cell.
  """
  folder = root / "experiments" / name
  folder.mkdir(parents=True)
  toml = f"""
    paper = "A paper."
    link = "https://x.org"
    [[recipe]]
    run = "{name}"
    gin_files = ["own.gin"]
    {recipe}
  """
  toml += CELL.replace("NAME", name).replace("MORE", cell)
  (folder / "published.toml").write_text(toml)
  (folder / "own.gin").write_text(GIN.replace("NAME", name))
  return folder


def add_data(root: pathlib.Path) -> None:
  """Small files where those of Frappe are looked for: ten indices a line."""
  folder = root / "data" / "frappe"
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  for part, num in (("train", 96), ("validation", 30), ("test", 30)):
    rows = rng.integers(0, 9, (num, 10)) + 10 * np.arange(10)
    labels = np.where(rng.random(num) < 0.4, "1", "-1")
    lines = (
      f"{label} {' '.join(f'{index}:1' for index in row)}\n"
      for label, row in zip(labels, rows, strict=True)
    )
    (folder / f"frappe.{part}.libfm").write_text("".join(lines))


class Trainer:
  """Writes a result at once; a run takes a minute of its clock.

  Attributes:
    trained: (name, seed) in their order.
    auc: the result by (name, seed); 0.8 by default.
    fails: names of runs that end by an error.
  """

  def __init__(self):
    self.secs = 0.0
    self.trained: list[tuple[str, int]] = []
    self.auc: dict[tuple[str, int], float] = {}
    self.fails: set[str] = set()

  def clock(self) -> float:
    """Seconds, for a Budget."""
    return self.secs

  def train(self, run, record, data_dir, cache_dir=None, *, command=None):
    """In place of `NamedRun.train`."""
    name, seed = run.settings.name, run.settings.seed
    self.secs += 60
    if name in self.fails:
      raise errors.RunError(f"the loss of {name} is not finite.")
    self.trained.append((name, seed))
    result = {
      "name": name,
      "dataset": "made",
      "model": "FM",
      "seed": seed,
      "metrics": {"auc": self.auc.get((name, seed), 0.8)},
      "intervals": {"auc": [0.79, 0.81]},
      "protocol": {},
      "protocol_hash": "aaaa",
      "config_hash": run.config_hash,
      "config_hash_without_seed": run.config_hash_without_seed,
      "data_fingerprint": "f" * 64,
      "wall_secs": 60.0,
      "device": "CPU, 2 cores",
      "versions": {},
      "command": command,
    }
    record.write_result(result)
    return result
