"""What a sweep found, as pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import colors, ticker
from matplotlib import figure as mpl_figure

from recjax.metrics.names import better
from recjax.runs import labels
from recjax.runs.plot_style import (
  BLUE,
  INK,
  PALE,
  SERIES,
  SOFT,
  new_figure,
  style_axes,
  title_axes,
)
from recjax.sweeps.marginals import Interaction, Marginal
from recjax.sweeps.results import Combined, SweepResults
from recjax.sweeps.sweep_tables import (
  by_validation,
  interval_of_seeds,
  is_search,
)

_MOST_CURVES = 8
_COLOURS = (*SERIES, "#b7791f", "#2c7a7b", "#97266d", "#4a5568")


def means_figure(results: SweepResults) -> mpl_figure.Figure:
  """The metric of every combination, with all seeds and their interval."""
  rows = results.rows
  figure = new_figure(8.4, 1.4 + 0.36 * len(rows))
  axes = figure.subplots()
  for place, row in enumerate(rows):
    values = row.numbers(results.metric)
    ends = interval_of_seeds(values)
    if ends is not None:
      axes.plot(ends, [place, place], color=PALE, linewidth=5,
        solid_capstyle="round")  # fmt: skip
    axes.plot(values, np.full(len(values), place), ".", color=SOFT, alpha=0.6)
    axes.plot(values.mean(), place, "o", color=BLUE, markersize=7)
  if results.base is not None and not is_search(results):
    axes.axvline(
      results.base.mean(results.metric), color=SOFT, linewidth=1,
      linestyle=(0, (4, 3)), zorder=0,
    )  # fmt: skip
  axes.set_yticks(range(len(rows)), [row.name for row in rows])
  axes.set_ylim(len(rows) - 0.4, -0.6)
  label = labels.metric_label(results.metric)
  axes.set_xlabel(f"test {label} (points: seeds; bars: 95% over seeds)")
  style_axes(axes, grid="x")
  title_axes(axes, f"{label} on {results.first['dataset']}")
  return figure


def curves_figure(results: SweepResults, metric: str) -> mpl_figure.Figure:
  """Validation along training: the mean over seeds, and its deviation.

  Args:
    results: of the sweep.
    metric: of validation.
  """
  figure = new_figure(8.4, 4.2)
  axes = figure.subplots()
  ordered = by_validation(results, metric)
  for colour, row in zip(_COLOURS, ordered[:_MOST_CURVES]):
    steps, mean, deviation = _curve(row, f"validation/{metric}")
    axes.plot(steps, mean, color=colour, linewidth=1.6, label=row.name)
    axes.fill_between(
      steps, mean - deviation, mean + deviation, color=colour, alpha=0.15,
      linewidth=0,
    )  # fmt: skip
  axes.set_xlabel("optimizer steps")
  axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
  axes.set_ylabel(f"validation {labels.metric_label(metric)}")
  axes.legend(
    frameon=False, fontsize=8.5, labelcolor=SOFT, loc="upper left",
    bbox_to_anchor=(1.0, 1.0),
  )  # fmt: skip
  style_axes(axes, grid="both")
  cut = len(results.rows) > _MOST_CURVES
  best = f", the best {_MOST_CURVES}" if cut else ""
  title_axes(axes, f"Validation, mean ± deviation over seeds{best}")
  return figure


def _curve(
  row: Combined, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Steps, mean and deviation over seeds, as far as all of them came."""
  at_step: dict[int, list[float]] = {}
  for run in row.runs.values():
    for line in run.metrics:
      if line.get(name) is not None:
        at_step.setdefault(line["step"], []).append(line[name])
  steps = sorted(
    step for step, found in at_step.items() if len(found) == len(row.runs)
  )
  mean = [np.mean(at_step[step]) for step in steps]
  deviation = [
    np.std(at_step[step], ddof=1) if len(row.runs) > 1 else 0.0
    for step in steps
  ]
  return np.array(steps), np.array(mean), np.array(deviation)


def cost_figure(results: SweepResults) -> mpl_figure.Figure:
  """Quality against the time of a run, and who is not beaten in both.

  What has no value is left out; one has one.
  """
  figure = new_figure(8.0, 4.2)
  axes = figure.subplots()
  rows = [r for r in results.rows if np.isfinite(r.mean(results.metric))]
  secs = np.array([row.wall_secs() for row in rows])
  values = np.array([row.mean(results.metric) for row in rows])
  sign = better(results.metric) or 1
  order = np.argsort(secs, kind="stable")
  best = np.maximum.accumulate(sign * values[order])
  front = order[np.r_[True, np.diff(best) > 0]]
  axes.step(
    secs[front] / 60, values[front], where="post", color=PALE, linewidth=2
  )
  axes.plot(secs / 60, values, "o", color=BLUE, markersize=7)
  for row, x, y in zip(rows, secs / 60, values):
    axes.annotate(
      row.name, (x, y), (5, 6), fontsize=8.5, color=INK,
      textcoords="offset points",
    )  # fmt: skip
  axes.margins(x=0.15, y=0.12)
  axes.set_xlabel("minutes a run (mean over seeds)")
  axes.set_ylabel(f"test {labels.metric_label(results.metric)}")
  style_axes(axes, grid="both")
  title_axes(axes, "Cost and quality")
  return figure


