"""What the plots draw, read back from the figures."""

import numpy as np

from recjax.runs import task_plots


def texts_of(axis):
  return [text.get_text() for text in axis.texts]


def test_a_panel_for_each_mixture():
  gates = {
    "gate": np.array([[0.9, 0.1], [0.25, 0.75]]),
    "one": np.array([[0.5, 0.3, 0.2]]),
  }
  figure = task_plots.utilization_figure(gates, ["click", "buy"])
  first, second = figure.axes
  assert texts_of(first) == ["0.90", "0.10", "0.25", "0.75"]
  rows = [label.get_text() for label in first.get_yticklabels()]
  assert rows == ["click", "buy"]
  assert [label.get_text() for label in second.get_yticklabels()] == [""]
  assert second.get_title(loc="left").endswith("one")


def test_cosines_of_all_pairs(tmp_path):
  cosines = np.array([[1.0, -0.4], [-0.4, 1.0]])
  (axis,) = task_plots.conflict_figure(cosines, ["a", "b"]).axes
  assert texts_of(axis) == ["1.00", "-0.40", "-0.40", "1.00"]
  np.testing.assert_array_equal(axis.images[0].get_array(), cosines)
  task_plots.plot_conflict(cosines, ["a", "b"], tmp_path / "conflict.png")
  gates = {"gate": np.eye(2)}
  task_plots.plot_utilization(gates, ["a", "b"], tmp_path / "experts.png")
  for name in ("conflict.png", "experts.png"):
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
