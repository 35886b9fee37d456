"""Plots of a data set: how popular items are, and how long histories."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib import axes as mpl_axes
from matplotlib import figure, ticker

from recjax import files
from recjax.data.interactions import Interactions

_INK, _ACCENT, _SOFT = "#24313f", "#1f6f8b", "#d98c3f"
_NOTE: Any = {
  "color": _INK,
  "fontsize": 9,
  "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
}
_MAX_BINS = 45
_WIDTH_INCHES, _HEIGHT_INCHES, _DPI = 9.0, 3.6, 150


def save_popularity_plot(
  interactions: Interactions, path: files.PathLike
) -> pathlib.Path:
  """Draws rows per item by rank (log-log), and the share of the top items.

  Args:
    interactions: the data.
    path: of the PNG; it appears whole or not at all.
  """
  counts = np.bincount(
    interactions.item_id, minlength=interactions.num_items + 1
  )[1:]
  counts = np.sort(counts)[::-1]
  page = _page(f"{interactions.name}: popularity of items")
  left, right = page.subplots(1, 2)
  _draw_ranks(left, counts[counts > 0])
  _draw_shares(right, counts)
  return _save(page, path)


def save_history_length_plot(
  interactions: Interactions, path: files.PathLike
) -> pathlib.Path:
  """Draws how many users have histories of each length.

  Args:
    interactions: the data.
    path: of the PNG; it appears whole or not at all.
  """
  lengths = np.diff(interactions.user_offsets)
  lengths = lengths[lengths > 0]
  page = _page(f"{interactions.name}: length of histories")
  left, right = page.subplots(1, 2)
  _draw_lengths(left, lengths)
  _draw_reach(right, lengths)
  return _save(page, path)


def _page(title: str) -> figure.Figure:
  page = figure.Figure(
    figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained"
  )
  page.suptitle(title, color=_INK, fontsize=12, x=0.01, ha="left")
  return page


def _save(page: figure.Figure, path: files.PathLike) -> pathlib.Path:
  for axes in page.axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#8a96a3")
    axes.tick_params(colors=_INK, labelsize=9)
    axes.grid(color="#e6eaee", linewidth=0.8)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
      label.set(color=_INK, fontsize=10)
  files.write_atomically(
    path,
    lambda file: page.savefig(
      file, format="png", dpi=_DPI, metadata={"Software": None}
    ),
  )
  return pathlib.Path(path)


def _draw_ranks(axes: mpl_axes.Axes, counts: Int[np.ndarray, " item"]) -> None:
  ranks = np.arange(1, len(counts) + 1)
  axes.plot(ranks, counts, color=_ACCENT, linewidth=2)
  axes.fill_between(ranks, counts, 0.8, color=_ACCENT, alpha=0.12, linewidth=0)
  axes.set(
    xscale="log",
    yscale="log",
    xlabel="rank of the item",
    ylabel="interactions",
    ylim=(0.8, counts[0] * 1.6),
  )
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(ticker.FuncFormatter(_count))
    axis.set_minor_formatter(ticker.NullFormatter())


def _draw_shares(axes: mpl_axes.Axes, counts: Int[np.ndarray, " item"]) -> None:
  of_items = np.arange(len(counts) + 1) / len(counts)
  of_rows = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
  axes.plot(of_items, of_rows, color=_ACCENT, linewidth=2)
  axes.plot([0, 1], [0, 1], color="#8a96a3", linewidth=1, linestyle=(0, (4, 3)))
  for place in (0.1, 0.5):
    share = float(np.interp(place, of_items, of_rows))
    axes.plot([place], [share], "o", color=_SOFT, markersize=6, zorder=3)
    axes.annotate(
      f"top {place:.0%} of items:\n{share:.0%} of interactions",
      (place, share),
      xytext=(8, -24),
      textcoords="offset points",
      **_NOTE,
    )
  axes.set(
    xlabel="items, the most popular first",
    ylabel="share of interactions",
    xlim=(0, 1),
    ylim=(0, 1.03),
  )
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter(ticker.PercentFormatter(1.0))


def _draw_lengths(
  axes: mpl_axes.Axes, lengths: Int[np.ndarray, " user"]
) -> None:
  # Lengths are whole numbers: every bin holds equally many of them.
  low, high = int(lengths.min()), int(np.quantile(lengths, 0.98))
  width = max(1, -(-(high + 1 - low) // _MAX_BINS))
  edges = np.arange(low, high + 1 + width, width) - 0.5
  axes.hist(
    lengths, edges.tolist(), color=_ACCENT, edgecolor="white", linewidth=0.5
  )
  longer = float((lengths > edges[-1]).mean())
  if longer:
    axes.annotate(
      f"{longer:.1%} are longer,\nup to {lengths.max():,}",
      (1.0, 0.0),
      xycoords="axes fraction",
      xytext=(-4, 24),
      textcoords="offset points",
      ha="right",
      **_NOTE,
    )
  median = float(np.median(lengths))
  axes.axvline(median, color=_SOFT, linewidth=2)
  axes.annotate(
    f"median {median:g}",
    (median, 1.0),
    xycoords=("data", "axes fraction"),
    xytext=(6, -4),
    textcoords="offset points",
    va="top",
    **_NOTE,
  )
  axes.set(xlabel="interactions of a user", ylabel="users")
  axes.xaxis.set_major_formatter(ticker.FuncFormatter(_count))
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  axes.yaxis.set_major_formatter(ticker.FuncFormatter(_count))


def _draw_reach(axes: mpl_axes.Axes, lengths: Int[np.ndarray, " user"]) -> None:
  """How much a model sees that is cut at so many of the last events."""
  ordered = np.sort(lengths)
  cuts = np.unique(np.round(np.geomspace(1, ordered[-1], 200)).astype(int))
  whole_users = np.searchsorted(ordered, cuts, side="right") / len(ordered)
  below = np.concatenate([[0], np.cumsum(ordered)])
  fitting = np.searchsorted(ordered, cuts, side="right")
  seen = below[fitting] + (len(ordered) - fitting) * cuts
  axes.plot(
    cuts, seen / below[-1], color=_ACCENT, linewidth=2, label="interactions"
  )
  axes.plot(cuts, whole_users, color=_SOFT, linewidth=2, label="users, whole")
  axes.set(
    xscale="log",
    xlabel="length kept (the last so many)",
    ylabel="share kept",
    ylim=(0, 1.03),
  )
  axes.xaxis.set_major_formatter(ticker.FuncFormatter(_count))
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
  axes.legend(frameon=False, fontsize=9, loc="lower right", labelcolor=_INK)


def _count(value: float, _: object = None) -> str:
  """1500 -> 1.5k; nothing between whole numbers."""
  if value < 0 or value != round(value):
    return ""
  for size, unit in ((1e6, "M"), (1e3, "k")):
    if value >= size:
      return f"{value / size:g}{unit}"
  return f"{value:g}"
