"""Splits against loops over users and the files of papers."""

import dataclasses
import logging

import numpy as np
import pytest

from recjax.data.interactions import Interactions
from recjax.data.sources.sequence_file import SequenceFile
from recjax.data.splits import (
  GivenFiles,
  GlobalTime,
  LeaveOneOut,
  PerUserRatio,
  RandomSplit,
)
from recjax.errors import ConfigError, DataError


def toy(name, columns, **more):
  """Interactions of lists."""
  columns = {key: np.array(values) for key, values in columns.items()}
  return Interactions.from_columns(name, columns, **more)


def make(lengths, seed=0, timed=True):
  """Users of given history lengths; time runs over all of them."""
  random = np.random.default_rng(seed)
  users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
  columns = {
    "user_id": random.permutation(users),
    "item_id": random.integers(1, 30, size=len(users)),
  }
  if timed:
    columns["timestamp"] = random.integers(1000, size=len(users))
  return toy("made", columns, num_users=len(lengths))


def check_partition(split, total):
  everything = np.concatenate([split.train, split.validation, split.test])
  assert sorted(everything.tolist()) == list(range(total))
  for part in (split.train, split.validation, split.test):
    assert part.dtype == np.int64
    assert (np.diff(part) > 0).all()


@pytest.mark.parametrize("min_actions", [3, 5])
def test_leave_one_out_equals_a_loop(min_actions):
  data = make([4, 1, 3, 0, 2, 9, 5])
  expected = {"train": [], "validation": [], "test": []}
  for user in range(1, 8):
    mine = np.flatnonzero(data.user_id == user).tolist()
    if len(mine) < min_actions:
      expected["train"] += mine
    else:
      expected["train"] += mine[:-2]
      expected["validation"].append(mine[-2])
      expected["test"].append(mine[-1])
  split = LeaveOneOut(min_actions)(data)
  check_partition(split, len(data))
  for part, rows in expected.items():
    assert getattr(split, part).tolist() == rows
  assert split.name == f"leave_one_out(min_actions={min_actions})"


def test_leave_one_out_without_timestamps_takes_the_order_of_rows():
  data = toy("ordered", {"user_id": [1, 2] * 3, "item_id": [5, 1, 4, 2, 3, 3]})
  split = LeaveOneOut()(data)
  assert data.item_id[split.test].tolist() == [3, 3]
  assert data.item_id[split.validation].tolist() == [4, 2]


def test_leave_one_out_warns_that_it_leaks_across_time(caplog):
  data = toy(
    "two",
    {
      "user_id": [1, 1, 1, 2, 2, 2],
      "item_id": [1, 2, 3, 1, 2, 3],
      "timestamp": [1, 2, 3, 11, 12, 13],
    },
  )
  with caplog.at_level(logging.WARNING):
    LeaveOneOut()(data)
  # User 1 is tested at 3, and user 2 trained on at 11: one of two tests.
  text = caplog.text
  assert "leaks across time" in text and "50.0%" in text
  assert "1 of 2 test events" in text
  assert "in the mean 25.0% of training" in text


def test_leave_one_out_says_that_it_can_not_tell(caplog):
  with caplog.at_level(logging.WARNING):
    LeaveOneOut()(make([3, 4], timed=False))
  assert "has no timestamps, so nobody can tell" in caplog.text


def test_no_warning_where_nothing_leaks(caplog):
  with caplog.at_level(logging.WARNING):
    LeaveOneOut()(make([5]))
    GlobalTime()(make([40, 50]))
  assert caplog.text == ""


def test_short_users_are_counted_or_refused(caplog):
  data = make([4, 1, 3, 2])
  with caplog.at_level(logging.WARNING):
    LeaveOneOut()(data)
  assert "2 of 4 users" in caplog.text
  assert "fewer than 3 events; the first is user 2" in caplog.text
  with pytest.raises(DataError, match="min_user_count"):
    LeaveOneOut(short_users="error")(data)
  with pytest.raises(DataError, match="too few events for each part"):
    PerUserRatio(short_users="error")(data)


def test_nobody_is_long_enough():
  with pytest.raises(DataError, match="the longest history has 2"):
    LeaveOneOut()(make([2, 1, 2]))


def test_global_time_parts_follow_each_other():
  data = make([30, 40, 50, 1], seed=2)
  split = GlobalTime(validation_fraction=0.2, test_fraction=0.1)(data)
  check_partition(split, len(data))
  time = data.timestamp
  assert time is not None
  assert time[split.train].max() < time[split.validation].min()
  assert time[split.validation].max() < time[split.test].min()
  # Events of one second stay together, and there may be a few of these.
  assert abs(len(split.test) - 12.1) < 3
  assert abs(len(split.validation) - 24.2) < 4
  assert split.leakage.finding("time_order").verdict == "none"
  assert split.name == (
    "global_time(validation_fraction=0.2, test_fraction=0.1)"
  )


