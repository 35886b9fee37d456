"""What the plot draws, read back from the figure."""

import numpy as np
import pytest

from recjax.errors import ConfigError, DataError
from recjax.runs import slice_plot


def rows_of(values, of="items"):
  return [
    {
      "of": of,
      "slice": label,
      "num_targets": 30 - 10 * number,
      "metrics": {} if value is None else {"recall@20": value},
      "intervals": {}
      if value is None
      else {"recall@20": [value - 0.02, value + 0.03]},
    }
    for number, (label, value) in enumerate(zip(("0", "1-5", "6+"), values))
  ]


def test_points_and_intervals():
  tables = {"A": rows_of([0.1, 0.2, None]), "B": rows_of([0.3, 0.4, 0.5])}
  figure = slice_plot.slice_figure(tables, "recall@20", title="Cold")
  above, below = figure.axes
  one, two = above.containers
  np.testing.assert_allclose(one.lines[0].get_ydata(), [0.1, 0.2])
  np.testing.assert_allclose(two.lines[0].get_ydata(), [0.3, 0.4, 0.5])
  # The models stand beside each other, around the middle of the slice.
  middle = one.lines[0].get_xdata() + two.lines[0].get_xdata()[:2]
  np.testing.assert_allclose(middle / 2, [0, 1])
  assert (one.lines[0].get_xdata() < two.lines[0].get_xdata()[:2]).all()
  bars = [line[:, 1] for line in two.lines[2][0].get_segments()]
  np.testing.assert_allclose(bars, [[0.28, 0.33], [0.38, 0.43], [0.48, 0.53]])
  texts = [text.get_text() for text in above.get_legend().get_texts()]
  assert texts == ["A", "B"]
  np.testing.assert_allclose(
    [bar.get_height() for bar in below.patches], [1 / 2, 1 / 3, 1 / 6]
  )
  names = [label.get_text() for label in below.get_xticklabels()]
  assert names == ["0", "1–5", "6+"]
  assert above.get_ylabel().startswith("Recall@20")
  assert below.get_xlabel() == "training events of the item"
  assert above.get_title(loc="left") == "Cold" and above.get_ylim()[0] == 0


def test_one_model_needs_no_legend():
  rows = rows_of([0.1, 0.2, 0.3], of="users")
  above, below = slice_plot.slice_figure({"A": rows}, "recall@20").axes
  assert above.get_legend() is None
  assert below.get_xlabel() == "training events of the user"


def test_what_can_not_be_drawn():
  rows = rows_of([0.1, 0.2, 0.3])
  with pytest.raises(ConfigError, match="Did you mean 'recall@20'"):
    slice_plot.slice_figure({"A": rows}, "recal@20")
  with pytest.raises(ConfigError, match="it has none"):
    slice_plot.slice_figure({"A": rows_of([None] * 3)}, "recall@20")
  with pytest.raises(ConfigError, match="1 to 4 models; got 5"):
    slice_plot.slice_figure({str(i): rows for i in range(5)}, "recall@20")
  with pytest.raises(DataError, match="slices of 'B' are"):
    slice_plot.slice_figure({"A": rows, "B": rows[:2]}, "recall@20")


def test_file(tmp_path):
  path = tmp_path / "plots" / "slices.png"
  slice_plot.plot_slices({"A": rows_of([0.1, 0.2, 0.3])}, "recall@20", path)
  assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
