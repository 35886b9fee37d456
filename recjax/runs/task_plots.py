"""Plots of several tasks: what each takes of the experts; their conflict."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import figure as mpl_figure

from recjax import files
from recjax.runs.plot_style import INK, new_figure, png_bytes, title_axes


def utilization_figure(
  gates: Mapping[str, Float[np.ndarray, "task expert"]],
  tasks: Sequence[str],
) -> mpl_figure.Figure:
  """The mean gate of each expert, a row a task, one panel a mixture.

  Args:
    gates: by name of the mixture, such as "gate"; one row for each task, or
      one for all.
    tasks: their names.

  Returns:
    The figure.
  """
  width = max(2.0, 0.55 * max(g.shape[1] for g in gates.values()) + 1.6)
  figure = new_figure(width, 0.9 + 1.1 * len(gates) * max(1, len(tasks)) / 2)
  axes = figure.subplots(len(gates), 1, squeeze=False)[:, 0]
  for axis, (name, mean) in zip(axes, gates.items(), strict=True):
    rows = tasks if len(mean) == len(tasks) else [""] * len(mean)
    columns = [str(number) for number in range(mean.shape[1])]
    _draw_matrix(axis, mean, rows, columns, 0.0, 1.0)
    title_axes(axis, f"mean gate of each expert: {name}")
  return figure


def plot_utilization(
  gates: Mapping[str, Float[np.ndarray, "task expert"]],
  tasks: Sequence[str],
  path: files.PathLike,
) -> None:
  """Writes `utilization_figure` as PNG."""
  content = png_bytes(utilization_figure(gates, tasks))
  files.write_atomically(path, lambda file: file.write(content))


def conflict_figure(
  cosines: Float[np.ndarray, "task task"], tasks: Sequence[str]
) -> mpl_figure.Figure:
  """The cosines between the tasks' gradients of what they share.

  Args:
    cosines: below 0 two tasks pull apart.
    tasks: their names.

  Returns:
    The figure.
  """
  size = 1.8 + 0.7 * len(tasks)
  figure = new_figure(size, size)
  axis = figure.subplots()
  _draw_matrix(axis, cosines, tasks, tasks, -1.0, 1.0)
  title_axes(axis, "cosine of gradients")
  return figure


def plot_conflict(
  cosines: Float[np.ndarray, "task task"],
  tasks: Sequence[str],
  path: files.PathLike,
) -> None:
  """Writes `conflict_figure` as PNG."""
  content = png_bytes(conflict_figure(cosines, tasks))
  files.write_atomically(path, lambda file: file.write(content))


def _draw_matrix(axis, values, rows, columns, low: float, high: float) -> None:
  """A matrix with its numbers, which a colour alone would not tell."""
  colours = "RdBu" if low < 0 else "Blues"
  axis.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
  axis.set_xticks(range(len(columns)), columns)
  axis.set_yticks(range(len(rows)), rows)
  for row, line in enumerate(values):
    for column, value in enumerate(line):
      is_dark = abs(value) > 0.6 * high
      axis.text(
        column,
        row,
        f"{value:.2f}",
        ha="center",
        va="center",
        fontsize=8,
        color="white" if is_dark else INK,
      )
