import itertools

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.column_values import ColumnValues, is_list

NAN = float("nan")


def values_of(values: ColumnValues) -> list:
  """All values in order, None for missing ones."""
  distinct = values.distinct.to_pylist()
  return [None if code < 0 else distinct[code] for code in values.codes]


@pytest.mark.parametrize(
  ("raw", "kind", "expected"),
  [
    ([3, None, 3, -1], pa.int16(), [3, None, 3, -1]),
    (["b", "", None, "a", "b"], pa.string(), ["b", None, None, "a", "b"]),
    (["b", "", None], pa.large_string(), ["b", None, None]),
    ([0.5, NAN, None, 0.5], pa.float32(), [0.5, None, None, 0.5]),
    ([True, None, False], pa.bool_(), [True, None, False]),
    ([None, None], pa.string(), [None, None]),
    ([], pa.int64(), []),
  ],
)
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_values_are_numbered_whatever_the_chunks(raw, kind, expected, cut):
  column = pa.chunked_array([raw[:cut], raw[cut:]], kind)
  values = ColumnValues.of_column(column)
  assert values_of(values) == expected
  assert values.rows.tolist() == list(range(len(raw)))
  known = {value for value in expected if value is not None}
  counted = {
    value: count
    for value, count in zip(values.distinct.to_pylist(), values.counts())
    if count
  }
  assert counted == {value: expected.count(value) for value in known}


def test_dictionaries_that_differ_are_one_column():
  chunks = [
    pa.DictionaryArray.from_arrays([0, 1, None], ["a", "b"]),
    pa.DictionaryArray.from_arrays([0, 1], ["b", ""]),
  ]
  values = ColumnValues.of_column(pa.chunked_array(chunks))
  assert values_of(values) == ["a", "b", None, "b", None]
  assert values.codes[1] == values.codes[3]


LISTS = [[1, 2], None, [], [2, None], [2, 1], [1, 2], [1], [None, 2], [1, 1]]


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_the_values_of_lists(kind):
  array = pa.array([[9], *LISTS], kind(pa.int32()))[1:]
  column = pa.chunked_array([array[:4], array[4:]])
  assert is_list(column.type)
  values = ColumnValues.of_column(column)
  rows = [row for row, entry in enumerate(LISTS) for _ in entry or ()]
  assert values.rows.tolist() == rows
  assert values_of(values) == [x for entry in LISTS for x in entry or ()]
  chosen = np.array([x == 1 for x in values.distinct.to_pylist()])
  expected = [1 in (entry or ()) for entry in LISTS]
  assert values.rows_with(chosen).tolist() == expected
  # Rows 2 to 5: none, of the two, in two orders.
  part = values.part(2, 6)
  assert part.num_rows == 4 and part.rows.tolist() == [1, 1, 2, 2, 3, 3]
  assert values_of(part) == [2, None, 2, 1, 1, 2]


def test_fixed_and_nested_lists():
  fixed = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2))
  values = ColumnValues.of_column(pa.chunked_array([fixed]))
  assert values.rows.tolist() == [0, 0, 2, 2]
  assert values_of(values) == [1, 2, 3, 4]
  nested = pa.array([[["a"], ["b", "c"]], [], [[], ["a"]]])
  values = ColumnValues.of_column(pa.chunked_array([nested]))
  assert values.rows.tolist() == [0, 0, 0, 2]
  assert values_of(values) == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
  "rows", [LISTS, [[], None], [1, None, 2, 1, None], ["a", "", "b", None]]
)
def test_rows_have_one_key_where_they_are_equal(rows):
  column = pa.chunked_array([pa.array(rows)])
  if column.type == pa.list_(pa.null()):
    column = column.cast(pa.list_(pa.int8()))
  keys = ColumnValues.of_column(column).row_keys()
  for one, other in itertools.combinations(range(len(rows)), 2):
    # What is missing is missing: None, an empty text and an empty list.
    equal = (rows[one] or None) == (rows[other] or None)
    assert (keys[one] == keys[other]) == equal, (rows[one], rows[other])


def test_lists_of_one_value_are_no_special_case():
  # As many values as rows, but not one in each.
  lists = [[1], [], [1, 2], [1]]
  column = pa.chunked_array([pa.array(lists)])
  keys = ColumnValues.of_column(column).row_keys()
  assert keys[0] == keys[3] and len(set(keys.tolist())) == 3
