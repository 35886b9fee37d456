"""Plots of predicted probabilities: reliability diagram and ROC curve."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from recjax import files
from recjax.metrics.calibration import ReliabilityCurve, calibration_error
from recjax.metrics.roc import RocCurve
from recjax.runs import labels
from recjax.runs.plot_style import (
  BLUE,
  INK,
  PALE,
  SERIES,
  SOFT,
  new_figure,
  png_bytes,
  style_axes,
  title_axes,
)

_Z = 1.959964  # Of a normal 95% interval.
_DASHES = (0, (4, 3))


class _Bins(NamedTuple):
  """The bins of a `ReliabilityCurve` that are not empty."""

  low: np.ndarray
  high: np.ndarray
  weight: np.ndarray
  prediction: np.ndarray
  label: np.ndarray
  num_effective: np.ndarray


def wilson_interval(
  rate: Float[np.ndarray, " k"], num: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
  r"""The 95% intervals of rates q observed on n examples each.

  (q + z^2 / 2n +- z sqrt(q (1 - q) / n + z^2 / 4 n^2)) / (1 + z^2 / n)

  Args:
    rate: q.
    num: n, above 0.

  Returns:
    The lower and the upper ends.

  References:
    Edwin Wilson. Probable Inference, the Law of Succession, and Statistical
    Inference. JASA 1927. https://doi.org/10.1080/01621459.1927.10502953
  """
  part = _Z**2 / num
  half = _Z * np.sqrt(rate * (1 - rate) / num + part / (4 * num))
  middle = rate + part / 2
  return (middle - half) / (1 + part), (middle + half) / (1 + part)


def reliability_figure(
  curve: ReliabilityCurve, *, title: str = ""
) -> mpl_figure.Figure:
  """Observed against predicted rates, above a histogram of the predictions.

  Bars are 95% intervals of the observed rates. Empty bins are left out, and
  both axes end where the data do.

  Args:
    curve: of a test set.
    title: of the figure.
  """
  used = np.asarray(curve.weight) > 0
  bins = _Bins(*(np.asarray(part, np.float64)[used] for part in curve))
  figure = new_figure(4.9, 5.6)
  above, below = figure.subplots(
    2, 1, sharex=True, gridspec_kw={"height_ratios": (3.2, 1)}
  )
  low, high = wilson_interval(bins.label, bins.num_effective)
  ends = [bins.prediction.max(initial=0.0), high.max(initial=0.0)]
  end = min(1.0, 1.05 * max(ends)) or 1.0
  above.plot(
    [0, end], [0, end], color=SOFT, linewidth=1.2, linestyle=_DASHES,
    label="calibrated",
  )  # fmt: skip
  above.errorbar(
    bins.prediction,
    bins.label,
    np.maximum(0.0, [bins.label - low, high - bins.label]),
    color=BLUE,
    ecolor=PALE,
    elinewidth=2,
    linewidth=1.6,
    marker="o",
    markersize=4.5,
    label=f"ECE {labels.number(float(calibration_error(curve)))}",
  )
  above.set(ylim=(0, end), ylabel="observed rate (bars: 95% interval)")
  above.legend(frameon=False, fontsize=8.5, labelcolor=SOFT, loc="upper left")
  _draw_histogram(below, bins, end)
  below.set(xlim=(0, end), xlabel="predicted probability")
  for axes in (above, below):
    style_axes(axes, grid="both")
  title_axes(above, title or "Reliability")
  return figure


def _draw_histogram(axes: mpl_axes.Axes, bins: _Bins, end: float) -> None:
  # A bin of equal mass may hold one prediction only, and have no width.
  width = np.maximum(bins.high - bins.low, end / 300)
  share = bins.weight / max(bins.weight.sum(), 1e-30)
  axes.bar(
    bins.low, share, width, align="edge", color=PALE,
    edgecolor="white", linewidth=0.8,
  )  # fmt: skip
  axes.set_ylabel("share in bin")


def roc_figure(
  curves: Mapping[str, RocCurve],
  *,
  aucs: Mapping[str, float] | None = None,
  title: str = "",
) -> mpl_figure.Figure:
  """ROC curves of up to four models.

  Args:
    curves: by name; one without points (a single class) is said to be
      undefined.
    aucs: the area under each, for the legend.
    title: of the figure.
  """
  figure = new_figure(4.9, 4.9)
  axes = figure.subplots()
  axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1.2, linestyle=_DASHES,
    label="chance (AUC .5)")  # fmt: skip
  for colour, (name, curve) in zip(SERIES, curves.items()):
    text = name
    if not len(curve.false_positive_rate):
      text += ": undefined, one class only"
    elif aucs and name in aucs:
      text += f" (AUC {labels.number(aucs[name])})"
    axes.plot(
      curve.false_positive_rate,
      curve.true_positive_rate,
      color=colour,
      linewidth=1.8,
      label=text,
    )
  axes.set(
    xlim=(-0.01, 1),
    ylim=(0, 1.01),
    xlabel="false positive rate",
    ylabel="true positive rate",
    aspect="equal",
  )
  axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower right")
  style_axes(axes, grid="both")
  title_axes(axes, title or "ROC curve")
  return figure


def plot_reliability(
  curve: ReliabilityCurve, path: files.PathLike, *, title: str = ""
) -> None:
  """Writes `reliability_figure` as PNG."""
  content = png_bytes(reliability_figure(curve, title=title))
  files.write_atomically(path, lambda file: file.write(content))


def plot_roc(
  curves: Mapping[str, RocCurve],
  path: files.PathLike,
  *,
  aucs: Mapping[str, float] | None = None,
  title: str = "",
) -> None:
  """Writes `roc_figure` as PNG."""
  content = png_bytes(roc_figure(curves, aucs=aucs, title=title))
  files.write_atomically(path, lambda file: file.write(content))
