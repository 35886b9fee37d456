"""`recjax front`: the Pareto front of a finished run of several objectives."""

import pathlib
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.table
from absl import flags
from rich import console

from recjax import files, launch, roots
from recjax.command_flags import data_flags, parse, required, workdir_flag
from recjax.errors import ConfigError
from recjax.evaluation.served_front import ParetoFront
from recjax.evaluation.served_score import COMBINES
from recjax.multi_task_experiment import MultiTaskExperiment
from recjax.runs.front import (
  front_lead,
  front_table,
  plot_front,
  save_front_csv,
)
from recjax.runs.record import plain


def front(arguments: Sequence[str]) -> None:
  """Tries weights of the served score of a run, without training."""

  def define(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
      "combine", "product", list(COMBINES), "How tasks become one score.",
      flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
      "num_weights", 21, "Values of a weight, from 0 to 1.", flag_values=values
    )
    flags.DEFINE_string(
      "out", None, "The folder of the files; WORKDIR/front by default.",
      flag_values=values,
    )  # fmt: skip

  values, positional, bindings = parse(
    "front", arguments, workdir_flag, data_flags, define
  )
  for text in (*positional, *(f"--gin.{binding}" for binding in bindings)):
    raise ConfigError(
      "recjax front takes the run as it was trained, and its own flags alone;"
      f" got {text!r}. See `recjax front --help`."
    )
  workdir = pathlib.Path(required(values, "workdir", "front"))
  settings = ParetoFront(values["num_weights"], values["combine"])
  experiment: Any = roots.experiment_of(workdir)
  if not isinstance(experiment, MultiTaskExperiment):
    raise ConfigError(
      f"{workdir} is a run of {type(experiment).__name__}: `recjax front` is"
      " for runs of MultiTaskExperiment, see docs/multi_task.md."
    )
  settings.weights(len(experiment.objectives))  # Says if there are too many.
  bench: Any = experiment.open(values["data_dir"], values["cache_dir"])
  weights = launch.best_weights(
    bench.task, workdir, over_devices=bench.judges_on_mesh
  )
  found = plain(bench.find_front(weights, settings).to_dict())
  out = pathlib.Path(values["out"] or workdir / "front")
  paths = [out / f"pareto.{ending}" for ending in ("csv", "json", "png")]
  save_front_csv(found, paths[0])
  files.write_json_atomically(paths[1], found)
  plot_front(found, paths[2])
  _print(found)
  print("\n".join(map(str, paths)))


def _print(found: dict[str, Any]) -> None:
  header, rows = front_table(found)
  shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
  for name in header:
    shown.add_column(name, justify="right")
  for row in rows:
    shown.add_row(*(cell.text for cell in row.cells))
  out = console.Console()
  out.print(front_lead(found), markup=False, soft_wrap=True)
  if rows:
    out.print(shown)
