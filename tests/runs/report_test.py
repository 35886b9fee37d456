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


def test_the_bias_of_sampling_stands_under_its_protocol(make_workdir, tmp_path):
  row = {
    "sampled": 0.59, "full": 0.1311, "full_interval": [0.12, 0.14],
    "bias": 0.4589, "bias_interval": [0.44, 0.47],
    "corrected": {"mle": {"value": 0.1277, "interval": [0.1, 0.15]}},
  }  # fmt: skip
  bias = {
    "metrics": {"ndcg@10": row}, "headline": "mle", "not_corrected": "",
    "full_protocol_hash": "e" * 12, "full_protocol_text": "full <catalogue>",
    "blind_below": 33.2,
  }  # fmt: skip
  make_workdir("runs/full")
  make_workdir(
    "runs/sampled", name="sampled", config_hash_without_seed="sa",
    protocol_hash="b" * 12, metrics={"ndcg@10": 0.59}, sampled_bias=bias,
    protocol={"candidates": {"kind": "uniform"}, "ties": "optimistic"},
  )  # fmt: skip
  paths = report.make_report([tmp_path / "runs"], tmp_path / "out")
  parts = sections(paths.markdown.read_text(), "## Protocol `")
  first, second = (parts[hash].split("\n## ")[0] for hash in ALL)
  assert "What sampling did" in second and "0.1277 [0.1000" in second
  assert "+0.4589" in second and "- Sampled metrics can reverse" in second
  assert "What sampling did" not in first
  page = sections(paths.html.read_text(), "<h2>Protocol <code>")
  first, second = (page[hash].split("</section>")[0] for hash in ALL)
  assert "<h3>What sampling did</h3>" in second and "+0.4589" in second
  assert "full &lt;catalogue&gt;" in second and "0.1311" not in first
  console = rich.console.Console(file=io.StringIO(), width=80)
  report.print_report([tmp_path / "runs"], console)
  line = "NDCG@10 of sampled on ml-1m: sampled 0.5900, full 0.1311"
  assert line in console.file.getvalue()


def test_protocols_are_told_apart(workdirs, tmp_path):
  paths = report.make_report(workdirs, tmp_path / "out")
  text = paths.markdown.read_text()
  between = text.split("## Between the protocols")[1].split("\n## ")[0]
  assert "### bbbbbb and aaaaaa" in between
  assert "hold the same fields" in between  # Only their hashes are made up.
  assert "<h2>Between the protocols</h2>" in paths.html.read_text()


def test_what_two_protocols_mean_is_said(make_workdir, tmp_path, result_of):
  protocol = result_of()["protocol"] | {"ties": "optimistic"}
  make_workdir("runs/a")
  make_workdir(
    "runs/b", config_hash_without_seed="b", protocol_hash="b" * 12,
    protocol=protocol,
  )  # fmt: skip
  paths = report.make_report([tmp_path / "runs"], tmp_path / "out")
  line = "- ties: aaaaaa expected, bbbbbb optimistic. It decides where"
  assert line in paths.markdown.read_text()
  alone = report.make_report([tmp_path / "runs" / "a"], tmp_path / "alone")
  assert "Between" not in alone.markdown.read_text()
  assert "Between" not in alone.html.read_text()


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
