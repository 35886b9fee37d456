"""Reports made from records alone."""

import base64
import io
import json
import re

import pytest
import rich.console

from recjax import errors
from recjax.runs import report

ALL = ("a" * 12, "b" * 12)


@pytest.fixture
def workdirs(make_workdir, tmp_path):
  make_workdir("runs/bce")
  make_workdir(
    "runs/ce", name="sasrec <ce>", config_hash_without_seed="ce",
    metrics={"ndcg@10": 0.1824, "hit_rate@10": 0.315},
  )  # fmt: skip
  make_workdir(
    "runs/sampled", name="sampled", config_hash_without_seed="sa",
    protocol_hash="b" * 12, protocol_text="100 uniform negatives",
    metrics={"ndcg@10": 0.59},
  )  # fmt: skip
  make_workdir("runs/stopped", finished=False)
  return [tmp_path / "runs"]


def sections(text, mark):
  """{protocol hash: its part of the text}."""
  parts = re.split(mark + "([ab]{12})", text)
  return dict(zip(parts[1::2], parts[2::2]))


def test_markdown(workdirs, tmp_path):
  paths = report.make_report(workdirs, tmp_path / "out", title="My runs")
  text = paths.markdown.read_text()
  assert text.startswith("# My runs\n\n3 finished runs, 2 protocols; 1 not in")
  parts = sections(text, "## Protocol `")
  first, second = (parts[hash].split("\n## ")[0] for hash in ALL)
  assert "0.1824" in first and "0.1340 [0.1300, 0.1380]" in first
  assert "0.5900" not in first and "0.1824" not in second
  assert "100 uniform negatives" in second and "split: leave_one_out" in first
  assert "the last logged step is 40" in text
  assert "recjax.experiment.Experiment.seed = 0" in text
  images = re.findall(r"\]\((plots/.*?)\)", text)
  assert len(images) == 1 + 2 * 3
  for image in images:
    assert (tmp_path / "out" / image).read_bytes().startswith(b"\x89PNG")


def test_html_is_self_contained(workdirs, tmp_path):
  paths = report.make_report(workdirs, tmp_path / "out")
  text = paths.html.read_text()
  sources = re.findall(r'(?:src|href)="(.*?)"', text)
  assert len(sources) == 7
  for source in sources:
    kind, data = source.split(",", 1)
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
  assert "http" not in text.replace(sources[0], "")
  assert "sasrec &lt;ce&gt;" in text and "<ce>" not in text
  parts = sections(text, "<h2>Protocol <code>")
  first, second = (parts[hash].split("</section>")[0] for hash in ALL)
  assert "0.1824" in first and "0.1824" not in second
  assert text.count("<details>") == 6
  assert "Not in the tables" in text


def test_the_report_changes_no_record(make_workdir, tmp_path):
  workdir = make_workdir("run")
  before = {path: path.read_bytes() for path in workdir.glob("*.*")}
  paths = report.make_report([workdir], tmp_path / "one")
  again = report.make_report([workdir], tmp_path / "two")
  assert paths.markdown.read_text() == again.markdown.read_text()
  assert {path: path.read_bytes() for path in workdir.glob("*.*")} == before
  assert not (workdir / "plots").exists()


def test_a_pareto_front_has_a_table_and_a_plot(make_workdir, tmp_path):
  front = {
    "combine": "sum",
    "tasks": ["click", "buy"],
    "judged": ["click", "buy"],
    "weights": [[0.0, 1.0], [1.0, 0.0]],
    "validation": [[0.6, 0.8], [0.7, 0.5]],
    "test": [[0.6125, 0.79], [0.71, 0.5]],
    "on_front": [True, False],
  }
  make_workdir("run", pareto_front=front)
  paths = report.make_report([tmp_path / "run"], tmp_path / "out")
  text = paths.markdown.read_text()
  assert "served score (sum), of 2 weighings" in text
  assert "| 0.00 | 1.00 | 0.6000 | 0.8000 | 0.6125 | 0.7900 |" in text
  (image,) = re.findall(r"\]\((plots/.*pareto.png)\)", text)
  assert (tmp_path / "out" / image).read_bytes().startswith(b"\x89PNG")
  page = paths.html.read_text()
  assert "weight of buy" in page and "0.6125" in page
  assert "pareto of sasrec_ml1m_bce" in page


def test_slices_have_tables_and_a_plot(make_workdir, tmp_path):
  workdir = make_workdir("run")
  rows = [
    {
      "of": "users",
      "by": "gender",
      "slice": name,
      "num_users": 20,
      "num_items": None,
      "num_targets": 20,
      "metrics": {"ndcg@10": value},
      "intervals": {"ndcg@10": [value - 0.01, value + 0.01]},
    }
    for name, value in (("F", 0.375), ("M", 0.25))
  ]
  (workdir / "slices").mkdir()
  (workdir / "slices" / "test.json").write_text(
    json.dumps({"users/gender": rows})
  )
  paths = report.make_report([workdir], tmp_path / "out")
  text = paths.markdown.read_text()
  assert "<summary>Users by gender</summary>" in text
  assert "| F | 20 | 20 | 0.3750 [0.3650, 0.3850] |" in text
  (image,) = re.findall(r"\]\((plots/.*slices.png)\)", text)
  assert (tmp_path / "out" / image).read_bytes().startswith(b"\x89PNG")
  page = paths.html.read_text()
  assert "<summary>Users by gender</summary>" in page
  assert "[0.3650, 0.3850]" in page and page.count("<details>") == 3


def test_only_failures(make_workdir, tmp_path):
  make_workdir("stopped", finished=False)
  paths = report.make_report([tmp_path / "stopped"], tmp_path / "out")
  assert "0 finished runs" in paths.markdown.read_text()
  with pytest.raises(errors.RunError, match="no workdir was given"):
    report.make_report([], tmp_path / "out")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_terminal_never_cuts_a_number(workdirs, width):
  console = rich.console.Console(file=io.StringIO(), width=width)
  report.print_report(workdirs, console)
  text = console.file.getvalue()
  for value in ("0.1824", "0.3150", "[0.1300, 0.1380]", "0.5900", "0.0250"):
    assert value in text
  assert "Protocol aaaaaaaaaaaa: leave one out" in text
  assert "not finished" in text
