import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from recjax.errors import DataError
from recjax.features import raw_columns as raw
from recjax.features.raw_columns import Place

PLACE = Place("f", "c", 100)


@pytest.mark.parametrize(
  ("array", "expected"),
  [
    (pa.array([1, None, 3], pa.int64()), [1, None, 3]),
    (pa.array([1, None, 3], pa.int8()), [1, None, 3]),
    (pa.array([1, 2**64 - 1], pa.uint64()), [1, -1]),
    (pa.array([True, None, False]), [1, None, 0]),
    (pa.array([3.0, None, float("nan"), -2.0]), [3, None, None, -2]),
    (pa.array(["a", None, ""]), ["a", None, ""]),
    (pa.array(["a"], pa.large_string()), ["a"]),
    (pa.array([b"a"], pa.binary()), ["a"]),
    (pa.array([None, None]), [None, None]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.array([4, 4], pa.int16()).dictionary_encode(), [4, 4]),
  ],
)
def test_values(array, expected):
  values = raw.as_values(array, PLACE)
  assert values.to_pylist() == expected
  present = [value for value in expected if value is not None]
  if present:
    kind = "integer" if isinstance(present[0], int) else "text"
    assert raw.kind_of(values) == kind


def test_kind_of_nothing():
  assert raw.kind_of(pa.nulls(3)) == "none"


@pytest.mark.parametrize(
  ("array", "message"),
  [
    (pa.array([1.0, 2.5]), "feature 'f': row 101 of column 'c' holds 2.5, and"),
    (pa.array([1.0, 1e300]), "row 101 of column 'c' holds 1e[+]300"),
    (pa.array([datetime.date(2020, 1, 1)]), "has the type date32"),
    (pa.array([[1]]), "has the type list"),
  ],
)
def test_values_that_are_none(array, message):
  with pytest.raises(DataError, match=message):
    raw.as_values(array, PLACE)


@pytest.mark.parametrize(
  ("array", "expected"),
  [
    (pa.array([1, None, 3], pa.int8()), [1, np.nan, 3]),
    (pa.array([1.5, float("nan")]), [1.5, np.nan]),
    (pa.array(["1.5", "-2", None]), [1.5, -2, np.nan]),
    (pa.array([True, False, None]), [1, 0, np.nan]),
    (pa.array([decimal.Decimal("1.25")]), [1.25]),
    (pa.nulls(2), [np.nan, np.nan]),
    (pa.array([2, 2]).dictionary_encode(), [2, 2]),
  ],
)
def test_numbers(array, expected):
  found = raw.as_numbers(array, PLACE)
  assert found.dtype == np.float64
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  ("array", "message"),
  [
    (pa.array(["1", "x"]), "row 101 of column 'c' holds 'x', which is no num"),
    (pa.array([1.0, float("inf")]), "row 101 .* holds inf, which is no finite"),
    (pa.array([[1.0]]), r"row 100 .* holds \[1.0\], which is no number"),
  ],
)
def test_numbers_that_are_none(array, message):
  with pytest.raises(DataError, match=message):
    raw.as_numbers(array, PLACE)


@pytest.mark.parametrize(
  ("array", "separator", "flat", "lengths"),
  [
    (pa.array([[1, 2], [], None, [3]]), "", [1, 2, 3], [2, 0, 0, 1]),
    (
      pa.array([["a"], ["b", None]], pa.large_list(pa.string())),
      "",
      ["a", "b", None],
      [1, 2],
    ),
    (
      pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)),
      "",
      [1, 2, 3, 4],
      [2, 2],
    ),
    (pa.array(["a|b", None, "c"]), "|", ["a", "b", "c"], [2, 0, 1]),
    (pa.array(["a|b", "a|b"]).dictionary_encode(), "|", list("abab"), [2, 2]),
    (pa.array([12, 3]), "|", ["12", "3"], [1, 1]),
  ],
)
def test_lists(array, separator, flat, lengths):
  values, found = raw.as_lists(array, separator, PLACE)
  assert values.to_pylist() == flat and found.tolist() == lengths
  # A slice has its own values alone.
  values, found = raw.as_lists(array[1:], separator, PLACE)
  assert found.tolist() == lengths[1:]
  assert values.to_pylist() == flat[lengths[0] :]


def test_text_needs_a_separator():
  with pytest.raises(
    DataError, match="'c' must hold lists, or text with a sep"
  ):
    raw.as_lists(pa.array(["a"]), "", PLACE)


def test_a_column_in_chunks_is_one_array():
  block = pa.table({"c": pa.chunked_array([[1], [2, 3], []], pa.int64())})
  assert raw.take_column(block, PLACE).to_pylist() == [1, 2, 3]
  chunks = [pa.array([t]).dictionary_encode() for t in "aba"]
  block = pa.table({"c": pa.chunked_array(chunks)})
  found = raw.take_column(block, PLACE)
  assert isinstance(found, pa.DictionaryArray)
  assert found.to_pylist() == ["a", "b", "a"]


def test_a_missing_column_names_the_nearest():
  block = pa.table({"count": [1], "d": [1]})
  message = "'f' reads the column 'coun', which is not there.*mean 'count'"
  with pytest.raises(DataError, match=message):
    raw.take_column(block, Place("f", "coun"))


def test_kinds_do_not_change_on_the_way():
  text, number = pa.array(["a"]), pa.array([1])
  assert raw.check_kind(text, "none", PLACE) == "text"
  assert raw.check_kind(number, "integer", PLACE) == "integer"
  assert raw.check_kind(pa.nulls(1, pa.string()), "integer", PLACE) == "integer"
  with pytest.raises(
    DataError, match="holds text from row 100 on, but integer"
  ):
    raw.check_kind(text, "integer", PLACE)


def test_the_row_of_a_value_in_a_list():
  place = Place("f", "c", 100, np.array([0, 0, 3]))
  with pytest.raises(DataError, match="row 103 of column 'c' holds 'x', bad"):
    place.fail(2, "x", "bad")
