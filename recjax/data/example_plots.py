"""A plot of labelled examples: labels, distinct values, what is not known."""

import pathlib

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure, ticker

from recjax import files
from recjax.data.describe_examples import ExampleSummary

_INK, _ACCENT, _SOFT, _PALE = "#24313f", "#1f6f8b", "#d98c3f", "#c3d9e2"
_LINE = "#8a96a3"
_MAX_COLUMNS = 80
_WIDTH_INCHES, _DPI = 11.0, 150
_MIN_HEIGHT_INCHES, _ROW_INCHES = 3.2, 0.24


def save_example_plot(
  summary: ExampleSummary, path: files.PathLike
) -> pathlib.Path:
  """Draws rows and labels of each part, and distinct values of each column.

  Beside the distinct values (on a log axis) stands the share of training rows
  without a value, and that of held-out rows whose value is new. Of very many
  columns the first 80 are drawn.

  Args:
    summary: of the examples.
    path: of the PNG; it appears whole or not at all.
  """
  shown = summary.columns[:_MAX_COLUMNS]
  height = max(_MIN_HEIGHT_INCHES, 1.2 + _ROW_INCHES * len(shown))
  page = figure.Figure((_WIDTH_INCHES, height), layout="constrained")
  title = f"{summary.name}: labels and columns"
  if len(shown) < len(summary.columns):
    title += f" (the first {len(shown)} of {len(summary.columns):,})"
  page.suptitle(title, color=_INK, fontsize=12, x=0.01, ha="left")
  labels, distinct, shares = page.subplots(1, 3, width_ratios=(1, 1.3, 1.3))
  _draw_labels(labels, summary)
  names = [column.name for column in shown]
  _draw_distinct(distinct, names, [column.num_distinct for column in shown])
  _draw_shares(
    shares,
    names,
    {
      "missing in train": [column.missing_share for column in shown],
      "new in validation": [c.unseen["validation"] or 0.0 for c in shown],
      "new in test": [column.unseen["test"] or 0.0 for column in shown],
    },
  )
  for axes in page.axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=_INK, fontsize=9)
    axes.yaxis.label.set(color=_INK, fontsize=9)
  files.write_atomically(
    path,
    lambda file: page.savefig(
      file, format="png", dpi=_DPI, metadata={"Software": None}
    ),
  )
  return pathlib.Path(path)


def _draw_labels(axes: mpl_axes.Axes, summary: ExampleSummary) -> None:
  """Rows of each part, with the positive ones in another colour."""
  parts = summary.parts
  rows = [part.num_rows for part in parts]
  places = np.arange(len(parts))
  axes.bar(places, rows, color=_PALE, width=0.7)
  if summary.has_binary_labels:
    positive = [part.num_rows * (part.label_mean or 0.0) for part in parts]
    axes.bar(places, positive, color=_ACCENT, width=0.7)
  for place, part in zip(places, parts):
    if part.label_mean is None or part.label_stddev is None:
      text = "no row"
    elif summary.has_binary_labels:
      text = f"{part.label_mean:.1%}\npositive"
    else:
      text = f"mean {part.label_mean:.3g}\nstddev {part.label_stddev:.3g}"
    axes.annotate(
      text,
      (place, part.num_rows),
      xytext=(0, 3),
      textcoords="offset points",
      ha="center",
      color=_INK,
      fontsize=8,
    )
  axes.set_xticks(places, [part.part for part in parts])
  axes.set(ylabel="rows", ylim=(0, max(rows) * 1.2), xlim=(-0.7, 2.7))
  axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
  axes.grid(axis="y", color="#e6eaee", linewidth=0.8)


def _draw_distinct(
  axes: mpl_axes.Axes, names: list[str], counts: list[int]
) -> None:
  places = np.arange(len(names))
  axes.barh(places, np.maximum(counts, 0.7), color=_ACCENT, height=0.7)
  for place, count in zip(places, counts):
    axes.annotate(
      f"{count:,}",
      (max(count, 0.7), float(place)),
      xytext=(3, 0),
      textcoords="offset points",
      va="center",
      color=_INK,
      fontsize=8,
    )
  highest = max([1, *counts])
  # Room for the count beside the longest bar.
  axes.set(xscale="log", xlabel="distinct values in train")
  axes.set_xlim(0.7, (highest / 0.7) ** 1.4)
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  _name_rows(axes, names)


def _draw_shares(
  axes: mpl_axes.Axes, names: list[str], shares: dict[str, list[float]]
) -> None:
  places = np.arange(len(names))
  height = 0.8 / len(shares)
  for number, ((label, values), color) in enumerate(
    zip(shares.items(), (_LINE, _SOFT, _ACCENT))
  ):
    offset = (number - (len(shares) - 1) / 2) * height
    axes.barh(places + offset, values, height, color=color, label=label)
  largest = max(max(values, default=0.0) for values in shares.values())
  axes.set(xlabel="share of rows", xlim=(0, min(1.0, max(0.01, largest * 1.1))))
  axes.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
  _name_rows(axes, names)
  axes.legend(
    frameon=False,
    fontsize=8,
    labelcolor=_INK,
    loc="lower right",
    bbox_to_anchor=(1.0, 1.0),
    ncols=len(shares),
    borderaxespad=0.0,
    columnspacing=1.0,
    handlelength=1.0,
  )


def _name_rows(axes: mpl_axes.Axes, names: list[str]) -> None:
  """The first column at the top; a name in dollars is no formula."""
  axes.set_yticks(np.arange(len(names)), [n.replace("$", r"\$") for n in names])
  axes.set_ylim(len(names) - 0.4, -0.6)
  axes.grid(axis="x", color="#e6eaee", linewidth=0.8)
