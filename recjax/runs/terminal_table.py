"""A table of cells in a terminal."""

from collections.abc import Collection, Sequence

import rich.box
import rich.table
import rich.text

from recjax.runs.tables import Cell


def terminal_table(
  header: Sequence[str],
  rows: Sequence[Sequence[Cell]],
  *,
  title: str = "",
  left_out: Collection[str] = (),
  notes_below: bool = False,
  wrap_numbers: bool = False,
) -> rich.table.Table:
  """The best cells are bold, notes dim, and numbers to the right.

  Args:
    header: of the columns.
    rows: one cell a column.
    title: above the table.
    left_out: columns that only a page has room for.
    notes_below: a note stands under its number, and not beside it.
    wrap_numbers: numbers may be broken where the terminal is narrow.
  """
  shown = rich.table.Table(
    title=rich.text.Text(title, "table.title") if title else None,
    title_justify="left",
    box=rich.box.SIMPLE_HEAD,
    pad_edge=False,
    padding=(0, 1, 0, 0),
  )
  places = [p for p, name in enumerate(header) if name not in left_out]
  for place in places:
    is_number = any(row[place].is_number for row in rows)
    shown.add_column(
      rich.text.Text(header[place]),
      justify="right" if is_number else "left",
      no_wrap=is_number and not wrap_numbers,
      overflow="fold",
    )
  between = "\n" if notes_below else " "
  for row in rows:
    shown.add_row(*(_text(row[place], between) for place in places))
  return shown


def _text(cell: Cell, between: str) -> rich.text.Text:
  text = rich.text.Text(cell.text, style="bold" if cell.is_best else "")
  return text.append(f"{between}{cell.note}" if cell.note else "", "dim")
