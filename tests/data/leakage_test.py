"""Every leak is planted and found; data without it gives none."""

import json

import numpy as np
import pytest

from recjax.data.interactions import Interactions
from recjax.data.leakage import (
  drawable_positives,
  leakage_report,
  positives_among_negatives,
)


def rows(*numbers):
  return np.array(numbers, np.int64)


@pytest.fixture
def data():
  # Two users; time runs over both, so rows 0, 1, 4, 5 come before 2, 6 and
  # these before 3, 7. Nobody takes an item twice, and the held-out items 3, 4
  # are trained on with the other user.
  return Interactions.from_columns(
    "toy",
    {
      "user_id": np.array([1, 1, 1, 1, 2, 2, 2, 2]),
      "item_id": np.array([1, 2, 3, 4, 4, 3, 2, 1]),
      "timestamp": np.array([10, 20, 30, 40, 11, 21, 31, 41]),
    },
  )


CLEAN = (rows(0, 1, 4, 5), rows(2, 6), rows(3, 7))


def test_clean_data_gives_none(data):
  report = leakage_report(
    data,
    *CLEAN,
    popularity_rows=CLEAN[0],
    sampler_excluded_rows=np.arange(8),
    negatives=(np.array([1, 2]), np.array([[3, 2], [3, 2]])),
  )
  assert report.leaks == ()
  assert {finding.verdict for finding in report.findings} == {"none"}
  assert {finding.count for finding in report.findings} == {0}


def test_what_nobody_told_is_unknown(data):
  report = leakage_report(data, *CLEAN)
  unknown = [f.check for f in report.findings if f.verdict == "unknown"]
  assert unknown == ["popularity", "negatives_drawable"]
  assert report.leaks == ()


def test_training_on_the_future(data):
  # Test at 20 and 21; training at 10, 30, 40, 11, 31, 41.
  report = leakage_report(data, rows(0, 2, 3, 4, 6, 7), rows(), rows(1, 5))
  order = report.finding("time_order")
  assert (order.verdict, order.count, order.total) == ("found", 2, 2)
  future = report.finding("future_training")
  assert (future.count, future.total) == (8, 12)
  assert future.share == pytest.approx(8 / 12)
  assert "66.7% of training" in future.text
  # Nothing is held out for validation, so nothing is wrong with it.
  assert report.finding("time_order", "validation").verdict == "none"
  assert report.finding("time_order", "validation").share == 0.0


def test_same_second_is_no_future(data):
  same = Interactions.from_columns(
    "same",
    {
      "user_id": data.user_id,
      "item_id": data.item_id,
      "timestamp": np.full(8, 7),
    },
  )
  assert leakage_report(same, *CLEAN).finding("time_order").count == 0


def test_time_order_against_a_loop():
  random = np.random.default_rng(0)
  time = np.sort(random.integers(30, size=60))
  data = Interactions.from_columns(
    "random",
    {
      "user_id": np.ones(60, np.int64),
      "item_id": random.integers(1, 9, size=60),
      "timestamp": time,
    },
  )
  parts = [np.sort(p) for p in np.split(random.permutation(60), [40, 50])]
  report = leakage_report(data, *parts)
  for part, held_out in (("validation", parts[1]), ("test", parts[2])):
    pairs = sum(time[t] > time[h] for t in parts[0] for h in held_out)
    early = sum(time[h] < time[parts[0]].max() for h in held_out)
    assert report.finding("future_training", part).count == pairs
    assert report.finding("time_order", part).count == early
    known = parts[0] if part == "validation" else np.concatenate(parts[:2])
    own = sum(data.item_id[h] in data.item_id[known] for h in held_out)
    assert report.finding("own_history", part).count == own


def test_without_timestamps_time_is_unknown(data):
  timeless = Interactions.from_columns(
    "timeless", {"user_id": data.user_id, "item_id": data.item_id}
  )
  report = leakage_report(timeless, *CLEAN)
  for check in ("time_order", "future_training"):
    finding = report.finding(check)
    assert (finding.verdict, finding.count) == ("unknown", None)
    assert finding.share is None
  assert "without timestamps" in report.lines()[1]


