"""Positions of rows are read as they are, or told to be wrong."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.examples import Examples
from recjax.data.propensities.positions import (
  position_means,
  positions_of,
  shown_rows,
)
from recjax.errors import DataError


def rows(position, click=(1, 0, 1, 1), weight=None):
  table = {"position": pa.array(position), "click": pa.array(click)}
  table["main"] = pa.array([0.0] * len(position))
  if weight is not None:
    table["w"] = pa.array(weight)
  return Examples.from_table(
    "rows", pa.table(table), label="main", weight="w" if weight else ""
  )


def test_sums_by_position_are_weighted_and_leave_out_unknown_clicks():
  examples = rows([1, 2, 1, 2], [1, None, 0, 1], [2.0, 5.0, 1.0, 3.0])
  found = shown_rows(
    examples, label="click", column="position", num_positions=2
  )
  np.testing.assert_array_equal(found.position, [1, 2, 1, 2])
  np.testing.assert_array_equal(found.weight, [2, 0, 1, 3])
  np.testing.assert_array_equal(found.by_position(found.click), [2, 3])
  np.testing.assert_array_equal(found.by_position(np.ones(4)), [3, 3])


@pytest.mark.parametrize(
  "position,message",
  [
    ([1, 2, 0, 2], r"row 2: column 'position' holds 0; .* from 1 to 2"),
    ([1, 3, 1, 3], r"row 1: column 'position' holds 3.*2 such rows"),
    ([1, 2, 1.5, 2], r"row 2: column 'position' holds 1.5"),
    ([1, None, 1, 2], r"row 1: column 'position' holds None"),
  ],
)
def test_a_position_out_of_range_is_told_with_its_row(position, message):
  with pytest.raises(DataError, match=message):
    positions_of(rows(position), "position", 2)


def test_a_missing_column_is_told():
  with pytest.raises(DataError, match="no column 'positon'.*Did you mean"):
    positions_of(rows([1, 1, 1, 1]), "positon", 2)


@pytest.mark.parametrize(
  "position,click,message",
  [
    ([1, 1, 3, 3], (1, 0, 1, 1), "position 2 has no row"),
    ([1, 2, 3, 3], (1, None, 1, 1), "position 2 has no row"),
    ([1, 2, 3, 3], (1, 0, 1, 1), "position 2 has no click"),
  ],
)
def test_a_position_that_tells_nothing_is_told(position, click, message):
  with pytest.raises(DataError, match=message):
    shown_rows(
      rows(position, click), label="click", column="position", num_positions=3
    )


def test_means_over_blocks():
  columns = {
    "position": np.array([1, 3, 1, 2, 3], np.float32),
    "x": np.array([1, 2, 3, 4, 10], np.float32),
    "seen": np.array([0.8, 0.2, 0.8, 0.4, 0.4], np.float32),
  }
  blocks = [
    {name: values[rows] for name, values in columns.items()}
    for rows in (slice(0, 2), slice(2, 5))
  ]
  means, curve = position_means(iter(blocks), "position", 4, ("x",), "seen")
  assert means == {"x": 4.0}
  np.testing.assert_allclose(curve, [1, 0.5, 0.375, 0], rtol=1e-6)
  assert position_means(iter(blocks), "position", 4) == ({}, None)


@pytest.mark.parametrize(
  ("position", "seen", "message"),
  [
    ([2, 3], [0.5, 0.4], "'seen' is not known there: no row .* 'position' 1"),
    ([1, 3], [0.0, 0.4], "'seen' holds 0 where 'position' is 1"),
  ],
)
def test_a_truth_without_a_first_position_is_told(position, seen, message):
  columns = {"position": position, "seen": seen}
  block = {name: np.array(x, np.float32) for name, x in columns.items()}
  with pytest.raises(DataError, match=message):
    position_means([block], "position", 3, truth="seen")
