"""Tables of slices and groups, from records that were written by hand."""

import json
import pathlib

from recjax.runs.collection import Run
from recjax.runs.slice_tables import slice_tables


def row_of(name, of="users", by="gender", **changes):
  metrics = {"ndcg@10": 0.25, "ndcg@5": 0.2, "mrr": 0.125, "novelty@10": 7.0}
  return {
    "of": of,
    "by": by,
    "slice": name,
    "num_users": 1200,
    "num_items": None if of == "users" else 7,
    "num_targets": 30,
    "metrics": metrics,
    "intervals": {"ndcg@10": [0.2, 0.3]},
  } | changes


LISTS = {
  "k": 10,
  "providers": {
    "main_genre": [
      {
        "value": "Drama",
        "share_of_items": 0.5,
        "share_of_targets": 0.25,
        "share_of_exposure": 0.75,
        "exposure_to_items": 1.5,
        "exposure_to_targets": None,
      }
    ]
  },
  "user_groups": {
    "age": {
      "ndcg@10": [
        {"value": "old", "num_users": 3, "mean": 0.5, "compared": False}
      ]
    }
  },
}


def run_of(workdir, slices=None, **result):
  if slices is not None:
    path = pathlib.Path(workdir) / "slices" / "test.json"
    path.parent.mkdir(parents=True)
    text = slices if isinstance(slices, str) else json.dumps(slices)
    path.write_text(text)
  return Run(pathlib.Path(workdir), result, [], {}, "")


def test_tables(tmp_path):
  cold = row_of("0", num_targets=0, metrics={}, intervals={})
  slices = {
    "users/gender": [row_of("F"), cold],
    "items": [row_of("1-5", of="items", by="training events")],
  }
  found = slice_tables(run_of(tmp_path, slices, lists=LISTS))
  titles = [title for title, _, _ in found.parts]
  assert titles == [
    "Users by gender",
    "Items by training events",
    "Exposure by main genre",
    "NDCG@10 by age",
  ]
  assert found.metric == "ndcg@10" and found.problem == ""
  lines = "\n".join(found.markdown()).splitlines()
  # One cut-off of the ranking, and all there is of lists.
  assert "| gender | users | targets | NDCG@10 | MRR | Novelty@10 |" in lines
  assert (
    "| F | 1,200 | 30 | 0.2500 [0.2000, 0.3000] | 0.1250 | 7.0000 |" in lines
  )
  assert "| 0 | 1,200 | 0 | – | – | – |" in lines
  assert lines.count("</details>") == 4
  numbers = "0.2500 [0.2000, 0.3000] | 0.1250 | 7.0000 |"
  assert f"| 1-5 | 1,200 | 7 | 30 | {numbers}" in lines
  assert "| Drama | 0.5000 | 0.2500 | 0.7500 | 1.5000 | – |" in lines
  assert "| old too few to compare | 3 | 0.5000 |" in lines
  html = found.html()
  assert html.count("<details>") == 4
  assert "<small>[0.2000, 0.3000]</small>" in html


def test_records_from_before(tmp_path):
  row = row_of("6-20")
  del row["by"]
  found = slice_tables(run_of(tmp_path, {"users": [row]}))
  ((title, header, _),) = found.parts
  assert title == "Users by training events" and header[0] == "training events"


def test_nothing_and_a_broken_file(tmp_path):
  found = slice_tables(run_of(tmp_path / "a"))
  assert found.markdown() == [] and found.html() == ""
  found = slice_tables(run_of(tmp_path / "b", "{"))
  assert "corrupt" in found.problem and found.parts == ()
  assert any("corrupt" in line for line in found.markdown())
  assert "corrupt" in found.html()
