import numpy as np
import pytest

from recjax.data.interactions import Interactions
from recjax.data.leakage import leakage_report
from recjax.data.split import (
  TEST,
  TRAIN,
  VALIDATION,
  Split,
  make_split,
  split_by_part,
)
from recjax.errors import DataError


def toy(name, columns, **more):
  """Interactions of lists."""
  columns = {key: np.array(values) for key, values in columns.items()}
  return Interactions.from_columns(name, columns, **more)


@pytest.fixture
def data():
  return toy("toy", {"user_id": [1, 1, 1, 2], "item_id": [1, 2, 3, 1]})


def test_split_by_part(data):
  part = np.array([TRAIN, VALIDATION, TEST, TRAIN])
  split = split_by_part("by hand", data, part)
  assert split.train.tolist() == [0, 3]
  assert split.validation.tolist() == [1]
  assert split.test.tolist() == [2]
  assert split.context.tolist() == []
  assert split.name == "by hand"


def test_an_empty_part_that_is_needed(data):
  part = np.array([TRAIN, TRAIN, TEST, TRAIN])
  with pytest.raises(DataError, match="validation set of 'toy' is empty"):
    split_by_part("by hand", data, part)
  split = split_by_part("by hand", data, part, (TRAIN, TEST))
  assert len(split.validation) == 0


def test_make_split_reports_leaks(data):
  rows = {
    "train": np.array([0, 1, 3]),
    "validation": np.zeros(0, np.int64),
    "test": np.array([1, 2]),
  }
  split = make_split("overlapping", data, rows)
  assert split.leakage.leaks == ("two_parts", "own_history", "vocabulary")


@pytest.mark.parametrize(
  "bad", [np.array([1, 0]), np.array([1, 1]), np.array([0, 1], np.int32)]
)
def test_rows_must_be_sorted_int64(data, bad):
  good = np.array([2])
  report = leakage_report(data, good, good, good)
  with pytest.raises(DataError, match="rows of validation must be int64"):
    Split("bad", good, bad, good, report)