def test_target_in_its_own_history():
  data = Interactions.from_columns(
    "repeats",
    {
      "user_id": np.array([1, 1, 1, 2, 2, 2]),
      "item_id": np.array([5, 6, 5, 6, 7, 7]),
    },
  )
  report = leakage_report(data, rows(0, 3), rows(1, 4), rows(2, 5))
  # User 1 comes back to a training item, user 2 to one of validation.
  assert report.finding("own_history", "test").count == 2
  assert report.finding("own_history", "validation").count == 0
  assert report.leaks == ("own_history", "vocabulary")


def test_events_in_two_parts(data):
  report = leakage_report(data, rows(0, 1, 3, 4, 5), rows(2, 6), rows(3, 6, 7))
  finding = report.finding("two_parts")
  assert (finding.verdict, finding.count, finding.total) == ("found", 2, 8)
  # An event that is trained on stands in its own history as well.
  assert report.finding("own_history", "test").count == 2


def test_vocabulary_of_test_rows(data):
  train = rows(0, 1)  # Items 1 and 2; 3 and 4 are held out.
  report = leakage_report(data, train, rows(2), rows(3))
  vocabulary = report.finding("vocabulary")
  assert (vocabulary.verdict, vocabulary.count) == ("found", 2)
  cold = report.finding("cold_items", "test")
  assert (cold.verdict, cold.count, cold.total) == ("note", 1, 1)
  assert "cold_items" not in report.leaks
  fitted = leakage_report(data, train, rows(2), rows(3), vocabulary_rows=train)
  assert fitted.finding("vocabulary").verdict == "none"


def test_popularity_of_test_rows(data):
  report = leakage_report(data, *CLEAN, popularity_rows=np.arange(7))
  finding = report.finding("popularity")
  assert (finding.verdict, finding.count, finding.total) == ("found", 3, 4)


def test_test_positives_as_negatives(data):
  # A sampler that leaves out only the training items may draw both targets.
  report = leakage_report(
    data,
    *CLEAN,
    sampler_excluded_rows=CLEAN[0],
    negatives=(np.array([2, 1, 2]), np.array([[3, 1], [4, 4], [4, 0]])),
  )
  drawable = report.finding("negatives_drawable")
  assert (drawable.verdict, drawable.count) == ("found", 2)
  drawn = report.finding("negatives_drawn")
  # Users 2 and 1 have the test items 1 and 4: one hit, two hits, none.
  assert (drawn.verdict, drawn.count, drawn.total) == ("found", 3, 6)


def test_counts_of_positives_against_sets():
  random = np.random.default_rng(1)
  data = Interactions.from_columns(
    "random",
    {
      "user_id": random.integers(1, 6, size=80),
      "item_id": random.integers(1, 12, size=80),
    },
  )
  pair = lambda row: (data.user_id[row], data.item_id[row])
  positives, excluded = np.arange(0, 80, 3), np.arange(0, 80, 4)
  wanted = {pair(row) for row in positives} - {pair(row) for row in excluded}
  assert drawable_positives(data, positives, excluded) == len(wanted)
  users = random.integers(1, 6, size=20)
  drawn = random.integers(0, 12, size=(20, 7))
  known = {pair(row) for row in positives}
  hits = sum((u, i) in known for u, row in zip(users, drawn) for i in row)
  assert positives_among_negatives(data, positives, users, drawn) == hits


def test_the_ncf_lists_hold_156_positives(data_dir):
  folder = data_dir / "ncf-ml-1m"
  test = np.loadtxt(folder / "ml-1m.test.rating", dtype=np.int64)[:, :2] + 1
  lists = [
    line.split("\t")[1:]
    for line in (folder / "ml-1m.test.negative").read_text().splitlines()
  ]
  data = Interactions.from_columns(
    "ncf", {"user_id": test[:, 0], "item_id": test[:, 1]}
  )
  # The known flaw of these lists; see the folder's description.
  drawn = np.array(lists, np.int64) + 1
  users = test[:, 0]
  num_rows = np.arange(len(data))
  assert positives_among_negatives(data, num_rows, users, drawn) == 156


def test_report_as_text_and_json(data):
  report = leakage_report(data, *CLEAN)
  lines = report.lines()
  assert lines[0] == (
    "none    two_parts: 0 of 8 events stand in more than one part"
  )
  assert len(lines) == len(report.findings)
  loaded = json.loads(json.dumps(report.to_dict()))
  assert loaded["leaks"] == []
  assert loaded["findings"][1]["check"] == "time_order"
  assert loaded["findings"][1]["share"] == 0.0
  with pytest.raises(KeyError, match="own_history"):
    report.finding("own_histroy")