def test_global_time_keeps_a_second_together():
  time = [1, 2, 3, 4, 5, 6, 7, 9, 9, 9]
  data = toy(
    "tied", {"user_id": [1] * 10, "item_id": [1] * 10, "timestamp": time}
  )
  # The tenth event opens the test, and takes along those of its second.
  split = GlobalTime(0.3, 0.1)(data)
  assert split.validation.tolist() == [6]
  assert split.test.tolist() == [7, 8, 9]
  with pytest.raises(DataError, match="validation set of 'tied' is empty"):
    GlobalTime(0.05, 0.1)(
      toy(
        "tied",
        {
          "user_id": [1] * 10,
          "item_id": [1] * 10,
          "timestamp": [1] * 5 + [2] * 5,
        },
      )
    )


def test_global_time_of_dates():
  day = 86_400
  data = toy(
    "days",
    {
      "user_id": [1, 1, 1, 2],
      "item_id": [1, 2, 3, 4],
      "timestamp": [0, day - 1, day, 3 * day],
    },
  )
  split = GlobalTime(validation_from="1970-01-02", test_from=2 * day)(data)
  assert split.train.tolist() == [0, 1]
  assert split.validation.tolist() == [2]
  assert split.test.tolist() == [3]
  assert split.name == ("global_time(validation_from=86400, test_from=172800)")
  with pytest.raises(DataError, match="train set of 'days' is empty"):
    GlobalTime(validation_from=-5, test_from=2 * day)(data)


def test_global_time_without_validation_or_without_timestamps():
  split = GlobalTime(validation_fraction=0.0)(make([30, 30]))
  assert len(split.validation) == 0 and len(split.test)
  with pytest.raises(DataError, match="needs timestamps"):
    GlobalTime()(make([30, 30], timed=False))


@pytest.mark.parametrize("train, validation", [(0.8, 0.1), (0.5, 0.25)])
def test_per_user_ratio_equals_a_loop(train, validation):
  data = make([10, 1, 30, 7, 0, 23, 4], seed=1)
  split = PerUserRatio(train, validation)(data)
  check_partition(split, len(data))
  for user in range(1, 8):
    mine = np.flatnonzero(data.user_id == user)
    num = len(mine)
    # In whole percent, where rounding down has no error.
    in_validation = num * round(100 * validation) // 100
    in_test = num * (100 - round(100 * (train + validation))) // 100
    in_train = num - in_validation - in_test
    assert np.isin(mine, split.train).tolist() == (
      [True] * in_train + [False] * (num - in_train)
    )
    assert np.isin(mine, split.test).tolist() == (
      [False] * (num - in_test) + [True] * in_test
    )


def test_random_split_deals_out_by_seed():
  data = make([50, 50])
  split = RandomSplit(0.2, 0.1, seed=3)(data)
  check_partition(split, 100)
  assert (len(split.validation), len(split.test)) == (20, 10)
  again, other = RandomSplit(0.2, 0.1, 3)(data), RandomSplit(0.2, 0.1, 4)(data)
  assert again.test.tolist() == split.test.tolist()
  assert other.test.tolist() != split.test.tolist()
  assert split.name == "random(validation=0.2, test=0.1, seed=3)"
  assert split.leakage.finding("time_order").verdict == "found"
  with pytest.raises(DataError, match="test set of 'made' is empty"):
    RandomSplit(0.1, 0.001)(data)


@pytest.mark.parametrize(
  "splitter, settings, text",
  [
    (LeaveOneOut, {"min_actions": 2}, r"\[3, inf\]; got 2"),
    (LeaveOneOut, {"short_users": "eror"}, "Did you mean 'error'"),
    (GlobalTime, {"test_fraction": 0.0}, "must be above 0"),
    (GlobalTime, {"test_fraction": 1.2}, r"\[0, 1\]"),
    (GlobalTime, {"validation_fraction": 0.6, "test_fraction": 0.4}, "below 1"),
    (GlobalTime, {"test_from": 5}, "needs both"),
    (GlobalTime, {"validation_from": 9, "test_from": 5}, "later than"),
    (
      GlobalTime,
      {"validation_from": "yesterday", "test_from": 5},
      "'yesterday'",
    ),
    (PerUserRatio, {"train": 0.9, "validation": 0.1}, "below 1"),
    (RandomSplit, {"seed": -1}, "seed"),
    (GivenFiles, {}, "test must name a file"),
    (GivenFiles, {"test": "a", "layout": "pair"}, "Did you mean 'pairs'"),
    (GivenFiles, {"test": "a", "layout": "gsasrec"}, "train must name"),
  ],
)
def test_wrong_settings_are_refused(splitter, settings, text):
  with pytest.raises(ConfigError, match=text):
    splitter(**settings)


