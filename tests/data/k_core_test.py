"""The k-core against dropping one user or item at a time."""

import collections

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.interactions import Interactions
from recjax.data.k_core import k_core
from recjax.errors import ConfigError, DataError


def _random(num_rows=400, seed=0):
  random = np.random.default_rng(seed)
  weights = 1 / np.arange(1, 61)
  return Interactions.from_columns(
    "random",
    {
      "user_id": random.integers(1, 81, num_rows),
      "item_id": random.choice(60, num_rows, p=weights / weights.sum()) + 1,
      "timestamp": random.integers(0, 1000, num_rows),
    },
    num_users=80,
    num_items=60,
  )


def _rows(data):
  """(raw user, raw item, time) of every row, in order."""
  user = [int(raw) for raw in data.users.column("raw_id").to_pylist()]
  item = [int(raw) for raw in data.items.column("raw_id").to_pylist()]
  ids = zip(data.user_id.tolist(), data.item_id.tolist())
  times = data.timestamp.tolist()
  return [(user[u - 1], item[i - 1], time) for (u, i), time in zip(ids, times)]


def _one_at_a_time(rows, min_user, min_item):
  while True:
    users = collections.Counter(row[0] for row in rows)
    items = collections.Counter(row[1] for row in rows)
    rare_users = [user for user, count in users.items() if count < min_user]
    rare_items = [item for item, count in items.items() if count < min_item]
    if rare_users:
      rows = [row for row in rows if row[0] != rare_users[0]]
    elif rare_items:
      rows = [row for row in rows if row[1] != rare_items[0]]
    else:
      return rows


@pytest.mark.parametrize("counts", [(5, 5), (3, 0), (0, 4), (1, 1), (2, 7)])
def test_against_dropping_one_at_a_time(counts):
  data = _random()
  ids = zip(data.user_id.tolist(), data.item_id.tolist())
  rows = [(u, i, t) for (u, i), t in zip(ids, data.timestamp.tolist())]
  core = k_core(data, *counts)
  assert _rows(core) == _one_at_a_time(rows, *counts)
  # New ids are dense, in the order of the old ones.
  assert np.unique(core.user_id).tolist() == list(range(1, core.num_users + 1))
  assert np.unique(core.item_id).tolist() == list(range(1, core.num_items + 1))
  raw = [int(text) for text in core.users.column("raw_id").to_pylist()]
  assert raw == sorted(raw)


def test_one_pass_is_not_enough():
  # Dropping item 9 leaves user 3 with one row; without it, item 2 is rare.
  pairs = [(1, 1), (2, 1), (1, 4), (2, 4), (3, 9), (3, 2), (1, 2)]
  users, items = np.array(pairs).T
  data = Interactions.from_columns("c", {"user_id": users, "item_id": items})
  core = k_core(data, 2, 2)
  assert core.users.column("raw_id").to_pylist() == ["1", "2"]
  assert core.items.column("raw_id").to_pylist() == ["1", "4"]
  assert len(core) == 4


def test_features_and_raw_ids_stay_with_their_ids():
  users = pa.table({"raw_id": ["x", "y", "z"], "age": [10, 20, 30]})
  columns = {
    "user_id": np.array([1, 2, 3, 3]),
    "item_id": np.array([1, 2, 1, 2]),
  }
  data = Interactions.from_columns("f", columns, users=users)
  core = k_core(data, 2, 0)
  assert core.users.to_pylist() == [{"raw_id": "z", "age": 30}]
  assert core.user_id.tolist() == [1, 1]


def test_zero_changes_nothing():
  data = _random()
  assert k_core(data, 0, 0) is data


def test_nothing_left_and_bad_counts():
  with pytest.raises(DataError, match="no interaction is left.*count=500"):
    k_core(_random(), 500, 0)
  with pytest.raises(ConfigError, match="min_item_count must lie in"):
    k_core(_random(), 1, -1)
