"""Ragged rows against lists of lists."""

import numpy as np
import pytest

from recjax.data.ragged import Ragged

ROWS = [[3, 1], [], [5], [2, 2, 9], []]


@pytest.fixture
def ragged():
  values = np.array(sum(ROWS, []), np.int32)
  return Ragged(values, np.array([0, 2, 2, 3, 6, 6]))


def _lists(ragged):
  return [ragged[row].tolist() for row in range(len(ragged))]


def test_rows_lengths_and_ids(ragged):
  assert len(ragged) == 5
  assert _lists(ragged) == ROWS
  assert ragged.lengths.tolist() == [2, 0, 1, 3, 0]
  assert ragged.row_ids.tolist() == [0, 0, 2, 3, 3, 3]


def test_from_pairs_keeps_the_order_inside_a_row():
  row_ids = np.array([3, 0, 2, 3, 0, 3])
  values = np.array([2, 3, 5, 2, 1, 9], np.int32)
  built = Ragged.from_pairs(row_ids, values, 5)
  assert _lists(built) == ROWS
  assert built.offsets.dtype == np.int64
  assert built.values.dtype == np.int32


def test_from_pairs_without_pairs():
  built = Ragged.from_pairs(np.zeros(0, int), np.zeros(0, np.int32), 3)
  assert _lists(built) == [[], [], []]


@pytest.mark.parametrize("rows", [[3, 0], [1, 1, 3], [], [4, 3, 2, 1, 0]])
def test_take(ragged, rows):
  taken = ragged.take(np.array(rows, int))
  assert _lists(taken) == [ROWS[row] for row in rows]


@pytest.mark.parametrize("num", [0, 1, 2, 3, 10])
def test_last(ragged, num):
  assert _lists(ragged.last(num)) == [
    row[max(len(row) - num, 0) :] for row in ROWS
  ]


@pytest.mark.parametrize("width", [1, 3, 4])
def test_padded(ragged, width):
  expected = [(row + [0] * width)[:width] for row in ROWS]
  padded = ragged.padded(width)
  assert padded.tolist() == expected and padded.dtype == np.int32


def test_padded_fill(ragged):
  assert ragged.padded(2, -1)[1].tolist() == [-1, -1]


def test_random_pairs_against_lists():
  random = np.random.default_rng(0)
  row_ids = random.integers(0, 40, 500)
  values = random.integers(0, 1000, 500)
  rows = [values[row_ids == row].tolist() for row in range(50)]
  built = Ragged.from_pairs(row_ids, values, 50)
  assert _lists(built) == rows
  order = random.integers(0, 50, 80)
  assert _lists(built.take(order).last(3)) == [rows[row][-3:] for row in order]
