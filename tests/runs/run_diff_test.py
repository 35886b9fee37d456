"""What two runs differ in, from records that were written by hand."""

import json
import pathlib

import pytest

from recjax.errors import RunError
from recjax.runs.collection import Run
from recjax.runs.run_diff import Change, Difference, diff_runs


def run_of(workdir=pathlib.Path("nowhere"), env=None, **result):
  base = {
    "dataset": "rows",
    "data_fingerprint": "f" * 64,
    "protocol": {"split": "rows", "weights": "none"},
    "metrics": {"auc": 0.7, "mrr": 0.2},
    "intervals": {"auc": [0.69, 0.71], "mrr": [0.1, 0.3]},
  }
  commit = {"commit": "abc", "versions": {"jax": "1", "numpy": "2"}}
  return Run(workdir, base | result, [], commit | (env or {}), "")


def test_runs_made_alike_differ_in_nothing():
  found = diff_runs(run_of(), run_of(), ({"SEED": "0"}, {"SEED": "0"}))
  assert found.differences == () and found.is_comparable
  assert [each.change for each in found.changes] == [0.0, 0.0]


def test_each_kind_is_told():
  other = run_of(
    env={
      "commit": "abd",
      "versions": {"jax": "1", "flax": "3"},
      "num_devices": 8,
    },
    features_fingerprint="e",
  )
  settings = {"SEED": "0", "dim": "8"}, {"SEED": "1", "top_k": "2"}
  found = diff_runs(run_of(), other, settings)
  assert found.differences == (
    Difference("settings", "SEED", "0", "1"),
    Difference("settings", "dim", "8", None),
    Difference("settings", "top_k", None, "2"),
    Difference("data", "features_fingerprint", None, "e"),
    Difference("code", "commit", "abc", "abd"),
    Difference("packages", "numpy", "2", None),
    Difference("packages", "flax", None, "3"),
    Difference("machine", "num_devices", None, 8),
  )
  assert found.is_comparable and found.changes


def test_metrics_stand_side_by_side():
  other = run_of(
    metrics={"auc": 0.72, "mrr": 0.25, "rmse": None},
    intervals={"auc": [0.715, 0.725], "mrr": [0.15, 0.35]},
  )
  auc, mrr, rmse = diff_runs(run_of(), other, ({}, {})).changes
  assert auc == Change("", "auc", 0.7, 0.72, apart=True)
  assert auc.change == pytest.approx(0.02)
  assert mrr.apart is False
  assert rmse == Change("", "rmse", None, None) and rmse.change is None
  # A metric that is undefined has an interval of nulls.
  undefined = run_of(metrics={"auc": None}, intervals={"auc": [None, None]})
  for pair in ((run_of(), undefined), (undefined, undefined)):
    auc = diff_runs(*pair, ({}, {})).changes[0]
    assert auc.apart is None and auc.change is None


@pytest.mark.parametrize(
  "change",
  [
    {"data_fingerprint": "e" * 64},
    {"protocol": {"split": "rows", "weights": "given"}},
  ],
)
def test_metrics_of_other_things_do_not(change):
  found = diff_runs(run_of(), run_of(**change), ({}, {}))
  assert not found.is_comparable and found.changes == ()
  assert {each.kind for each in found.differences} <= {"data", "protocol"}


def test_slices_are_met_by_their_value(tmp_path):
  rows = lambda auc, *values: {
    "user": [{"value": v, "metrics": {"auc": auc}} for v in values]
  }
  path = tmp_path / "slices" / "test.json"
  path.parent.mkdir()
  path.write_text(
    json.dumps({"items": [{"slice": "0", "metrics": {"auc": 0.4}}]})
  )
  a = run_of(tmp_path, slices=rows(0.6, "new", "old"))
  b = run_of(tmp_path, slices=rows(0.5, "old", "lost"))
  found = [each for each in diff_runs(a, b, ({}, {})).changes if each.where]
  assert found == [
    Change("user=new", "auc", 0.6, None),
    Change("user=old", "auc", 0.6, 0.5),
    Change("user=lost", "auc", None, 0.5),
    Change("items=0", "auc", 0.4, 0.4),
  ]
  path.write_text('{"items": [')
  with pytest.raises(RunError, match="corrupt"):
    diff_runs(a, b, ({}, {}))
