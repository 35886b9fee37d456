"""Plots of a run and of several: figures without any global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from recjax import files
from recjax.runs import collection, labels, plot_style
from recjax.runs.plot_style import (
  BLUE,
  FLOOR,
  INK,
  PALE,
  SERIES,
  SOFT,
  new_figure,
  png_bytes,
  style_axes,
  title_axes,
)

VALIDATION = "validation/"
PIXELS_PER_POINT = plot_style.PIXELS_PER_POINT


def _series(
  metrics: Sequence[Mapping[str, Any]], key: str
) -> tuple[np.ndarray, np.ndarray]:
  found = [(m["step"], m[key]) for m in metrics if m.get(key) is not None]
  steps, values = zip(*found) if found else ((), ())
  return np.asarray(steps, np.float64), np.asarray(values, np.float64)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
  """The mean of the last `width` values at each place, fewer at the start."""
  sums = np.concatenate([[0.0], np.cumsum(values)])
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(0, ends - width)
  return (sums[ends] - sums[starts]) / (ends - starts)


def _loss_panel(
  axes: mpl_axes.Axes, metrics: Sequence[Mapping[str, Any]]
) -> None:
  steps, loss = _series(metrics, "loss")
  width = len(loss) // 40
  if width > 1:
    axes.plot(steps, loss, color=PALE, linewidth=0.8, label="each logged step")
    smooth = _running_mean(loss, width)
    label = f"mean of the last {width}"
    axes.plot(steps, smooth, color=BLUE, linewidth=1.8, label=label)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=SOFT)
  else:
    axes.plot(steps, loss, color=BLUE, linewidth=1.6, marker=".", markersize=4)
  axes.set_ylabel("loss (mean over targets, nats)")
  title_axes(axes, "Training loss")


def validation_keys(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
  """Up to four validation metrics to plot; at cut-off 10 if there are more."""
  keys = {key for line in metrics for key in line if key.startswith(VALIDATION)}
  chosen = sorted(
    keys, key=lambda key: labels.metric_order(key.removeprefix(VALIDATION))
  )
  if len(chosen) > len(SERIES):
    at_10 = [key for key in chosen if key.endswith("@10") or "@" not in key]
    chosen = at_10 or chosen
  return chosen[: len(SERIES)]


def _validation_panel(
  axes: mpl_axes.Axes,
  metrics: Sequence[Mapping[str, Any]],
  keys: Sequence[str],
  best_step: int | None,
) -> None:
  for colour, key in zip(SERIES, keys):
    steps, values = _series(metrics, key)
    label = labels.metric_label(key.removeprefix(VALIDATION))
    axes.plot(
      steps, values, color=colour, linewidth=1.6, marker=".", label=label
    )
    at_best = values[steps == best_step]
    if best_step is not None and at_best.size:
      axes.plot(
        best_step, at_best[-1], "o", color=colour, markersize=8, mec="white"
      )
  if best_step is not None:
    axes.axvline(
      best_step,
      color=SOFT,
      linewidth=1,
      linestyle=(0, (4, 3)),
      zorder=1,
      label=f"best: step {best_step:,}",
    )
  axes.set_ylim(bottom=0)
  axes.set_ylabel("validation metric (mean over users, 0 to 1)")
  axes.legend(frameon=False, fontsize=8.5, labelcolor=SOFT)
  title_axes(axes, "Validation")


def training_figure(
  metrics: Sequence[Mapping[str, Any]],
  *,
  best_step: int | None = None,
  title: str = "",
) -> mpl_figure.Figure:
  """The loss and the validation metrics against the steps.

  Args:
    metrics: lines of metrics.jsonl: `step`, `loss` and "validation/NAME".
    best_step: marked.
    title: of the figure.
  """
  keys = validation_keys(metrics)
  figure = new_figure(10.8 if keys else 5.2, 3.7)
  figure.get_layout_engine().set(wspace=0.05)  # pyright: ignore
  panels = figure.subplots(1, 2 if keys else 1, squeeze=False)[0]
  _loss_panel(panels[0], metrics)
  if keys:
    _validation_panel(panels[1], metrics, keys, best_step)
  for axes in panels:
    axes.set_xlabel("optimizer steps")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    style_axes(axes, grid="both")
  if title:
    figure.suptitle(title, color=INK, size=12, x=0.01, ha="left")
  return figure


def _draw_values(
  axes: mpl_axes.Axes, result: Mapping[str, Any], names: Sequence[str]
) -> None:
  values = np.array([result["metrics"][name] for name in names], np.float64)
  intervals = [
    result["intervals"].get(name) or (v, v) for name, v in zip(names, values)
  ]
  low, high = np.asarray(intervals, np.float64).T
  spread = np.abs(np.stack([values - low, high - values]))
  places = np.arange(len(names))
  axes.bar(places - 0.2, values, 0.38, color=BLUE, label="this run")
  axes.errorbar(
    places - 0.2, values, spread, fmt="none", ecolor=INK, elinewidth=1.3,
    capsize=4, label="95% interval",
  )  # fmt: skip
  for place, value, top in zip(places, values, np.maximum(high, values)):
    axes.annotate(
      labels.number(value), (place - 0.2, top), (0, 4), fontsize=8.5,
      textcoords="offset points", ha="center", color=INK,
    )  # fmt: skip


def test_figure(result: Mapping[str, Any]) -> mpl_figure.Figure:
  """The test metrics with their intervals beside the popularity floor.

  Args:
    result: content of result.json; `bayes_optimal` is drawn if it is there.
  """
  names = sorted(result["metrics"], key=labels.metric_order)
  known = [name for name in names if result["metrics"][name] is not None]
  # Those of lists have other units: the tables tell them.
  names = [name for name in known if not labels.is_of_lists(name)] or known
  figure = new_figure(max(5.2, 1.6 + 1.2 * len(names)), 3.9)
  axes = figure.subplots()
  _draw_values(axes, result, names)
  floor = result.get("floor") or {}
  optimal = result.get("bayes_optimal") or {}
  for what, colour, label in (
    (floor, FLOOR, labels.floor_label(result)),
    (optimal, INK, "Bayes optimum"),
  ):
    known = [
      (i, what[n]) for i, n in enumerate(names) if what.get(n) is not None
    ]
    if not known:
      continue
    places, heights = np.asarray(known, np.float64).T
    if what is floor:
      axes.bar(places + 0.2, heights, 0.38, color=colour, label=label)
    else:
      axes.hlines(
        heights, places - 0.44, places + 0.44, color=colour, label=label,
        linestyle=(0, (3, 2)), linewidth=1.4,
      )  # fmt: skip
  axes.set_xticks(range(len(names)), [labels.metric_label(n) for n in names])
  axes.set_xlim(-0.6, len(names) - 0.4)
  axes.set_ylabel("test metric (mean over users, 0 to 1)")
  axes.margins(y=0.15)
  style_axes(axes, grid="y")
  title_axes(axes, f"{result['name']}: test on {result['dataset']}")
  axes.legend(
    frameon=False, fontsize=8.5, labelcolor=SOFT, loc="upper left",
    bbox_to_anchor=(1.0, 1.0),
  )  # fmt: skip
  return figure


def comparison_figure(
  groups: Sequence[collection.Group], metric: str
) -> mpl_figure.Figure:
  """One metric of several runs with 95% intervals, on one data set.

  Args:
    groups: of one protocol and one data set.
    metric: name of a test metric that all of them have.
  """
  figure = new_figure(8.4, 1.5 + 0.42 * len(groups))
  axes = figure.subplots()
  for place, group in enumerate(groups):
    estimate = group.estimate(metric)
    if estimate is None:
      continue
    low = estimate.mean if estimate.low is None else estimate.low
    high = estimate.mean if estimate.high is None else estimate.high
    axes.plot([low, high], [place, place], color=PALE, linewidth=5,
      solid_capstyle="round")  # fmt: skip
    axes.plot(estimate.mean, place, "o", color=BLUE, markersize=7)
    axes.annotate(
      labels.number(estimate.mean), (high, place), (8, 0), fontsize=8.5,
      textcoords="offset points", va="center", color=INK,
    )  # fmt: skip
  floors = {g.mean("floor", metric) for g in groups} - {None}
  for index, floor in enumerate(sorted(floors)):  # pyright: ignore
    axes.axvline(
      floor, color=SOFT, linewidth=1.2, linestyle=(0, (4, 3)),
      label=None if index else labels.floor_label(groups[0].first),
    )  # fmt: skip
  if floors:
    axes.legend(
      frameon=False, fontsize=8.5, labelcolor=SOFT, loc="lower right",
      bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2,
    )  # fmt: skip
  names = [
    group.first["name"]
    + (f"  ({len(group.seeds)} seeds)" if len(group.seeds) > 1 else "")
    for group in groups
  ]
  axes.set_yticks(range(len(groups)), names)
  axes.set_ylim(len(groups) - 0.4, -0.6)
  axes.margins(x=0.12)
  axes.set_xlim(left=0)
  label = labels.metric_label(metric)
  axes.set_xlabel(f"test {label} (mean over users, bars: 95% interval)")
  style_axes(axes, grid="x")
  title_axes(axes, f"{label} on {groups[0].first['dataset']}")
  return figure


def plot_training(
  metrics: Sequence[Mapping[str, Any]],
  path: files.PathLike,
  *,
  best_step: int | None = None,
  title: str = "",
) -> None:
  """Writes `training_figure` as PNG."""
  figure = training_figure(metrics, best_step=best_step, title=title)
  content = png_bytes(figure)
  files.write_atomically(path, lambda file: file.write(content))


def plot_test(result: Mapping[str, Any], path: files.PathLike) -> None:
  """Writes `test_figure` as PNG."""
  content = png_bytes(test_figure(result))
  files.write_atomically(path, lambda file: file.write(content))