def test_given_files_name_paths_and_content(tmp_path):
  data = toy("given", {"user_id": [1, 1, 2], "item_id": [1, 2, 1]})
  (tmp_path / "test.txt").write_text("1 2\n")
  splitter = GivenFiles(test="test.txt", data_dir=str(tmp_path))
  split = splitter(data)
  assert split.test.tolist() == [1]
  assert split.train.tolist() == [0, 2]
  assert len(split.validation) == 0
  assert "test='test.txt', layout='pairs', sha256=" in split.name
  assert str(tmp_path) not in split.name
  (tmp_path / "test.txt").write_text("2 1\n")
  assert splitter(data).name != split.name


def test_splitters_are_frozen_and_comparable():
  assert LeaveOneOut() == LeaveOneOut(3)
  assert len({GlobalTime(), GlobalTime(), RandomSplit()}) == 2
  with pytest.raises(dataclasses.FrozenInstanceError):
    LeaveOneOut().min_actions = 4  # pyright: ignore


def test_leave_one_out_of_ml1m_is_the_split_of_the_papers(data_dir):
  data = SequenceFile("sasrec-ml-1m/ml-1m.txt").read(data_dir)
  split = LeaveOneOut()(data)
  assert (len(split.validation), len(split.test)) == (6040, 6040)
  # gSASRec's files were made from the same data: the same test items.
  folder = data_dir / "gsasrec-ml-1m"
  theirs = np.loadtxt(folder / "test" / "output.txt", dtype=np.int64)
  np.testing.assert_array_equal(data.item_id[split.test], theirs)


def test_gsasrec_folders(data_dir):
  data = SequenceFile("sasrec-ml-1m/ml-1m.txt").read(data_dir)
  split = GivenFiles(
    train="gsasrec-ml-1m/train",
    validation="gsasrec-ml-1m/val",
    test="gsasrec-ml-1m/test",
    layout="gsasrec",
    data_dir=str(data_dir),
  )(data)
  whole = LeaveOneOut()(data)
  np.testing.assert_array_equal(split.test, whole.test)
  assert len(split.validation) == 512
  assert np.isin(split.validation, whole.validation).all()
  # Lines of both, item by item: an answer from outside the reader.
  lines = (data_dir / "gsasrec-ml-1m/train/input.txt").read_text().split()
  np.testing.assert_array_equal(data.item_id[split.train], np.array(lines, int))
  targets = np.loadtxt(data_dir / "gsasrec-ml-1m/val/output.txt", dtype=int)
  np.testing.assert_array_equal(data.item_id[split.validation], targets)
  # Train, validation, test and what the inputs of the test show beyond.
  parts = [split.train, split.validation, split.test, split.context]
  assert sorted(np.concatenate(parts)) == list(range(len(data)))


def five_users(tmp_path) -> Interactions:
  user = np.repeat(np.arange(1, 6), [8, 8, 5, 8, 8])
  item = np.concatenate([np.arange(1, n + 1) for n in (8, 8, 5, 8, 8)])
  interactions = Interactions.from_columns(
    "x", {"user_id": user.astype(np.int32), "item_id": item.astype(np.int32)}
  )
  (tmp_path / "test").write_text("".join(f"{u} 1\n" for u in range(1, 6)))
  return interactions


@pytest.mark.parametrize(
  "held,expected",
  [
    # User 3 has four training rows, which is not more than twice two.
    ({"validation_per_user": 2}, [0, 2, 2, 0, 2, 2]),
    # 0.3 of 7 rows are 2.1, and of 4 they are 1.2.
    ({"validation_fraction": 0.3}, [0, 2, 2, 1, 2, 2]),
    # 0.25 of 7 are 1.75, of 4 they are 1.
    ({"validation_fraction": 0.25}, [0, 2, 2, 1, 2, 2]),
    ({"validation_fraction": 0.1}, [0, 1, 1, 0, 1, 1]),
    ({"validation_fraction": 0.5}, [0, 4, 4, 2, 4, 4]),
  ],
)
def test_given_files_hold_out_rows_for_validation(tmp_path, held, expected):
  interactions = five_users(tmp_path)
  make = lambda seed: GivenFiles(
    test="test", data_dir=str(tmp_path), seed=seed, **held
  )(interactions)
  split = make(0)
  num = np.bincount(interactions.user_id[split.validation], minlength=6)
  np.testing.assert_array_equal(num, expected)
  parts = [split.train, split.validation, split.test]
  np.testing.assert_array_equal(
    np.sort(np.concatenate(parts)), np.arange(len(interactions))
  )
  np.testing.assert_array_equal(split.validation, make(0).validation)
  assert np.any(split.validation != make(1).validation)
  assert split.name != make(1).name


def test_given_files_take_validation_in_one_way():
  with pytest.raises(ConfigError, match="validation and validation_fraction"):
    GivenFiles(test="test", validation="val", validation_fraction=0.1)
