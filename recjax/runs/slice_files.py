"""Slices of a test in a workdir: slices/NAME.json, and a plot of them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from recjax import files
from recjax.runs import labels
from recjax.runs.record import RunRecord, plain, read_json
from recjax.runs.slice_plot import plot_overview

Slices = Mapping[str, Sequence[Mapping[str, Any]]]


def save_slices(
  record: RunRecord, name: str, slices: Slices, *, title: str
) -> None:
  """Writes all slices of a test, and plots the metric that stands for it.

  Args:
    record: of the workdir.
    name: such as "test".
    slices: rows of `SliceTable`, by what they slice, such as "items/genres".
    title: of the plot.
  """
  path = record.workdir / "slices" / f"{name}.json"
  files.write_json_atomically(path, plain(slices))
  record.plots_dir.mkdir(exist_ok=True)
  metrics = {
    metric
    for rows in slices.values()
    for row in rows
    for metric in row["metrics"]
  }
  plot_overview(
    slices,
    labels.headline(metrics),
    record.plots_dir / f"{name}-slices.png",
    title=title,
  )


def load_slices(workdir: files.PathLike, name: str = "test") -> dict[str, Any]:
  """The slices beside a run, by what they slice; {} where there are none.

  Args:
    workdir: of the run.
    name: of the test.

  Raises:
    RunError: the file is corrupt.
  """
  path = pathlib.Path(workdir) / "slices" / f"{name}.json"
  return read_json(path) if path.exists() else {}
