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


def test_values_of_a_feature():
  rows = rows_of([0.1, 0.2, 0.3])
  for row, name in zip(rows, ("Drama", "Sci-Fi", "Documentary")):
    row |= {"slice": name, "by": "main_genre", "low": None}
  _, below = slice_plot.slice_figure({"A": rows}, "recall@20").axes
  texts = below.get_xticklabels()
  assert [text.get_text() for text in texts] == [row["slice"] for row in rows]
  assert {text.get_rotation() for text in texts} == {40}
  assert below.get_xlabel() == "main genre of the item"


def test_overview_of_a_run():
  slices = {
    "users": rows_of([None, 0.2, 0.3], of="users"),
    "items": rows_of([0.1, 0.2, 0.4]),
    "users/gender": rows_of([0.15, 0.25, 0.2], of="users"),
    "items/genres": rows_of([0.1, 0.3, None]),
  }
  for row in slices["items/genres"]:
    row["by"] = "genres"
  slices["users/gender"][0]["intervals"] = {}
  figure = slice_plot.overview_figure(slices, "recall@20", title="Run")
  panels = [axes for axes in figure.axes if axes.axison]
  assert [axes.get_title(loc="left") for axes in panels] == [
    "Users by training events",
    "Items by training events",
    "Users by training events",
    "Items by genres",
  ]
  (points,) = panels[0].containers
  np.testing.assert_allclose(points.lines[0].get_xdata(), [0.2, 0.3])
  np.testing.assert_allclose(points.lines[0].get_ydata(), [1, 2])
  bars = [line[:, 0] for line in points.lines[2][0].get_segments()]
  np.testing.assert_allclose(bars, [[0.18, 0.23], [0.28, 0.33]])
  (whole,) = panels[2].containers
  segments = [line[:, 0] for line in whole.lines[2][0].get_segments()]
  np.testing.assert_allclose(segments[0], [0.15, 0.15])
  names = [text.get_text() for text in panels[1].get_yticklabels()]
  assert names == ["0  (30)", "1-5  (20)", "6+  (10)"]
  # The first slice stands above.
  bottom, top = panels[1].get_ylim()
  assert bottom > top
  labelled = [bool(axes.get_xlabel()) for axes in panels]
  assert labelled == [False, True, True, True]


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
