"""`recjax explain` on records as runs leave them."""

import contextlib
import io
import json

import pytest

from recjax import cli, explain_command
from recjax.evaluation.protocol import Protocol, sasrec_paper_protocol
from recjax.runs.record import RunRecord

FULL = Protocol(split="leave one out")
SAMPLED = sasrec_paper_protocol(split="leave one out")


def command(*arguments):
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main([str(argument) for argument in arguments])
  return status, out.getvalue(), err.getvalue()


@pytest.fixture
def write(tmp_path):
  def write(name, protocol, **changes):
    record = RunRecord(tmp_path / name)
    record.create_or_resume("", "", "0" * 12)
    record.write_result(
      {
        "name": name,
        "dataset": "rows",
        "model": "M",
        "seed": 0,
        "metrics": {"mrr": 0.7},
        "intervals": {},
        "protocol": protocol.to_dict(),
        "protocol_hash": protocol.hash(),
        "protocol_text": protocol.describe(),
        "config_hash": name,
        "data_fingerprint": "f" * 64,
        "wall_secs": 1.0,
        "device": "CPU",
        "versions": {},
      }
      | changes
    )
    return record.workdir

  return write


def test_protocols_are_explained_field_by_field(write, tmp_path):
  workdirs = [write("a", SAMPLED), write("b", FULL), write("c", FULL)]
  outs = tmp_path / "found.json", tmp_path / "found.md"
  status, out, err = command(
    "explain", *workdirs, *(f"--out={path}" for path in outs)
  )
  assert status == 0, err
  lines = out.splitlines()
  assert lines[0] == f"A {SAMPLED.hash()}: {SAMPLED.describe()}"
  assert lines[2] == f"B {FULL.hash()}: {FULL.describe()}"
  assert lines[3:5] == [f"  {workdirs[1]}", f"  {workdirs[2]}"]
  assert "A and B" in lines
  (line,) = [x for x in lines if x.startswith("- candidates: ")]
  assert "A 100 uniform negatives, B the whole catalogue." in line
  assert line.endswith("By this alone, the numbers of A are higher.")
  assert any(x.startswith("- ties: A optimistic, B expected.") for x in lines)
  assert any("never share a column" in x for x in lines)
  first, second = json.loads(outs[0].read_text())["protocols"]
  assert first["differences"] == [] and second["name"] == "B"
  assert {x["field"] for x in second["differences"]} == {
    "candidates",
    "ties",
    "max_users",
  }
  assert f"\n{line}\n" in outs[1].read_text()


def test_one_protocol_is_told(write):
  status, out, _ = command("explain", write("a", FULL), write("b", FULL))
  assert status == 0 and "one protocol" in out and "A and" not in out


def test_other_data_are_told(write):
  other = {"dataset": "beauty", "data_fingerprint": "9" * 64}
  runs = [write("a", FULL), write("b", SAMPLED, **other)]
  status, out, _ = command("explain", *runs)
  expected = "NOTE the data differ, too: beauty (999999999999), rows (ff"
  assert status == 0 and expected in out


def test_many_protocols_have_names():
  assert [explain_command._name(i) for i in (0, 25, 26)] == ["A", "Z", "P27"]


def test_compare_refuses_with_the_explanation(write):
  a, b = write("a", SAMPLED), write("b", FULL)
  status, _, err = command("compare", a, b)
  assert status == 1
  assert "  candidates: A 100 uniform negatives, B the whole catalogue." in err
  assert f"`recjax explain {a} {b}`" in err


def test_diff_names_the_command(write):
  status, out, _ = command("diff", write("a", SAMPLED), write("b", FULL))
  assert status == 0 and "`recjax explain`" in out


def test_mistakes_are_told(write, tmp_path):
  a, b = write("a", SAMPLED), write("b", FULL)
  (tmp_path / "empty").mkdir()
  for arguments, message in (
    ([], "two or more runs"),
    ([a], "1 finished runs"),
    ([a, tmp_path / "empty"], "no run was started"),
    ([a, b, "--out=found.txt"], "'.json', '.md'"),
    ([a, b, "--gin.SEED=1"], "--gin.SEED=1 would change nothing"),
  ):
    status, _, err = command("explain", *arguments)
    assert status == 1 and message in err, (arguments, err)
