"""A Pareto front as it stands in result.json: its table, file and plot.

A front is a mapping with `combine`, `tasks`, `judged` (what the values are AUCs
of), and of each point `weights`, `validation`, `test` and `on_front`; see
`recjax.evaluation.served_front.Front.to_dict`. A value that is undefined is
None or NaN.
"""

import csv
import io
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import figure as mpl_figure

from recjax import files
from recjax.runs import labels, tables
from recjax.runs.plot_style import (
  BLUE,
  PALE,
  SOFT,
  new_figure,
  png_bytes,
  style_axes,
  title_axes,
)

_PARTS = ("validation", "test")
_SIZE = 3.6


def front_table(
  front: Mapping[str, Any],
) -> tuple[tuple[str, ...], list[tables.Row]]:
  """Header and rows of the points on the front, for reports."""
  header = (
    *(f"weight of {task}" for task in front["tasks"]),
    *(f"{part} AUC {name}" for part in _PARTS for name in front["judged"]),
  )
  rows = []
  for weights, validation, test, on_front in _points(front):
    if on_front:
      values = [labels.number(_known(v)) for v in (*validation, *test)]
      texts = [f"{weight:.2f}" for weight in weights] + values
      cells = (tables.Cell(text, is_number=True) for text in texts)
      rows.append(tables.Row(tuple(cells)))
  return header, rows


def front_markdown(front: Mapping[str, Any]) -> list[str]:
  """The lines of `front_table` in Markdown, with what they are."""
  header, rows = front_table(front)
  if not rows:
    return [front_lead(front)]
  lines = tables.markdown_rows(header, [row.cells for row in rows])
  return [front_lead(front), "", *lines]


def front_lead(front: Mapping[str, Any]) -> str:
  """A sentence on what the table shows, and one on why it is empty."""
  lead = (
    f"Pareto front of the served score ({front['combine']}), of"
    f" {len(front['weights'])} weighings; chosen on validation rows alone."
  )
  if any(front["on_front"]):
    return lead
  undefined = [
    name
    for name, values in zip(front["judged"], zip(*front["validation"]))
    if all(_known(value) is None for value in values)
  ]
  names = " and ".join(undefined) or "some task"
  return (
    f"{lead} It is empty: the AUC of {names} is undefined on them, for their"
    " labels are all alike."
  )


def _points(front: Mapping[str, Any]):
  names = ("weights", *_PARTS, "on_front")
  return zip(*(front[name] for name in names), strict=True)


def _known(value: float | None) -> float | None:
  return None if value is None or value != value else value


def save_front_csv(front: Mapping[str, Any], path: files.PathLike) -> None:
  """Writes all points; those on the front have a 1 in `on_front`."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(
    [
      *(f"weight/{task}" for task in front["tasks"]),
      *(f"{part}/auc/{name}" for part in _PARTS for name in front["judged"]),
      "on_front",
    ]
  )
  for weights, validation, test, on_front in _points(front):
    values = (_known(value) for value in (*validation, *test))
    # An undefined value leaves its cell empty.
    writer.writerow([*weights, *values, int(on_front)])
  files.write_text_atomically(path, text.getvalue())


def front_figure(front: Mapping[str, Any]) -> mpl_figure.Figure:
  """The test AUCs of all points, one panel for each pair of tasks.

  Points on the front, which is that of the validation, are joined by a line in
  the order of their weights.

  Args:
    front: as in result.json.

  Returns:
    The figure.
  """
  pairs = list(itertools.combinations(range(len(front["tasks"])), 2))
  columns = min(3, len(pairs))
  rows = -(-len(pairs) // columns)
  figure = new_figure(_SIZE * columns + 0.6, _SIZE * rows + 0.4)
  panels = figure.subplots(rows, columns, squeeze=False).ravel()
  test = np.array(front["test"], np.float64)
  on_front = np.array(front["on_front"], bool)
  for axes, (first, second) in zip(panels, pairs):
    x, y = test[:, first], test[:, second]
    axes.scatter(x, y, s=16, color=PALE, label="a weighing")
    # A line tells of an order, and in more dimensions there is none.
    style = "-" if len(pairs) == 1 else ""
    axes.plot(
      x[on_front], y[on_front], color=BLUE, marker="o", markersize=5,
      linewidth=1.4, linestyle=style, label="on the front of the validation",
    )  # fmt: skip
    axes.set_xlabel(f"test AUC of {front['judged'][first]}")
    axes.set_ylabel(f"test AUC of {front['judged'][second]}")
    style_axes(axes, grid="both")
  for axes in panels[len(pairs) :]:
    axes.set_visible(False)
  title_axes(panels[0], f"Served score: {front['combine']}")
  panels[0].legend(frameon=False, fontsize=8, labelcolor=SOFT, loc="lower left")
  return figure


def plot_front(front: Mapping[str, Any], path: files.PathLike) -> None:
  """Writes `front_figure` as PNG."""
  content = png_bytes(front_figure(front))
  files.write_atomically(path, lambda file: file.write(content))
