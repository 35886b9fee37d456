"""The look that the plots of a run share: colours, sizes, axes."""

import io

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import text as mpl_text

INK, SOFT, LINE = "#1f2933", "#52606d", "#d9e0e7"
BLUE, PALE, FLOOR = "#2b6cb0", "#a9c6e3", "#b8c0c8"
SERIES = (BLUE, "#c2622d", "#3f8361", "#7d5ba6")
# A pixel of a screen is 1/96 inch; twice as many stay sharp when enlarged.
PIXELS_PER_POINT = 2
_DPI = 96 * PIXELS_PER_POINT


def new_figure(width: float, height: float) -> mpl_figure.Figure:
  """An empty figure that no global state knows of; sizes in inches."""
  return mpl_figure.Figure((width, height), dpi=_DPI, layout="constrained")


def style_axes(axes: mpl_axes.Axes, *, grid: str) -> None:
  """Light lines and soft labels; `grid` is "x", "y" or "both"."""
  axes.grid(axis=grid, color=LINE, linewidth=0.8)  # pyright: ignore
  axes.set_axisbelow(True)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  for side in ("left", "bottom"):
    axes.spines[side].set_color("#9aa5b1")
  axes.tick_params(colors=SOFT, labelsize=9)
  axes.xaxis.label.set(color=SOFT, size=9.5)
  axes.yaxis.label.set(color=SOFT, size=9.5)


def title_axes(axes: mpl_axes.Axes, text: str) -> None:
  """A title at the left."""
  axes.set_title(text, loc="left", color=INK, size=11, weight="bold")


def as_written(figure: mpl_figure.Figure) -> None:
  """Texts stay as they are: a "$" in a name starts no formula."""
  for text in figure.findobj(mpl_text.Text):
    text.set_parse_math(False)


def png_bytes(figure: mpl_figure.Figure) -> bytes:
  """The figure as PNG."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", facecolor="white")
  return buffer.getvalue()
