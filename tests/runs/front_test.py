"""What files and figures say of a front."""

import csv

import numpy as np
import pytest

from recjax.runs import front


@pytest.fixture
def two():
  return {
    "combine": "product",
    "tasks": ["click", "buy"],
    "judged": ["click", "click*buy"],
    "weights": [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]],
    "validation": [[0.6, 0.8], [0.55, 0.7], [0.7, 0.65]],
    "test": [[0.61, 0.79], [0.5, 0.7], [0.72, None]],
    "on_front": [True, False, True],
  }


def test_the_table_holds_the_front_alone(two):
  lines = front.front_markdown(two)
  assert lines[0].startswith("Pareto front of the served score (product), of 3")
  assert (
    "| weight of click | weight of buy | validation AUC click |" in lines[2]
  )
  assert lines[4:] == [
    "| 0.00 | 1.00 | 0.6000 | 0.8000 | 0.6100 | 0.7900 |",
    "| 1.00 | 0.00 | 0.7000 | 0.6500 | 0.7200 | – |",
  ]


def test_an_empty_front_says_why(two):
  one_class = [[0.6, None], [0.55, float("nan")], [0.7, None]]
  empty = {"on_front": [False] * 3, "validation": one_class}
  (line,) = front.front_markdown(two | empty)
  assert "It is empty: the AUC of click*buy is undefined on them" in line


def test_the_file_holds_all_points(two, tmp_path):
  path = tmp_path / "pareto.csv"
  front.save_front_csv(two, path)
  with open(path, newline="") as file:
    rows = list(csv.DictReader(file))
  assert [row["on_front"] for row in rows] == ["1", "0", "1"]
  assert [float(row["weight/buy"]) for row in rows] == [1.0, 0.5, 0.0]
  values = [row["test/auc/click*buy"] for row in rows]
  assert values == ["0.79", "0.7", ""]


def test_two_tasks_have_one_panel_with_a_line(two, tmp_path):
  figure = front.front_figure(two)
  (axes,) = figure.axes
  assert axes.get_xlabel() == "test AUC of click"
  assert axes.get_ylabel() == "test AUC of click*buy"
  (line,) = axes.lines
  np.testing.assert_allclose(line.get_xdata(), [0.61, 0.72])
  assert line.get_linestyle() == "-"
  assert len(axes.collections[0].get_offsets()) == 3
  front.plot_front(two, tmp_path / "pareto.png")
  content = (tmp_path / "pareto.png").read_bytes()
  assert content.startswith(b"\x89PNG")


def test_more_tasks_have_a_panel_a_pair():
  rng = np.random.default_rng(0)
  many = {
    "combine": "sum",
    "tasks": list("abcd"),
    "judged": list("abcd"),
    "weights": rng.random((5, 4)).tolist(),
    "validation": rng.random((5, 4)).tolist(),
    "test": rng.random((5, 4)).tolist(),
    "on_front": [True] * 5,
  }
  panels = [a for a in front.front_figure(many).axes if a.get_visible()]
  pairs = [(a.get_xlabel()[-1], a.get_ylabel()[-1]) for a in panels]
  assert pairs == [*map(tuple, ("ab", "ac", "ad", "bc", "bd", "cd"))]
  assert all(a.lines[0].get_linestyle() == "None" for a in panels)
