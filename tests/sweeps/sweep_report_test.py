"""Reports of sweeps in all their formats."""

import io

import numpy as np
import pytest
from rich.console import Console

from recjax.sweeps.results import load_results
from recjax.sweeps.sweep_report import make_report, print_report, write_report
from tests.sweeps.made_up import sweep_of, value_of


def test_a_grid_has_marginals_and_interactions(make_folder):
  report = make_report(load_results(make_folder(sweep_of(), value_of).path))
  assert [table.title for table in report.tables] == [
    "Combinations",
    "Marginal effects",
    "Interactions",
    "All test metrics",
  ]
  assert list(report.images) == [
    "means",
    "marginals",
    "interactions",
    "curves",
    "cost",
    "parallel",
  ]
  facts = dict(report.facts)
  assert facts["runs"] == "12 in the tables, 0 not"
  assert facts["device"] == "CPU, 2 cores"
  assert facts["time of all runs"] == "24 min 00 s"  # 4 x (1 + 2 + 3) min.


def test_an_ablation_has_none(make_folder):
  folder = make_folder(
    sweep_of("remove_one"), value_of, skip=lambda t: t.key == "s-1"
  )
  report = make_report(load_results(folder.path))
  assert [table.title for table in report.tables] == [
    "Combinations",
    "All test metrics",
    "Not in the tables",
  ]
  assert list(report.images) == ["means", "curves", "cost"]


def test_what_is_written(make_folder, tmp_path):
  folder = make_folder(sweep_of(), value_of)
  paths = write_report(folder.path, tmp_path / "out")
  assert [path.name for path in paths] == [
    "report.md",
    "report.html",
    "report.tex",
  ]
  markdown, page, latex = (path.read_text() for path in paths)
  assert markdown.startswith("# Depth and size\n")
  assert "![interactions](plots/interactions.png)" in markdown
  png = tmp_path / "out" / "plots" / "interactions.png"
  assert png.read_bytes().startswith(b"\x89PNG")
  assert page.count("<img ") == 6 and 'src="data:image/png' in page
  assert latex.count(r"\begin{tabular}") == 4
  assert r"\toprule" in latex and "NDCG@10" in latex
  again = write_report(folder.path, tmp_path / "again")
  assert again[0].read_text() == markdown


def test_another_metric(make_folder, tmp_path):
  folder = make_folder(sweep_of(), value_of)
  write_report(folder.path, tmp_path / "out", metric="hit_rate@10")
  text = (tmp_path / "out" / "report.md").read_text()
  assert "| settings | HR@10 | difference |" in text


@pytest.mark.parametrize("width", [100, 140])
def test_in_a_terminal(make_folder, width):
  folder = make_folder(sweep_of(), value_of, skip=lambda t: t.seed == 2)
  out = Console(file=io.StringIO(), width=width, force_terminal=False)
  print_report(folder.path, console=out)
  text = out.file.getvalue()
  assert "Depth and size: combinations" in text
  assert "depth 2, size l" in text and "reference" in text
  assert "not finished" in text


def test_names_are_no_markup_and_no_formula(make_folder, tmp_path):
  names = {"level": "no [mask] a", "title": "T [/v2] of [x]", "factor": "g [y]"}
  factors = [
    {"name": names["factor"], "levels": {
      names["level"]: ["A.b = 1"], "a $_$ b": ["A.b = 2"]}},
    {"name": "size", "levels": {"s": ["C.d = 1"], "l": ["C.d = 2"]}},
  ]  # fmt: skip
  sweep = sweep_of(num_seeds=2, title=names["title"], factor=factors)
  folder = make_folder(sweep, value_of)
  out = Console(file=io.StringIO(), width=200, force_terminal=False)
  print_report(folder.path, console=out)
  text = out.file.getvalue()
  assert names["level"] in text and names["title"] in text
  write_report(folder.path, tmp_path / "out")
  assert (tmp_path / "out" / "plots" / "parallel.png").exists()


def test_an_undefined_metric_still_makes_a_report(make_folder):
  nan = lambda trial: (
    value_of(trial) * (np.nan if trial.combination == "depth 2, size l" else 1)
  )
  folder = make_folder(sweep_of(num_seeds=2), nan)
  assert "cost" in make_report(load_results(folder.path)).images
