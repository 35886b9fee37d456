"""What is told of an A/B test: printed, as Markdown, JSON and a picture."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import rich.console
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from recjax import files
from recjax.evaluation.ab_looks import OverTime
from recjax.evaluation.ab_test import ArmEffect
from recjax.evaluation.sample_ratio import SampleRatio
from recjax.runs import labels, plot_style, tables
from recjax.runs.record import plain
from recjax.runs.tables import Cell
from recjax.runs.terminal_table import terminal_table

_WIDTH = 120  # Of a page; a terminal that is narrower gets a smaller table.
_LEFT_OUT = ("p", "sees", "CUPED")
_MOST_CURVES = 6
_ROUGH = 0.3  # A difference that is more skewed is not normal enough.


@dataclasses.dataclass(frozen=True)
class AbReport:
  """An A/B test that was analysed.

  Attributes:
    path: of the table of units.
    arms: their names, the control first.
    counts: units of each arm.
    ratio: whether these are as planned.
    effects: of each metric and arm.
    seen: what was known at each look, of each metric and arm; may be empty.
    alpha: intervals are of the level 1 - alpha.
  """

  path: str
  arms: tuple[str, ...]
  counts: tuple[int, ...]
  ratio: SampleRatio
  effects: tuple[ArmEffect, ...]
  seen: tuple[OverTime, ...]
  alpha: float

  def print(self, out: rich.console.Console | None = None) -> None:
    """Prints the table and the sentences around it."""
    out = out or rich.console.Console()
    if not out.is_terminal:
      out.width = max(out.width, _WIDTH)
    is_narrow = out.width < _WIDTH
    shown = terminal_table(
      self._header,
      self._rows,
      left_out=_LEFT_OUT if is_narrow else (),
      notes_below=is_narrow,
      wrap_numbers=True,
    )
    say = lambda text: out.print(
      text, markup=False, highlight=False, soft_wrap=True
    )
    for line in self._lead:
      say(line)
    out.print(shown)
    for line in self._closing:
      say(line)

  def write(self, path: files.PathLike) -> None:
    """Writes a file: Markdown, JSON or PNG, as its ending says."""
    path = pathlib.Path(path)
    if path.suffix == ".json":
      files.write_json_atomically(path, plain(self.to_dict()))
    elif path.suffix == ".png":
      png = plot_style.png_bytes(self.figure())
      files.write_atomically(path, lambda file: file.write(png))
    else:
      lines = ["# A/B test", "", *(f"- {line}" for line in self._lead), ""]
      lines += tables.markdown_rows(self._header, self._rows)
      lines += ["", *(f"- {line}" for line in self._closing)]
      files.write_text_atomically(path, "\n".join(lines) + "\n")

  def to_dict(self) -> dict[str, Any]:
    """All of it, as JSON knows it."""
    return {
      "table": self.path,
      "alpha": self.alpha,
      "arms": dict(zip(self.arms, self.counts)),
      "sample_ratio": dataclasses.asdict(self.ratio),
      "effects": [
        dataclasses.asdict(each) | {"arm": self.arms[each.arm]}
        for each in self.effects
      ],
      "over_time": [
        {
          "metric": each.metric,
          "arm": self.arms[each.arm],
          "num_units": each.num_units,
          "stop": each.stop,
          **dataclasses.asdict(each.looks),
        }
        for each in self.seen
      ],
    }

  def figure(self) -> mpl_figure.Figure:
    """Differences with their intervals, and those at each look."""
    num_curves = min(len(self.seen), _MOST_CURVES)
    heights = [0.7 + 0.36 * len(self.effects)] + [2.2] * num_curves
    figure = plot_style.new_figure(7.0, sum(heights))
    axes = figure.subplots(
      len(heights), 1, squeeze=False, height_ratios=heights
    )[:, 0]
    self._draw_effects(axes[0])
    for axis, each in zip(axes[1:], self.seen):
      self._draw_looks(axis, each)
    plot_style.as_written(figure)
    return figure

  def _draw_effects(self, axis: mpl_axes.Axes) -> None:
    """Of each metric and arm, in smallest differences that are seen."""
    names = []
    for place, each in enumerate(self.effects):
      low, high = (end / each.smallest for end in each.interval)
      colour = plot_style.BLUE if each.p_holm < self.alpha else plot_style.SOFT
      axis.plot([low, high], [place, place], color=colour, linewidth=2)
      axis.plot(each.difference / each.smallest, place, "o", color=colour)
      names.append(f"{each.metric}: {self.arms[each.arm]}")
    axis.axvline(0, color=plot_style.INK, linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(
      f"difference from {self.arms[0]}, in units of the smallest one that is"
      " seen with a power of 80%"
    )
    plot_style.style_axes(axis, grid="x")

  def _draw_looks(self, axis: mpl_axes.Axes, each: OverTime) -> None:
    looks = each.looks
    axis.fill_between(
      each.num_units, looks.low, looks.high, color=plot_style.PALE, alpha=0.6
    )
    axis.plot(each.num_units, looks.difference, color=plot_style.BLUE)
    axis.axhline(0, color=plot_style.INK, linewidth=1)
    if each.stop is not None:
      axis.axvline(
        each.num_units[each.stop], color=plot_style.INK, linestyle=(0, (4, 3))
      )
    axis.set_xlabel("units of both arms")
    axis.set_ylabel("difference")
    axis.ticklabel_format(axis="x", style="plain")
    plot_style.title_axes(
      axis, f"{each.metric}: {self.arms[each.arm]}, valid at all looks"
    )
    plot_style.style_axes(axis, grid="both")

  @property
  def _lead(self) -> list[str]:
    counts = ", ".join(
      f"{name} {num:,}" for name, num in zip(self.arms, self.counts)
    )
    p_value = f"p {labels.p_value(self.ratio.p_value)}"
    sizes = f"Sizes of the arms are as planned ({p_value})."
    if self.ratio.is_mismatch:
      planned = ", ".join(f"{each:,.0f}" for each in self.ratio.expected)
      sizes = (
        f"SAMPLE RATIO MISMATCH ({p_value}): {planned} were planned. Units are"
        " lost or dealt in another way than planned; believe no number below."
      )
    return [f"Units: {counts}; the control is {self.arms[0]}.", sizes]

  @property
  def _header(self) -> tuple[str, ...]:
    header = ("metric", "arm", "control", "treatment", "difference", "lift")
    header += ("p", "p (Holm)", "sees")
    return (*header, "CUPED") if self._is_adjusted else header

  @property
  def _is_adjusted(self) -> bool:
    return any(x.variance_reduction is not None for x in self.effects)

  @property
  def _rows(self) -> list[tuple[Cell, ...]]:
    return [self._row(each) for each in self.effects]

  def _row(self, each: ArmEffect) -> tuple[Cell, ...]:
    is_found = each.p_holm < self.alpha
    form = _format(each.smallest)
    fixed, signed = (lambda x: f"{x:{form}}"), (lambda x: f"{x:+{form}}")
    number = lambda text, note="", best=False: Cell(text, note, True, best)
    cells = [
      Cell(each.metric),
      Cell(self.arms[each.arm]),
      number(fixed(each.control)),
      number(fixed(each.treatment)),
      number(signed(each.difference), _interval(signed, each.interval)),
      number(_percent(each.lift), _interval(_percent, each.lift_interval)),
      number(labels.p_value(each.p_value)),
      number(labels.p_value(each.p_holm), "", is_found),
      number(fixed(each.smallest)),
    ]
    if self._is_adjusted:
      cells.append(number(f"-{each.variance_reduction or 0:.0%}"))
    return tuple(cells)

  @property
  def _closing(self) -> list[str]:
    lines = [
      f"Intervals are of {100 * (1 - self.alpha):g}% and not corrected: Welch's"
      " of means, the delta method's of ratios and lifts. p (Holm) is corrected"
      " over all rows. They hold for one look, at the planned end. Sees: the"
      " difference that these units find with a power of 80%, uncorrected."
    ]
    if self._is_adjusted:
      lines.append(
        "CUPED: the share of the variance that was known before the test; means"
        " are less what it explains."
      )
    for each in self.effects:
      if abs(each.skewness) > _ROUGH:
        lines.append(
          f"{each.metric}, {self.arms[each.arm]}: the p-value is rough, for the"
          " values are too skewed for so few units in arms of unequal size."
          " False alarms are likely; more units help."
        )
    if self.seen:
      lines.append("What follows holds at all looks, of each row by itself:")
    for each in self.seen:
      what = f"{each.metric}, {self.arms[each.arm]}"
      p_value = f"p {labels.p_value(each.looks.p_value[-1])}"
      if each.stop is None:
        lines.append(f"{what}: no look is clear so far ({p_value}).")
        continue
      lines.append(
        f"{what}: clear since {each.num_units[each.stop]:,} of"
        f" {each.num_units[-1]:,} units ({p_value})."
      )
    return lines


def _format(smallest: float) -> str:
  """With two digits of the smallest difference that is seen."""
  digits = max(1 - math.floor(math.log10(smallest)), 0)
  return f".{digits}f" if digits < 9 else ".4g"


def _percent(number: float) -> str:
  return "–" if math.isnan(number) else f"{number:+.2%}"


def _interval(text: Callable[[float], str], ends: Sequence[float]) -> str:
  if any(map(math.isnan, ends)):
    return ""
  return f"[{text(ends[0])}, {text(ends[1])}]"
