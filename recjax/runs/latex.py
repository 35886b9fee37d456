r"""Tables of cells as LaTeX, for papers: needs \usepackage{booktabs}."""

from collections.abc import Iterable, Sequence

from recjax.runs import tables

_MARKS = {
  "\\": r"\textbackslash{}",
  "&": r"\&",
  "%": r"\%",
  "$": r"\$",
  "#": r"\#",
  "_": r"\_",
  "{": r"\{",
  "}": r"\}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "±": r"$\pm$",
  "–": "--",
  "−": "$-$",
  "<": "$<$",
  ">": "$>$",
  "|": r"\textbar{}",
  "\n": " ",
  "\r": " ",
}


def escape(text: str) -> str:
  """`text` with the marks of LaTeX written out."""
  return "".join(_MARKS.get(mark, mark) for mark in text)


def table(
  header: Sequence[str],
  rows: Sequence[Sequence[tables.Cell]],
  *,
  caption: str = "",
  label: str = "",
) -> str:
  """A table in the style of booktabs.

  Args:
    header: of the columns.
    rows: cells; notes stand behind their text.
    caption: above the table.
    label: to refer to it.
  """
  numbers = [any(row[i].is_number for row in rows) for i in range(len(header))]
  columns = "".join("r" if right else "l" for right in numbers)
  lines = [r"\begin{table}", r"\centering"]
  if caption:
    lines.append(rf"\caption{{{escape(caption)}}}")
  if label:
    lines.append(rf"\label{{{label}}}")
  lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
  lines += [_line(map(escape, header)), r"\midrule"]
  lines += [_line(map(_cell, row)) for row in rows]
  lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
  return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
  r"""A row; what begins with "[" or "*" is no argument of the \\ before it."""
  text = " & ".join(cells)
  guard = "{}" if text.lstrip().startswith(("[", "*")) else ""
  return rf"{guard}{text} \\"


def _cell(cell: tables.Cell) -> str:
  text = escape(cell.text)
  text = rf"\textbf{{{text}}}" if cell.is_best else text
  note = rf"{{\small {escape(cell.note)}}}" if cell.note else ""
  return f"{text} {note}".strip()
