"""Which runs may stand beside each other."""

import pytest

from recjax.errors import RunError
from recjax.runs.collection import group_runs, load_runs
from recjax.runs.comparable import (
  check_comparable,
  group_names,
  shared_metrics,
)


@pytest.fixture
def groups(make_workdir):
  """Groups of runs, each with what its result differs in."""

  def make(*changes):
    for number, change in enumerate(changes):
      own = {"config_hash_without_seed": str(number), **change}
      make_workdir(f"runs/{number}", **own)
    folder = make_workdir("runs/none", finished=False).parent
    runs, _ = load_runs([folder])
    return group_runs(runs)[0]

  return make


def test_names_tell_groups_apart(groups):
  made = groups(
    {"name": "a"},
    {"name": "b", "config_hash": "1" * 12},
    {"name": "b", "config_hash": "2" * 12},
  )
  assert group_names(made) == ["a", "b (111111)", "b (222222)"]


def test_metrics_of_all_runs_in_order(groups):
  made = groups(
    {"name": "a", "metrics": {"auc": 0.7, "ece": 0.1, "rmse": 0.4}},
    {"name": "b", "metrics": {"rmse": 0.4, "auc": 0.7}},
  )
  assert shared_metrics(made) == ["auc", "rmse"]


def test_equal_data_and_protocol_pass(groups):
  check_comparable(groups({"name": "a"}, {"name": "b"}))


@pytest.mark.parametrize(
  "change,message",
  [
    (
      {"data_fingerprint": "e" * 64, "dataset": "ml-2m"},
      "a .*and b .*differ in the data: ffffffffffff and eeeeeeeeeeee"
      r" \(ml-1m and ml-2m\)",
    ),
    (
      {"protocol_hash": "b" * 12, "protocol": {"ties": "optimistic"}},
      "(?s)differ in the protocol: aaaaaaaaaaaa and bbbbbbbbbbbb"
      r"\. Such.*  ties: A expected, B optimistic\. It decides where scores"
      ".*numbers of B are higher.*recjax explain .*runs/0 .*runs/1` says",
    ),
  ],
)
def test_others_are_refused(groups, change, message):
  made = groups({"name": "a"}, {"name": "b", **change})
  if made[0].first["name"] != "a":
    made = made[::-1]
  with pytest.raises(RunError, match=message):
    check_comparable(made)
