import dataclasses
import pathlib

import numpy as np
import pytest

from recjax.data.eval_set import make_eval_set
from recjax.data.planted_truth import bayes_optimal, popularity_floor
from recjax.data.sources.planted import PlantedSource
from recjax.data.splits import LeaveOneOut
from recjax.errors import ConfigError

NOWHERE = pathlib.Path("no such folder")


@pytest.fixture(scope="module")
def source():
  return PlantedSource(num_users=800, seed=4)


@pytest.fixture(scope="module")
def interactions(source):
  return source.read(NOWHERE)


def test_rows_are_the_histories_of_the_process(source, interactions):
  drawn = source.process().sample(800, source.mean_len, source.min_len, seed=4)
  np.testing.assert_array_equal(interactions.item_id, drawn.values)
  np.testing.assert_array_equal(interactions.user_id, drawn.row_ids + 1)
  np.testing.assert_array_equal(interactions.user_offsets[1:], drawn.offsets)
  assert interactions.num_users == 800 and interactions.num_items == 300
  assert source.files(NOWHERE) == ()


def test_items_have_their_cluster(source, interactions):
  assert interactions.items is not None
  np.testing.assert_array_equal(
    interactions.items["cluster"].to_numpy(),
    source.process().cluster_of_item[1:],
  )
  assert interactions.items["raw_id"][6].as_py() == "7"


def test_times_grow_within_a_user_and_start_within_a_year(interactions):
  users, time = interactions.user_id, interactions.timestamp
  assert time is not None
  same_user = users[1:] == users[:-1]
  assert (np.diff(time)[same_user] > 0).all()
  first = time[interactions.user_offsets[1:-1]]
  year = (first - np.datetime64("2024-01-01", "s").astype(int)) / 86400
  assert (year >= 0).all() and (year < 366 + 40).all()
  gaps = np.diff(time)[same_user]
  assert abs(gaps.mean() / 86400 - 2.0) < 4 * 2.0 / np.sqrt(len(gaps))


def test_same_settings_same_data(source, interactions):
  assert source.read(NOWHERE).fingerprint == interactions.fingerprint
  other = dataclasses.replace(source, seed=5).read(NOWHERE)
  assert other.fingerprint != interactions.fingerprint


def test_leave_one_out_keeps_the_truth_exact(source, interactions):
  split = LeaveOneOut()(interactions)
  counts = np.bincount(interactions.item_id[split.train], minlength=301)
  for part in ("validation", "test"):
    eval_set = make_eval_set(interactions, split, part)
    process = source.process()
    best = bayes_optimal(process, eval_set)
    floor = popularity_floor(process, eval_set, counts)
    assert floor.expected["ndcg@10"] < best.expected["ndcg@10"] / 2
    error = np.sqrt(0.25 / 800)
    for name, value in best.expected.items():
      assert abs(best.measured[name] - value) < 4 * error


@pytest.mark.parametrize(
  "settings, text",
  [
    ({"num_users": 0}, "num_users"),
    ({"mean_len": 3.0}, "mean_len"),
    ({"min_len": 400}, "min_len"),
    ({"noise": 2.0}, "noise"),
  ],
)
def test_wrong_settings_are_refused(settings, text):
  with pytest.raises(ConfigError, match=text):
    PlantedSource(**settings)
