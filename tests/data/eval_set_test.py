"""Histories and targets against a small split written out by hand."""

import numpy as np
import pytest

from recjax.data.eval_set import EvalSet, make_eval_set
from recjax.data.interactions import Interactions
from recjax.data.leakage import leakage_report
from recjax.data.ragged import Ragged
from recjax.data.splits import Split
from recjax.errors import ConfigError, DataError


@pytest.fixture
def data():
  # User 1: items 1 2 3 4; user 3: 5 6 7; user 4: 8 9; user 2 has no row.
  return Interactions.from_columns(
    "toy",
    {
      "user_id": np.array([1, 1, 1, 1, 3, 3, 3, 4, 4]),
      "item_id": np.array([1, 2, 3, 4, 5, 6, 7, 8, 9]),
    },
  )


def _split(data, train, validation, test):
  parts = [np.array(part, np.int64) for part in (train, validation, test)]
  return Split("by hand", *parts, leakage_report(data, *parts))


def _lists(ragged):
  return [ragged[row].tolist() for row in range(len(ragged))]


def test_validation_and_test(data):
  split = _split(data, [0, 1, 4, 7, 8], [2, 5], [3, 6])
  validation = make_eval_set(data, split, "validation")
  assert validation.user_id.tolist() == [1, 3]
  assert _lists(validation.history) == [[1, 2], [5]]
  assert _lists(validation.targets) == [[3], [6]]
  assert _lists(validation.train_items) == [[1, 2], [5]]

  test = make_eval_set(data, split, "test")
  assert len(test) == 2
  assert _lists(test.history) == [[1, 2, 3], [5, 6]]
  assert _lists(test.targets) == [[4], [7]]
  assert _lists(test.train_items) == [[1, 2], [5]]


def test_histories_are_in_time_order_even_if_parts_interleave(data):
  split = _split(data, [1, 2, 4], [0, 5], [3, 6, 7])
  test = make_eval_set(data, split, "test")
  assert test.user_id.tolist() == [1, 3, 4]
  assert _lists(test.history) == [[1, 2, 3], [5, 6], []]
  assert _lists(test.targets) == [[4], [7], [8]]


def test_context_rows_count_where_they_precede_the_targets(data):
  # User 1 is not trained on: items 1 and 3 are context, 2 and 4 targets.
  parts = [np.array(part, np.int64) for part in ([4, 5, 7], [1], [3, 6])]
  context = np.array([0, 2], np.int64)
  split = Split("c", *parts, leakage_report(data, *parts), context=context)
  validation = make_eval_set(data, split, "validation")
  assert _lists(validation.history) == [[1]]
  assert _lists(validation.train_items) == [[]]
  test = make_eval_set(data, split, "test")
  assert _lists(test.history) == [[1, 2, 3], [5, 6]]
  assert _lists(test.train_items) == [[], [5, 6]]


def test_take(data):
  split = _split(data, [0, 1, 4, 7, 8], [2, 5], [3, 6])
  taken = make_eval_set(data, split, "test").take(np.array([1]))
  assert taken.user_id.tolist() == [3]
  assert _lists(taken.history) == [[5, 6]] and _lists(taken.targets) == [[7]]
  assert _lists(taken.train_items) == [[5]]


def test_rows_are_those_of_the_first_targets(data):
  split = _split(data, [1, 2, 4], [5], [0, 3, 6, 7])
  test = make_eval_set(data, split, "test")
  assert test.user_id.tolist() == [1, 3, 4]
  assert _lists(test.targets) == [[1, 4], [7], [8]]
  assert test.rows.tolist() == [0, 6, 7]
  assert test.take(np.array([2, 0])).rows.tolist() == [7, 0]


def test_one_query_an_event(data):
  split = _split(data, [1, 2, 4], [5], [0, 3, 6, 7])
  test = make_eval_set(data, split, "test", per="event")
  assert test.user_id.tolist() == [1, 1, 3, 4]
  assert test.rows.tolist() == [0, 3, 6, 7]
  assert _lists(test.targets) == [[1], [4], [7], [8]]
  # What a model may see hangs on the user alone.
  assert _lists(test.history) == [[2, 3], [2, 3], [5, 6], []]
  assert _lists(test.train_items) == [[2, 3], [2, 3], [5], []]
  validation = make_eval_set(data, split, "validation", per="event")
  assert _lists(validation.history) == [[5]]


def test_rows_may_be_unknown():
  nobody = Ragged(np.zeros(0, int), np.zeros(3, int))
  users = EvalSet(np.array([1, 2]), nobody, nobody, nobody)
  assert len(users.take(np.array([1])).rows) == 0


def test_an_empty_part_and_an_unknown_part(data):
  split = _split(data, [0, 1, 4, 7, 8], [], [3, 6])
  with pytest.raises(DataError, match="validation set of 'toy' is empty"):
    make_eval_set(data, split, "validation")
  with pytest.raises(ConfigError, match="part must be one of"):
    make_eval_set(data, split, "tests")
  with pytest.raises(ConfigError, match="per must be one of 'user', 'event'"):
    make_eval_set(data, split, "test", per="row")
