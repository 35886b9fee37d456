import dataclasses
import json

import numpy as np
import pytest

from recjax.errors import ConfigError, DataError
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.feature_values import FeatureValues
from recjax.evaluation.judging import TargetValues
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.resampling import user_intervals
from recjax.evaluation.slices import (
  item_feature_slices,
  item_slices,
  popularity_ends,
  user_feature_slices,
  user_slices,
)

NUM_USERS, NUM_ITEMS = 80, 60
ITEM_COUNTS = np.concatenate([[0], np.arange(NUM_ITEMS) // 3])


@pytest.fixture
def result():
  """Numbers at random: up to 4 targets a user."""
  rng = np.random.default_rng(2)
  num_targets = rng.integers(1, 5, NUM_USERS)
  query = np.repeat(np.arange(NUM_USERS), num_targets)
  item_id = rng.integers(1, NUM_ITEMS + 1, len(query))
  draw = lambda: rng.random(len(query)).astype(np.float32)
  targets = TargetValues(query, item_id, {"recall@10": draw(), "mrr": draw()})
  per_user = {
    key: (np.bincount(query, values) / num_targets).astype(np.float32)
    for key, values in targets.values.items()
  }
  means = {key: float(values.mean()) for key, values in per_user.items()}
  return EvalResult(
    means,
    {},
    per_user,
    rng.permutation(NUM_USERS) + 1,
    {},
    NUM_USERS,
    0.0,
    Protocol(metrics=("recall@10", "mrr")),
    num_targets=num_targets,
    targets=targets,
  )


def test_slices_of_users(result):
  events = np.arange(NUM_USERS + 1) % 7
  table = user_slices(result, events, ends=(0, 3, 5, 9))
  labels = [each.label for each in table.slices]
  assert labels == ["0", "1-3", "4-5", "6-9", "10+"]
  for each, wanted in zip(table.slices, ([0], [1, 2, 3], [4, 5], [6], [])):
    rows = np.isin(events[result.user_id], wanted)
    assert each.num_users == rows.sum() and each.num_items is None
    assert each.num_targets == result.num_targets[rows].sum()
    for key, values in result.per_user.items():
      if not wanted:
        assert not each.metrics and not each.intervals
        continue
      assert each.metrics[key] == pytest.approx(values[rows].mean(), rel=1e-5)
      low, high = each.intervals[key]
      assert low < each.metrics[key] < high
  assert sum(each.num_users for each in table.slices) == NUM_USERS


def test_slices_of_items(result):
  table = item_slices(result, ITEM_COUNTS, ends=(0, 5, 12))
  targets = result.targets
  events = ITEM_COUNTS[targets.item_id]
  for each, (low, high) in zip(
    table.slices, [(0, 0), (1, 5), (6, 12), (13, 99)]
  ):
    rows = (events >= low) & (events <= high)
    users = result.user_id[targets.query[rows]]
    assert each.num_targets == rows.sum() > 0
    assert each.num_users == len(set(users.tolist()))
    assert each.num_items == len(set(targets.item_id[rows].tolist()))
    for key, values in targets.values.items():
      assert each.metrics[key] == pytest.approx(values[rows].mean(), rel=1e-5)
      # Targets of one user hang together.
      (interval,) = user_intervals(values[rows].astype(float)[None], users)
      assert each.intervals[key] == pytest.approx(interval)
  shares = [each.num_targets for each in table.slices]
  recalls = [each.metrics["recall@10"] for each in table.slices]
  whole = targets.values["recall@10"].mean()
  assert np.average(recalls, weights=shares) == pytest.approx(whole, rel=1e-5)


def test_one_slice_is_the_whole(result):
  (each,) = user_slices(result, np.zeros(NUM_USERS + 1, int), ends=()).slices
  assert each.label == "0+"
  assert each.metrics == pytest.approx(result.metrics)


def test_deciles_of_popularity():
  # 100 items with 1 to 100 events: tenths of ten items each.
  counts = np.random.default_rng(0).permutation(100) + 1
  counts = np.concatenate([[0], counts])
  ends = popularity_ends(counts)
  assert ends == (10, 20, 30, 40, 50, 60, 70, 80, 90)
  assert popularity_ends(np.append(counts, 0)) == (0, *ends)
  # Ties are never parted: half of the items have one event.
  tied = np.array([0, 1, 1, 1, 1, 2, 3, 4, 5])
  assert popularity_ends(tied, 4) == (1, 3)
  assert popularity_ends(np.array([0, 7, 7])) == ()
  with pytest.raises(DataError, match="no item has a training event"):
    popularity_ends(np.zeros(5, int))


def test_tables(result):
  table = item_slices(result, ITEM_COUNTS, ends=(0, 5, 40))
  rows = json.loads(json.dumps(table.rows()))
  assert [row["slice"] for row in rows] == ["0", "1-5", "6-40", "41+"]
  assert rows[1]["of"] == "items" and (rows[1]["low"], rows[1]["high"]) == (
    1,
    5,
  )
  assert set(rows[1]["metrics"]) == {"recall@10", "mrr"}
  assert rows[3]["num_targets"] == 0 and rows[3]["metrics"] == {}
  lines = table.markdown(["mrr"]).splitlines()
  assert lines[0] == "| training events | users | items | targets | mrr |"
  assert lines[1] == "| --- | ---: | ---: | ---: | ---: |"
  value, (low, high) = rows[1]["metrics"]["mrr"], rows[1]["intervals"]["mrr"]
  counts = f"{rows[1]['num_users']} | 15 | {rows[1]['num_targets']}"
  assert lines[3] == (
    f"| 1-5 | {counts} | {value:.4f} [{low:.4f}, {high:.4f}] |"
  )
  assert lines[5] == "| 41+ | 0 | 0 | 0 | – |"
  text = table.text().splitlines()
  assert text[0].split() == (
    "training events users items targets recall@10 mrr".split()
  )
  # Numbers end where their names end.
  assert len(text) == 5 and len({len(line) for line in text}) == 1
  users = user_slices(result, np.ones(NUM_USERS + 1, int), ends=(0,))
  assert "items" not in users.markdown()


def test_what_can_not_be_sliced(result):
  with pytest.raises(ConfigError, match="must increase"):
    user_slices(result, np.zeros(NUM_USERS + 1, int), ends=(5, 5))
  with pytest.raises(ConfigError, match="an end of a slice"):
    user_slices(result, np.zeros(NUM_USERS + 1, int), ends=(-1, 5))
  with pytest.raises(DataError, match="counts of users go up to id 9, but"):
    user_slices(result, np.zeros(10, int))
  with pytest.raises(DataError, match="counts of items go up to id 9, but"):
    item_slices(result, np.zeros(10, int))
  without = dataclasses.replace(result, targets=None)
  with pytest.raises(DataError, match="per_target=True"):
    item_slices(without, ITEM_COUNTS)


def test_slices_by_a_feature(result):
  colour = np.arange(max(NUM_USERS, NUM_ITEMS) + 1) % 4
  # Ids of rest 3 have no value; those of rest 2 have both.
  member = np.stack([np.isin(colour, [0, 2]), np.isin(colour, [1, 2])], 1)
  member[0] = False
  feature = FeatureValues("colour", ("red", "blue"), member)
  users = user_feature_slices(result, feature)
  assert (users.of, users.by) == ("users", "colour")
  inside = {"red": [0, 2], "blue": [1, 2], "(missing)": [3]}
  assert [each.label for each in users.slices] == list(inside)
  for each in users.slices:
    rows = np.isin(colour[result.user_id], inside[each.label])
    assert each.num_users == rows.sum() > 0 and each.low is None
    values = result.per_user["mrr"][rows]
    assert each.metrics["mrr"] == pytest.approx(values.mean(), rel=1e-5)
  items = item_feature_slices(result, feature)
  targets = result.targets
  for each in items.slices:
    rows = np.isin(colour[targets.item_id], inside[each.label])
    assert each.num_targets == rows.sum() > 0
    values = targets.values["mrr"][rows]
    assert each.metrics["mrr"] == pytest.approx(values.mean(), rel=1e-5)
  row = json.loads(json.dumps(items.rows()))[0]
  assert row["of"] == "items" and row["by"] == "colour"
  assert row["slice"] == "red" and "name" not in row
  assert items.markdown(["mrr"]).startswith("| colour | users | items |")
  few = FeatureValues("colour", ("red",), member[:9, :1])
  with pytest.raises(DataError, match="counts of users go up to id 8"):
    user_feature_slices(result, few)


def test_undefined_values_have_no_part(result):
  lift = np.full(NUM_USERS, np.nan, np.float32)
  lift[::2] = np.arange(0, NUM_USERS, 2)
  values = result.per_user | {"lift": lift, "never": np.full(NUM_USERS, np.nan)}
  events = np.arange(NUM_USERS + 1) % 2
  events[result.user_id[1::2]] = 0
  events[result.user_id[::2]] = 1
  table = user_slices(
    dataclasses.replace(result, per_user=values), events, ends=(0,), by="turns"
  )
  assert table.rows()[0]["by"] == "turns"
  cold, warm = table.slices
  assert set(cold.metrics) == set(result.per_user)
  assert list(warm.metrics) == [*result.per_user, "lift"]
  assert warm.metrics["lift"] == pytest.approx(NUM_USERS / 2 - 1)
  low, high = warm.intervals["lift"]
  assert low < warm.metrics["lift"] < high
  assert "–" in table.markdown(["lift"]).splitlines()[2]
