"""Cells in a terminal: what is left out, where notes stand, what is bold."""

import io

import pytest
import rich.console

from recjax.runs.tables import Cell
from recjax.runs.terminal_table import terminal_table

HEADER = ("name", "p", "value")
ROWS = [
  [Cell("[a]"), Cell("0.1", is_number=True), Cell("1.5", "[1, 2]", True, True)],
  [Cell("b"), Cell("0.25", is_number=True), Cell("10.5", "", True)],
]


def lines(**options):
  out = io.StringIO()
  console = rich.console.Console(file=out, width=60, color_system=None)
  console.print(terminal_table(HEADER, ROWS, **options))
  return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def test_numbers_are_right_and_notes_beside_them():
  assert lines(title="Runs")[0] == "Runs"
  header, _, first, second = lines()
  assert header.split() == ["name", "p", "value"]
  assert first.split() == ["[a]", "0.1", "1.5", "[1,", "2]"]
  assert first.index("0.1") == second.index("0.25") + 1
  assert len(first) == len(second) == len(header)


def test_what_is_left_out_and_notes_below():
  header, _, *rows = lines(left_out=("p",), notes_below=True)
  assert header.split() == ["name", "value"]
  assert [row.split() for row in rows] == [
    ["[a]", "1.5"], ["[1,", "2]"], ["b", "10.5"]
  ]  # fmt: skip


@pytest.mark.parametrize("place, style", [(0, "bold"), (1, "")])
def test_the_best_is_bold(place, style):
  cells = list(terminal_table(HEADER, ROWS).columns[2].cells)
  assert cells[place].style == style
