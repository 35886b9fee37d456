"""Tables in LaTeX."""

import pytest

from recjax.runs import latex
from recjax.runs.tables import Cell


def test_a_table_of_booktabs():
  rows = [
    [Cell("a_b"), Cell("0.1", "[0, 1]", is_number=True)],
    [Cell("50%"), Cell("0.2", is_number=True, is_best=True)],
  ]
  found = latex.table(("run", "NDCG@10"), rows, caption="A & B", label="tab:x")
  assert found == (
    "\\begin{table}\n\\centering\n\\caption{A \\& B}\n\\label{tab:x}\n"
    "\\begin{tabular}{lr}\n\\toprule\nrun & NDCG@10 \\\\\n\\midrule\n"
    "a\\_b & 0.1 {\\small [0, 1]} \\\\\n50\\% & \\textbf{0.2} \\\\\n"
    "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
  )


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("a\\b", r"a\textbackslash{}b"),
    ("{x}^2 ~ $y$ #1", r"\{x\}\textasciicircum{}2 \textasciitilde{} \$y\$ \#1"),
    ("1 ± 2 – 3", r"1 $\pm$ 2 -- 3"),
    ("<.0001", "$<$.0001"),
    ("a|b\nc\r\n\nd", r"a\textbar{}b c   d"),
  ],
)
def test_marks_are_written_out(text, expected):
  assert latex.escape(text) == expected


def test_no_row_is_an_argument_of_what_stands_before_it():
  # Both \\ and \midrule take what follows in brackets, \\ a star as well.
  rows = [
    [Cell("[mask]"), Cell("[a]")],
    [Cell("*"), Cell("")],
    [Cell("a [b]"), Cell("c")],
  ]
  found = latex.table(("[x]", "*"), rows).splitlines()
  start = found.index(r"\toprule") + 1
  assert found[start : start + 5] == [
    r"{}[x] & * \\",
    r"\midrule",
    r"{}[mask] & [a] \\",
    r"{}* &  \\",
    r"a [b] & c \\",
  ]
