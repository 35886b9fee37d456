"""A plot of how much each position is looked at, against the first."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from recjax import files
from recjax.runs.plot_style import (
  BLUE,
  INK,
  new_figure,
  png_bytes,
  style_axes,
  title_axes,
)

_Z = 1.959964  # Of a normal 95% interval.


@dataclasses.dataclass(frozen=True, eq=False)
class FoundCurve:
  """How much each position is looked at, against the first.

  Attributes:
    values: of position 1, 2, ...
    stderr: of each; None where they are not known.
    truth: planted; None where it is not known.
    method: how the values were found.
  """

  values: Float[np.ndarray, " len"]
  stderr: Float[np.ndarray, " len"] | None
  truth: Float[np.ndarray, " len"] | None
  method: str

  def to_dict(self) -> dict[str, Any]:
    """All of it, and the mean of |values - truth|, as JSON knows them."""
    listed = lambda x: None if x is None else x.tolist()
    error = None
    if self.truth is not None:
      error = float(np.mean(np.abs(self.values - self.truth)))
    return {
      "method": self.method,
      "values": listed(self.values),
      "stderr": listed(self.stderr),
      "truth": listed(self.truth),
      "mean_absolute_error": error,
    }


def propensity_figure(found: FoundCurve) -> mpl_figure.Figure:
  """The curve, with 95% intervals and the planted one where they are known."""
  figure = new_figure(5.2, 3.4)
  axis = figure.subplots()
  positions = np.arange(1, len(found.values) + 1)
  if found.truth is not None:
    axis.plot(
      positions, found.truth, color=INK, linestyle=(0, (4, 3)), label="planted"
    )
  axis.errorbar(
    positions,
    found.values,
    yerr=None if found.stderr is None else _Z * found.stderr,
    color=BLUE,
    marker="o",
    markersize=4,
    capsize=2.5,
    label=found.method,
  )
  axis.set_ylim(bottom=0)
  axis.set_xlabel("position")
  axis.set_ylabel("against position 1")
  axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  axis.legend(frameon=False, fontsize=9)
  style_axes(axis, grid="y")
  title_axes(axis, "how much a position is looked at")
  return figure


def plot_propensities(found: FoundCurve, path: files.PathLike) -> None:
  """Writes `propensity_figure` as PNG."""
  content = png_bytes(propensity_figure(found))
  files.write_atomically(path, lambda file: file.write(content))
