import json

import numpy as np
import pytest

from recjax.errors import RunError
from recjax.runs.record import RunRecord
from recjax.runs.slice_files import load_slices, save_slices

ROWS = [
  {
    "of": "users",
    "by": "age",
    "slice": "18-24",
    "low": None,
    "num_targets": 4,
    "metrics": {"ndcg@10": np.float64(0.25), "novelty@10": float("nan")},
    "intervals": {"ndcg@10": (0.2, 0.3)},
  }
]


def test_what_is_saved_is_read(tmp_path):
  record = RunRecord(tmp_path / "run")
  save_slices(record, "test", {"users/age": ROWS}, title="A run")
  (row,) = load_slices(tmp_path / "run")["users/age"]
  assert row["metrics"] == {"ndcg@10": 0.25, "novelty@10": None}
  assert row["intervals"] == {"ndcg@10": [0.2, 0.3]}
  json.loads((tmp_path / "run" / "slices" / "test.json").read_text())
  (plot,) = (tmp_path / "run" / "plots").iterdir()
  assert plot.name == "test-slices.png"
  assert plot.read_bytes().startswith(b"\x89PNG")


def test_what_is_not_there(tmp_path):
  assert load_slices(tmp_path) == {}
  save_slices(RunRecord(tmp_path), "test-abc", {"users/age": ROWS}, title="")
  assert load_slices(tmp_path) == {} and load_slices(tmp_path, "test-abc")
  (tmp_path / "slices" / "test.json").write_text("{")
  with pytest.raises(RunError, match="corrupt"):
    load_slices(tmp_path)