def marginals_figure(
  results: SweepResults, found: Sequence[Marginal]
) -> mpl_figure.Figure:
  """What each level adds, with its 95% interval."""
  shown = [each for each in found if each.effect is not None]
  figure = new_figure(7.6, 1.3 + 0.36 * max(len(shown), 1))
  axes = figure.subplots()
  for place, each in enumerate(shown):
    assert each.effect is not None
    axes.plot(each.effect.interval, [place, place], color=PALE, linewidth=5,
      solid_capstyle="round")  # fmt: skip
    axes.plot(each.effect.difference, place, "o", color=BLUE, markersize=7)
  axes.axvline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
  names = [f"{each.factor}: {each.level}" for each in shown]
  axes.set_yticks(range(len(shown)), names)
  axes.set_ylim(len(shown) - 0.4, -0.6)
  label = labels.metric_label(results.metric)
  axes.set_xlabel(f"change of {label} against the first level (95%)")
  style_axes(axes, grid="x")
  title_axes(axes, "Marginal effects")
  return figure


def interactions_figure(
  found: Sequence[Interaction], metric: str
) -> mpl_figure.Figure:
  """A heat map of the means for each pair of factors."""
  figure = new_figure(4.6 * len(found), 3.8)
  panels = figure.subplots(1, len(found), squeeze=False)[0]
  for axes, each in zip(panels, found):
    _heat_map(axes, each)
  label = labels.metric_label(metric)
  figure.suptitle(
    f"test {label}, averaged over the other factors", color=INK, size=11,
    x=0.01, ha="left",
  )  # fmt: skip
  return figure


def _heat_map(axes: mpl_axes.Axes, each: Interaction) -> None:
  shades = colors.LinearSegmentedColormap.from_list("blue", ["#f5f7fa", BLUE])
  axes.imshow(each.means, cmap=shades, aspect="auto")
  middle = (each.means.min() + each.means.max()) / 2
  for (row, column), value in np.ndenumerate(each.means):
    axes.text(
      column, row, labels.number(float(value)), ha="center", va="center",
      fontsize=9, color="white" if value > middle else INK,
    )  # fmt: skip
  axes.set_yticks(range(len(each.levels[0])), each.levels[0])
  axes.set_xticks(range(len(each.levels[1])), each.levels[1])
  axes.set_ylabel(each.factors[0])
  axes.set_xlabel(each.factors[1])
  axes.tick_params(colors=SOFT, labelsize=9, length=0)
  for side in axes.spines.values():
    side.set_visible(False)


def parallel_figure(
  results: SweepResults,
  values: Mapping[str, float],
  label: str,
  *,
  lower: bool,
) -> mpl_figure.Figure:
  """Parallel coordinates: a line a combination, an axis a factor.

  Args:
    results: of the sweep.
    values: by combination; the last axis, and the colour. What is NaN is
      left out; one is a number at least.
    label: of these.
    lower: whether lower values are better, and stand on top.
  """
  rows = [row for row in results.rows if np.isfinite(values[row.name])]
  factors = list(results.rows[0].levels)
  columns = [
    _coordinates([row.levels[name] for row in rows]) for name in factors
  ]
  last = np.array([values[row.name] for row in rows])
  spread = np.ptp(last) or 1.0
  heights = (last - last.min()) / spread
  if lower:
    heights = 1 - heights
  figure = new_figure(2.2 * (len(factors) + 1) + 1, 4.0)
  axes = figure.subplots()
  shades = colors.LinearSegmentedColormap.from_list("blue", ["#d5dee8", BLUE])
  lines = np.stack([*(places for places, _ in columns), heights], axis=1)
  for line, height in sorted(zip(lines, heights), key=lambda pair: pair[1]):
    axes.plot(range(len(line)), line, color=shades(height), linewidth=1.6)
  ends = [(0.0, last.min()), (1.0, last.max())]
  if lower:
    ends = [(0.0, last.max()), (1.0, last.min())]
  columns.append((last, [(at, labels.number(float(x))) for at, x in ends]))
  for place, (_, ticks) in enumerate(columns):
    for at, text in ticks:
      axes.annotate(text, (place, at), (4, 0), fontsize=8, color=INK,
        textcoords="offset points", va="center")  # fmt: skip
  axes.set_xticks(range(len(factors) + 1), [*factors, label])
  axes.set_yticks([])
  axes.set_xlim(-0.1, len(factors) + 0.6)
  style_axes(axes, grid="x")
  axes.spines["left"].set_visible(False)
  title_axes(axes, f"All combinations by {label}")
  return figure


def _coordinates(
  texts: Sequence[str],
) -> tuple[np.ndarray, list[tuple[float, str]]]:
  """Heights in [0, 1], and what stands beside the axis.

  Numbers stand by their size, on a scale of logarithms where they span a
  factor of 30; names in the order of their appearance.
  """
  names = list(dict.fromkeys(texts))
  try:
    numbers = np.array([float(text) for text in texts])
  except ValueError:
    numbers = np.array([float(names.index(text)) for text in texts])
    ticks = [(float(place), name) for place, name in enumerate(names)]
  else:
    if numbers.min() > 0 and numbers.max() / numbers.min() > 30:
      numbers = np.log(numbers)
    ends = sorted(zip(numbers, texts))
    ticks = [ends[0], ends[-1]]
  spread = np.ptp(numbers) or 1.0
  place = lambda number: float((number - numbers.min()) / spread)
  return (numbers - numbers.min()) / spread, [(place(n), t) for n, t in ticks]
