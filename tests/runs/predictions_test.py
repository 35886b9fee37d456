"""Scores of test rows, written and read."""

import json

import numpy as np
import pytest
from pyarrow import parquet

from recjax.errors import RunError
from recjax.runs import predictions
from recjax.runs.predictions import (
  Groups,
  Predictions,
  TaskScores,
  load_predictions,
  save_predictions,
)

RNG = np.random.default_rng(0)


def make(weight=None) -> Predictions:
  click = (RNG.random(20) < 0.5).astype(np.float32)
  buy = np.where(click == 1, (RNG.random(20) < 0.5) * 1.0, np.nan)
  score = RNG.normal(size=(20, 2)).astype(np.float32)
  codes = RNG.integers(0, 3, 20).astype(np.int32)
  return Predictions(
    {
      "click": TaskScores("binary", score[:, 0], click),
      "buy": TaskScores("binary", score[:, 1], buy),
    },
    weight,
    {"user": Groups(codes, ("anna", "missing", "zoë"))},
    "f" * 64,
  )


@pytest.mark.parametrize("weight", [None, np.arange(20, dtype=np.float32)])
def test_what_was_written_is_read(tmp_path, weight):
  made = make(weight)
  path = save_predictions(tmp_path, "test", made)
  assert path == tmp_path / "predictions" / "test.parquet"
  found = load_predictions(tmp_path)
  for name, task in made.tasks.items():
    assert found.tasks[name].kind == "binary"
    np.testing.assert_array_equal(found.tasks[name].score, task.score)
    np.testing.assert_array_equal(found.tasks[name].label, task.label)
  if weight is None:
    assert found.weight is None
  else:
    np.testing.assert_array_equal(found.weight, weight)
  text = lambda groups: np.array(groups.values)[groups.codes].tolist()
  assert text(found.groups["user"]) == text(made.groups["user"])
  assert found.data_fingerprint == "f" * 64 and len(found) == 20


def test_other_tools_can_read_it(tmp_path):
  made = make()
  table = parquet.read_table(save_predictions(tmp_path, "test", made))
  types = {field.name: str(field.type) for field in table.schema}
  assert types["score/click"] == types["label/buy"] == "float"
  assert types["group/user"].startswith("dictionary<values=string")
  nulls = sum(value is None for value in table["label/buy"].to_pylist())
  assert nulls == np.isnan(made.tasks["buy"].label).sum() > 0
  facts = json.loads(table.schema.metadata[b"recjax"])
  assert facts["data_fingerprint"] == "f" * 64


def test_the_first_that_there_is(tmp_path):
  with pytest.raises(RunError, match="recjax evaluate --workdir="):
    load_predictions(tmp_path, ("test", "test-aa"))
  save_predictions(tmp_path, "test-aa", make())
  assert len(load_predictions(tmp_path, ("test", "test-aa"))) == 20


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_a_broken_file_is_told(tmp_path, damage):
  path = save_predictions(tmp_path, "test", make())
  if damage == "cut":
    path.write_bytes(path.read_bytes()[:-40])
  elif damage == "text":
    path.write_text("no table")
  else:
    table = parquet.read_table(path).replace_schema_metadata(None)
    parquet.write_table(table, path)
  with pytest.raises(RunError, match="test.parquet is corrupt"):
    load_predictions(tmp_path)


def test_too_many_rows_are_not_written(tmp_path, monkeypatch):
  monkeypatch.setattr(predictions, "MAX_ROWS", 19)
  made = make()
  assert "20 test rows, at most 19" in made.too_many()
  assert save_predictions(tmp_path, "test", made) is None
  assert not (tmp_path / "predictions").exists()
  monkeypatch.setattr(predictions, "MAX_ROWS", 20)
  assert made.too_many() == ""
