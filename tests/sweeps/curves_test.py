"""Curves are read once, line by line, however the file changes."""

import json

import pytest

from recjax.sweeps.curves import CurveReader
from recjax.sweeps.folder import SweepFolder

NAME = "validation/auc"


@pytest.fixture
def folder(tmp_path):
  return SweepFolder(tmp_path)


def write(folder, text, mode="a"):
  path = folder.workdir("a") / "metrics.jsonl"
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, mode) as file:
    file.write(text)


def line(step, value):
  return json.dumps({"step": step, NAME: value}) + "\n"


def test_what_was_read_is_not_read_again(folder, monkeypatch):
  reader = CurveReader(folder, "auc")
  assert reader.read("a") == []
  write(folder, line(1, 0.5) + '{"step": 2, "loss": 0.1}\n' + line(3, 0.6))
  assert reader.read("a") == [(1, 0.5), (3, 0.6)]
  parsed, loads = [], json.loads
  monkeypatch.setattr(json, "loads", lambda x: parsed.append(x) or loads(x))
  assert reader.read("a") == [(1, 0.5), (3, 0.6)]
  assert parsed == []
  write(folder, line(4, 0.7))
  assert reader.read("a") == [(1, 0.5), (3, 0.6), (4, 0.7)]
  assert parsed == [line(4, 0.7).encode()[:-1]]


def test_half_a_line_is_left_for_the_next_time(folder):
  reader = CurveReader(folder, "auc")
  whole = line(1, 0.5)
  for end in range(len(whole)):
    write(folder, whole[:end], "w")
    assert reader.read("a") == []
  write(folder, whole + line(2, 0.6)[:-1], "w")
  assert reader.read("a") == [(1, 0.5)]
  write(folder, "\n")
  assert reader.read("a") == [(1, 0.5), (2, 0.6)]


def test_a_run_that_went_back_to_its_checkpoint_is_read_anew(folder):
  reader = CurveReader(folder, "auc")
  record = folder.record("a")
  for step, value in ((1, 0.5), (2, 0.6), (3, 0.7)):
    record.log(step, **{NAME: value})
  assert reader.read("a") == [(1, 0.5), (2, 0.6), (3, 0.7)]
  record.truncate_after(1)
  assert reader.read("a") == [(1, 0.5)]
  for step in (2, 3, 4):
    record.log(step, **{NAME: 0.25})
  record.close()
  assert reader.read("a") == [(1, 0.5), (2, 0.25), (3, 0.25), (4, 0.25)]
  record.truncate_after(1)
  # As long as before, with other lines.
  for step in (2, 3, 4):
    record.log(step, **{NAME: 0.75})
  record.close()
  assert reader.read("a") == [(1, 0.5), (2, 0.75), (3, 0.75), (4, 0.75)]


def test_it_reads_what_the_record_reads(folder):
  reader = CurveReader(folder, "auc")
  record = folder.record("a")
  for step in range(1, 30):
    value = float("nan") if step % 7 == 0 else 1 / step
    record.log(step, **({NAME: value} if step % 3 else {"loss": value}))
    if step % 4 == 0:
      reader.read("a")
  record.close()
  expected = [
    (x["step"], x[NAME])
    for x in record.read_metrics()
    if x.get(NAME) is not None
  ]
  assert reader.read("a") == expected


def test_corrupt_lines_are_left_out(folder):
  broken = ["no JSON\r", "3", "[]", '{"step": "x"}', '{"validation/auc": 1}']
  write(folder, line(1, 0.5) + "\n".join(broken) + "\n" + line(2, 0.6))
  write(folder, json.dumps({"step": 3, NAME: "high"}) + "\n\xff\n" + line(4, 1))
  reader = CurveReader(folder, "auc")
  assert reader.read("a") == [(1, 0.5), (2, 0.6), (4, 1.0)]
