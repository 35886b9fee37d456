"""What a terminal shows of the ledger."""

import dataclasses
import io
import pathlib

import pytest
import rich.console

from recjax.runs import ledger, ledger_tables
from recjax.runs.ledger import Check, Entry, Ledger
from recjax.runs.published import PublishedCell
from recjax.runs.recipes import Recipe

ROOT = pathlib.Path(__file__).parents[2]
CELL = PublishedCell(
  run="lr",
  dataset="clicks",
  model="LR",
  metric="auc",
  published=0.8,
  tolerance=0.01,
  source="Table 1",
  protocol="random split",
  why="Ours reads more.",
)
ROW = {
  "name": "lr",
  "metric": "auc",
  "protocol_hash": "aaaa",
  "published": 0.8,
  "measured": 0.8123,
  "ci95": [0.81, 0.8146],
  "within": False,
  "seeds": [1, 2],
  "wall_secs": 90.0,
  "config_hash": "cccc",
  "data_fingerprint": "ffffffffff",
}
ENTRY = Entry(
  pathlib.Path("experiments/clicks"),
  "A paper.",
  "https://x.org",
  CELL,
  Recipe("lr", seeds=(1, 2)),
  ROW,
)


def shown(*parts, width=100) -> str:
  out = io.StringIO()
  console = rich.console.Console(file=out, width=width)
  for part in parts:
    console.print(part, markup=False, highlight=False)
  return out.getvalue()


def test_overview():
  entries = (ENTRY, dataclasses.replace(ENTRY, row=None))
  text = shown(*ledger_tables.overview(Ledger(pathlib.Path("x"), entries)))
  lines = [line.split() for line in text.splitlines() if line.strip()]
  assert lines[0] == ["clicks:", "A", "paper."]
  cells = "lr AUC 0.8000 0.8123 [0.8100, 0.8146] outside 2 x 1 min 30 s"
  assert cells.split() in lines
  assert "lr AUC 0.8000 – no result".split() in lines
  assert text.count("Table 1") == 1  # It holds for both.
  assert "lr: Ours reads more." in text
  assert text.endswith("2 published numbers: 1 outside, 1 no result.\n")


def test_a_problem_is_told():
  problem = Check(problem="no gin file 'runs/lr.gin'; looked in gin.")
  whole = Ledger(pathlib.Path("x"), (ENTRY,)).checked({"lr": problem})
  assert f"lr: {problem.problem}" in shown(*ledger_tables.overview(whole))


@pytest.mark.parametrize("width", [100, 140])
def test_ours_fits(width):
  ours = ledger.load_ledger(ROOT / "experiments")
  text = shown(*ledger_tables.overview(ours), width=width)
  assert max(map(len, text.splitlines())) <= width
  for entry in ours.entries:
    # Names are not broken, numbers not cut.
    (line,) = [
      line
      for line in text.splitlines()
      if line.split()[:1] == [entry.cell.key[0]]
      and f" {entry.cell.published:.4f} " in line
    ]
    assert entry.status in line
    if entry.row:
      assert f" {entry.row['measured']:.4f} " in line
      low, high = entry.row["ci95"]
      assert f"[{low:.4f}, {high:.4f}]" in line


def test_details():
  check = Check("dddd")
  (entry,) = Ledger(pathlib.Path("x"), (ENTRY,)).checked({"lr": check}).entries
  title, *lines = ledger_tables.details(entry)
  assert title == "lr, AUC"
  for line in (
    "  status: outside",
    "  within: no",
    "  why: Ours reads more.",
    "  source: Table 1",
    "  seeds: 1, 2",
    "  wall secs: 90.0",
    "  config is current: no",
    "  minutes: 3.0",
    "  gin files: runs/lr.gin",
  ):
    assert line in lines
  assert not any(line.endswith((": ", "None")) for line in lines)


def test_beside_published():
  new = ROW | {"measured": 0.8054, "within": True, "ci95": [None, None]}
  text = shown(ledger_tables.beside_published([ENTRY], [new]))
  row = [line.split() for line in text.splitlines() if "AUC" in line]
  assert row == ["lr AUC 0.8000 0.8054 yes 2 0.8123".split()]


def test_remarks():
  same = ROW | {"within": True, "measured": 0.8}
  assert ledger_tables.remarks([ENTRY], [same]) == []
  other = ROW | {
    "data_fingerprint": "eeeeeeeeee",
    "protocol_hash": "bbbb",
    "config_hash": "dddd",
    "seeds": [2],
  }
  data, protocol, config, seeds, outside = ledger_tables.remarks(
    [ENTRY], [other]
  )
  assert "eeeeeeee" in data and "ffffffff" in data
  assert "bbbb" in protocol and "aaaa" in protocol
  assert "dddd" in config and "cccc" in config
  assert seeds == "Without the seeds 1, which are not finished."
  assert outside == "lr (AUC) is outside its bounds: Ours reads more."
