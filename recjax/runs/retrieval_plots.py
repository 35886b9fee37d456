"""Plots of retrieval: recall against speed, and the space of the items."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from recjax import files
from recjax.errors import DataError
from recjax.runs.plot_style import (
  BLUE,
  FLOOR,
  INK,
  LINE,
  PALE,
  SERIES,
  SOFT,
  new_figure,
  png_bytes,
  style_axes,
  title_axes,
)

_DASHES = (0, (4, 3))
# The first four are those of all plots; colour-blind readers tell them apart.
GROUPS = (*SERIES, "#c9a227", "#4a9fb5", "#a13d63")
_MAX_LABEL = 28


# --- Recall against speed ----------------------------------------------------


def recall_qps_figure(
  tried: Sequence[tuple[float, float]],
  frontier: Sequence[tuple[float, float]],
  *,
  exact_qps: float,
  chosen: tuple[float, float] | None = None,
  wanted_recall: float | None = None,
  kind: str = "scann",
  k: int = 100,
  title: str = "",
) -> mpl_figure.Figure:
  """Queries a second against recall of exact search, one dot a setting.

  Args:
    tried: (recall, queries a second) of all settings.
    frontier: those that no other beats in both, by recall.
    exact_qps: queries a second of exact search, drawn as a line.
    chosen: the setting that was taken.
    wanted_recall: what was asked for.
    kind: of the index.
    k: items asked for.
    title: of the figure.
  """
  figure = new_figure(6.4, 4.2)
  axes = figure.subplots()
  if tried:
    axes.scatter(*np.transpose(tried), s=18, color=PALE, label="setting tried")
  if frontier:
    recall, qps = np.transpose(sorted(frontier))
    axes.plot(
      recall, qps, color=BLUE, linewidth=1.6, marker="o", markersize=5,
      label=f"{kind}: the fastest at its recall",
    )  # fmt: skip
  if chosen is not None:
    axes.plot(
      *chosen, "*", color=SERIES[1], markersize=14, mec="white",
      label=f"chosen: {chosen[1]:,.0f} at {chosen[0]:.3f}",
    )  # fmt: skip
  axes.axhline(
    exact_qps, color=INK, linewidth=1.2, linestyle=_DASHES,
    label=f"exact search: {exact_qps:,.0f}",
  )  # fmt: skip
  if wanted_recall is not None:
    axes.axvline(
      wanted_recall, color=SOFT, linewidth=1, linestyle=_DASHES,
      label=f"wanted recall: {wanted_recall:g}",
    )  # fmt: skip
  _style_rates(axes)
  axes.set_xlim(right=1.005)
  axes.set_xlabel(f"recall@{k} of exact search (mean over queries)")
  axes.set_ylabel("queries a second (log)")
  style_axes(axes, grid="both")
  title_axes(axes, title or "Recall against speed")
  axes.legend(
    frameon=False, fontsize=8.5, labelcolor=SOFT, loc="upper left",
    bbox_to_anchor=(1.0, 1.0),
  )  # fmt: skip
  return figure


def _style_rates(axes: mpl_axes.Axes) -> None:
  axes.set_yscale("log")
  # Within a decade 1, 2 and 5, or there may be a single number.
  axes.yaxis.set_major_locator(ticker.LogLocator(10, (1, 2, 5)))
  axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
  axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def plot_recall_qps(path: files.PathLike, *args: Any, **options: Any) -> None:
  """Writes `recall_qps_figure` as PNG; takes its arguments."""
  content = png_bytes(recall_qps_figure(*args, **options))
  files.write_atomically(path, lambda file: file.write(content))


# --- The space of the items --------------------------------------------------


def principal_plane(
  vectors: Float[np.ndarray, "item dim"],
) -> tuple[Float[np.ndarray, "item 2"], tuple[float, float]]:
  r"""Where vectors lie on their first two principal axes.

  X - mean = U S V^T; the coordinates are (U S)[:, :2], and an axis explains
  S_i^2 / \sum_j S_j^2 of the variance. The sign of an axis is such that its
  component of the largest magnitude, the first of equal ones, is positive.

  Args:
    vectors: one row an item.

  Returns:
    Coordinates, and the shares of the variance that the two axes explain.

  Raises:
    DataError: there are no vectors, or they are not finite.
  """
  if not vectors.size or not np.isfinite(vectors).all():
    raise DataError(
      "a projection needs at least one vector, and finite ones; got the shape"
      f" {list(vectors.shape)} with"
      f" {int((~np.isfinite(vectors)).sum())} values that are not finite."
    )
  rows = np.asarray(vectors, np.float64)
  rows = rows - rows.mean(0)
  # The axes are eigenvectors of a small matrix, however many items there are.
  _, square, axes = np.linalg.svd(rows.T @ rows)
  axes = axes[:2]
  largest = np.abs(axes).argmax(1)
  axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
  plane = np.zeros((len(rows), 2))
  plane[:, : len(axes)] = rows @ axes.T
  shares = np.zeros(2)
  shares[: len(axes)] = square[:2] / max(square.sum(), 1e-300)
  return plane, (float(shares[0]), float(shares[1]))


def item_space_figure(
  vectors: Float[np.ndarray, "item dim"],
  colour_by: Shaped[np.ndarray, " item"],
  counts: Int[np.ndarray, " item"],
  names: Sequence[str],
  *,
  colour_name: str,
  num_labels: int = 8,
  title: str = "",
) -> mpl_figure.Figure:
  """The items on the plane in which their vectors differ most.

  Args:
    vectors: one row an item.
    colour_by: numbers give a colour bar; texts give one colour to each of the
      most frequent values and grey to the others.
    counts: training events of each item; the most popular ones are labelled.
    names: of the items.
    colour_name: what `colour_by` is.
    num_labels: how many are labelled.
    title: of the figure.
  """
  plane, shares = principal_plane(vectors)
  figure = new_figure(7.6, 5.6)
  axes = figure.subplots()
  size = float(np.clip(3e4 / len(plane), 2, 22))
  # Popular items are drawn last, for they are fewest.
  order = np.argsort(counts, kind="stable")
  if colour_by.dtype.kind in "OUS":
    _draw_groups(axes, plane[order], colour_by[order], size, colour_name)
  else:
    dots = axes.scatter(
      *plane[order].T, c=colour_by[order], s=size, cmap="viridis", linewidths=0
    )
    bar = figure.colorbar(dots, ax=axes, pad=0.01)
    bar.set_label(colour_name, color=SOFT, size=9.5)
    bar.ax.tick_params(colors=SOFT, labelsize=9)
    bar.outline.set_visible(False)  # pyright: ignore
  texts = [_short(name) for name in names]
  for row, is_left in _choose_labels(plane, order[::-1], texts, num_labels):
    _draw_label(axes, plane[row], texts[row], is_left)
  axes.set_xlabel(f"first principal axis ({shares[0]:.0%} of the variance)")
  axes.set_ylabel(f"second principal axis ({shares[1]:.0%})")
  style_axes(axes, grid="both")
  title_axes(axes, title or "The space of the items")
  return figure


def _choose_labels(
  plane: Float[np.ndarray, "item 2"],
  order: Int[np.ndarray, " item"],
  texts: Sequence[str],
  num: int,
) -> list[tuple[int, bool]]:
  """The first rows of an order whose labels cover no other label.

  Returns:
    Rows, and whether the label stands left of its dot, so that it stays
    inside.
  """
  low, high = plane.min(0), plane.max(0)
  unit = (plane - low) / np.where(high > low, high - low, 1)
  chosen, boxes = [], np.zeros((0, 4))
  for row in map(int, order[: 20 * num]):
    if len(chosen) == num:
      break
    x, y = unit[row]
    is_left = bool(x > 0.5)
    # In parts of the axes: letters of 8 points on a panel of six inches.
    width = 0.02 + 0.0115 * len(texts[row])
    box = np.array([x - width if is_left else x, y, 0, y + 0.05])
    box[2] = box[0] + width
    apart = (boxes[:, 0] > box[2]) | (boxes[:, 2] < box[0])
    apart |= (boxes[:, 1] > box[3]) | (boxes[:, 3] < box[1])
    if apart.all():
      chosen.append((row, is_left))
      boxes = np.vstack([boxes, box])
  return chosen


def _draw_label(
  axes: mpl_axes.Axes, place: Float[np.ndarray, " 2"], text: str, is_left: bool
) -> None:
  x, y = map(float, place)
  axes.plot(x, y, "o", mfc="none", mec=INK, markersize=6, markeredgewidth=1.1)
  axes.annotate(
    text, (x, y), (-5 if is_left else 5, 5), textcoords="offset points",
    fontsize=8, color=INK, ha="right" if is_left else "left",
    bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": LINE,
          "lw": 0.5, "alpha": 0.85},
  )  # fmt: skip


def _draw_groups(
  axes: mpl_axes.Axes,
  plane: Float[np.ndarray, "item 2"],
  groups: Shaped[np.ndarray, " item"],
  size: float,
  name: str,
) -> None:
  texts = groups.astype(str)
  values, counts = np.unique(texts, return_counts=True)
  shown = values[np.lexsort((values, -counts))][: len(GROUPS)]
  rest = ~np.isin(texts, shown)
  for colour, value in zip(GROUPS, shown):
    of = texts == value
    axes.scatter(
      *plane[of].T, s=size, color=colour, linewidths=0, label=_short(value)
    )
  if rest.any():
    axes.scatter(
      *plane[rest].T, s=size, color=FLOOR, linewidths=0, zorder=0.9,
      label=f"{len(values) - len(shown)} others",
    )  # fmt: skip
  legend = axes.legend(
    frameon=False, fontsize=8.5, labelcolor=SOFT, loc="upper left",
    bbox_to_anchor=(1.0, 1.0), title=name, alignment="left",
  )  # fmt: skip
  legend.get_title().set(color=SOFT, size=9)
  for handle in legend.legend_handles:
    handle.set_sizes([28])  # pyright: ignore


def _short(text: str) -> str:
  """At most so many letters; "$" would start mathematics."""
  text = str(text).replace("$", r"\$")
  return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"


def plot_item_space(path: files.PathLike, *args: Any, **options: Any) -> None:
  """Writes `item_space_figure` as PNG; takes its arguments."""
  content = png_bytes(item_space_figure(*args, **options))
  files.write_atomically(path, lambda file: file.write(content))
