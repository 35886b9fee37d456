"""Plots of slices: a metric by training events or by values of a feature."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from recjax import files
from recjax.errors import ConfigError, DataError, nearest
from recjax.runs import labels
from recjax.runs.plot_style import (
  INK,
  PALE,
  SERIES,
  new_figure,
  png_bytes,
  style_axes,
  title_axes,
)

Rows = Sequence[Mapping[str, Any]]
_LONG_NAME = 9  # Letters; longer ones are written aslant.
_MAX_WIDTH = 14.0
_PANELS = 3  # Side by side.


def slice_figure(
  tables: Mapping[str, Rows], metric: str, *, title: str = ""
) -> mpl_figure.Figure:
  """A metric by slice with 95% intervals, and the share of targets below.

  Args:
    tables: up to four models by name: rows of a `SliceTable` over the same
      slices.
    metric: such as "recall@20".
    title: of the figure.

  Returns:
    The figure.

  Raises:
    ConfigError: no table has that metric, or there are too many.
    DataError: the tables have other slices than the first.
  """
  _check(tables, metric)
  first = next(iter(tables.values()))
  place = np.arange(len(first))
  width = min(max(4.9, 0.9 * len(first) + 1.4), _MAX_WIDTH)
  figure = new_figure(width, 4.6)
  above, below = figure.subplots(
    2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)}
  )  # fmt: skip
  step = 0.16
  for number, (colour, (name, rows)) in enumerate(zip(SERIES, tables.items())):
    shift = step * (number - (len(tables) - 1) / 2)
    _draw_series(above, place + shift, rows, metric, colour, name)
  targets = np.array([row["num_targets"] for row in first], np.float64)
  below.bar(place, targets / max(targets.sum(), 1), 0.7, color=PALE)
  what = {"users": "the user", "items": "the item"}[first[0]["of"]]
  by = str(first[0].get("by", "training events")).replace("_", " ")
  named = first[0].get("low", 0) is None
  names = [str(row["slice"]) for row in first]
  names = names if named else [name.replace("-", "–") for name in names]
  below.set_xticks(place, names)
  if max(map(len, names)) > _LONG_NAME:
    below.tick_params(axis="x", labelrotation=40)
    for text in below.get_xticklabels():
      text.set(ha="right", rotation_mode="anchor")
  below.set(xlabel=f"{by} of {what}", ylabel="share of\ntargets")
  above.set_ylabel(f"{labels.metric_label(metric)} (bars: 95% interval)")
  above.set_ylim(bottom=0)
  if len(tables) > 1:
    above.legend(frameon=False, fontsize=8.5, labelcolor=INK)
  for axes in (above, below):
    style_axes(axes, grid="y")
  title_axes(above, title or f"Slices of {first[0]['of']}")
  return figure


def _draw_series(
  axes: mpl_axes.Axes,
  place: np.ndarray,
  rows: Rows,
  metric: str,
  colour: str,
  name: str,
) -> None:
  """Points with intervals; a slice without targets has none."""
  known = [number for number, row in enumerate(rows) if row["metrics"]]
  values = np.array([rows[i]["metrics"][metric] for i in known], np.float64)
  ends = np.array([rows[i]["intervals"][metric] for i in known], np.float64)
  axes.errorbar(
    place[known],
    values,
    np.maximum(0.0, np.abs(ends.T - values)),
    color=colour,
    elinewidth=1.6,
    capsize=2.5,
    linewidth=0,
    marker="o",
    markersize=5.5,
    label=name,
  )


def _check(tables: Mapping[str, Rows], metric: str) -> None:
  if not 1 <= len(tables) <= len(SERIES):
    raise ConfigError(
      f"a plot of slices shows 1 to {len(SERIES)} models; got {len(tables)}."
    )
  first = next(iter(tables.values()))
  names = [(row["of"], row["slice"]) for row in first]
  for model, rows in tables.items():
    found = [(row["of"], row["slice"]) for row in rows]
    if found != names:
      raise DataError(
        f"the slices of {model!r} are {[name for _, name in found]}, those of"
        f" the first model {[name for _, name in names]}; give all the same."
      )
    known = {key for row in rows for key in row["metrics"]}
    if metric not in known:
      raise ConfigError(
        f"{model!r} has no metric {metric!r}; it has"
        f" {', '.join(sorted(known)) or 'none'}.{nearest(metric, known)}"
      )


def overview_figure(
  slices: Mapping[str, Rows], metric: str, *, title: str = ""
) -> mpl_figure.Figure:
  """A metric in all slices of one run, a panel for each of what they slice.

  Args:
    slices: rows of `SliceTable` by what they slice, such as "items/genres".
    metric: such as "recall@20".
    title: of the figure.

  Returns:
    The figure; a slice without targets, or without the metric, has no point.
  """
  columns = min(_PANELS, len(slices))
  lines = -(-len(slices) // columns)
  groups = [list(slices.values())[i::columns] for i in range(columns)]
  heights = [
    max(len(group[line]) for group in groups if line < len(group))
    for line in range(lines)
  ]
  figure = new_figure(4.2 * columns + 0.6, 0.24 * sum(heights) + 0.9 * lines)
  panels = figure.subplots(
    lines,
    columns,
    squeeze=False,
    gridspec_kw={"height_ratios": [height + 2 for height in heights]},
  )
  for number, axes in enumerate(panels.flat):
    if number >= len(slices):
      axes.set_axis_off()
      continue
    _draw_panel(axes, list(slices.values())[number], metric)
    if number + columns >= len(slices):  # There is none below.
      axes.set_xlabel(f"{labels.metric_label(metric)} (bars: 95% interval)")
  if title:
    figure.suptitle(title, color=INK, size=12, x=0.01, ha="left")
  return figure


def _draw_panel(axes: mpl_axes.Axes, rows: Rows, metric: str) -> None:
  """One slice a line, from the top, with its number of targets."""
  known = [i for i, row in enumerate(rows) if metric in row["metrics"]]
  values = np.array([rows[i]["metrics"][metric] for i in known], np.float64)
  ends = [rows[i]["intervals"].get(metric) for i in known]
  ends = np.array([e or (v, v) for e, v in zip(ends, values)], np.float64)
  axes.errorbar(
    values,
    np.array(known, np.float64),
    xerr=np.abs(ends.reshape(-1, 2).T - values),
    color=SERIES[0],
    elinewidth=1.6,
    capsize=2.5,
    linewidth=0,
    marker="o",
    markersize=4.5,
  )
  names = [f"{row['slice']}  ({row['num_targets']:,})" for row in rows]
  axes.set_yticks(range(len(rows)), names)
  axes.set_ylim(len(rows) - 0.4, -0.6)
  axes.set_xlim(left=0)
  style_axes(axes, grid="x")
  of = str(rows[0]["of"])
  by = str(rows[0].get("by", "training events")).replace("_", " ")
  title_axes(axes, f"{of.capitalize()} by {by}")


def plot_overview(
  slices: Mapping[str, Rows],
  metric: str,
  path: files.PathLike,
  *,
  title: str = "",
) -> None:
  """Writes `overview_figure` as PNG."""
  content = png_bytes(overview_figure(slices, metric, title=title))
  files.write_atomically(path, lambda file: file.write(content))


def plot_slices(
  tables: Mapping[str, Rows],
  metric: str,
  path: files.PathLike,
  *,
  title: str = "",
) -> None:
  """Writes `slice_figure` as PNG."""
  content = png_bytes(slice_figure(tables, metric, title=title))
  files.write_atomically(path, lambda file: file.write(content))
