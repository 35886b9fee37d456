"""Raw columns of any type to ids, times and rows that stay."""

from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.sources.columns import (
  ColumnSpec,
  compact_ids,
  make_interactions,
)
from recjax.errors import ConfigError, DataError


def _make(spec=None, **columns):
  table = pa.table(columns)
  if spec is None:
    spec = ColumnSpec("user", "item", context=())
  return make_interactions("toy", table, spec, lambda row: f"row {row}")


def _raw(table):
  return table.column("raw_id").to_pylist()


def _rows(data):
  """(raw user, raw item) of every row."""
  users, items = _raw(data.users), _raw(data.items)
  return [
    (users[user - 1], items[item - 1])
    for user, item in zip(data.user_id.tolist(), data.item_id.tolist())
  ]


@pytest.mark.parametrize(
  "values, expected",
  [
    ([10, 9, 100], ["9", "10", "100"]),
    (["10", "9", "100"], ["9", "10", "100"]),
    ([10.0, 9.0, 100.0], ["9", "10", "100"]),
    (["b", "a", "é"], ["a", "b", "é"]),
    (["010", "9", "10"], ["010", "10", "9"]),
    (["x1", "9", "10"], ["10", "9", "x1"]),
    ([0, 2, 1], ["0", "1", "2"]),
  ],
)
def test_ids_are_in_the_order_of_the_raw_ids(values, expected):
  data = _make(user=values, item=[1, 1, 1])
  assert _raw(data.users) == expected
  as_text = [str(int(v)) if isinstance(v, float) else str(v) for v in values]
  order = sorted(range(3), key=lambda row: expected.index(as_text[row]))
  assert [user for user, _ in _rows(data)] == [as_text[row] for row in order]


def test_dictionaries_of_several_chunks_are_united():
  chunk = lambda values: pa.array(values).dictionary_encode()
  users = pa.chunked_array([chunk(["b", "a"]), chunk(["c", "b"])])
  data = _make(user=users, item=["x", "y", "x", "z"])
  assert _rows(data) == [("a", "y"), ("b", "x"), ("b", "z"), ("c", "x")]


@pytest.mark.parametrize(
  "users, message",
  [
    ([1, -2, 3], "row 1: '-2' in column 'user' is a negative id"),
    (["1", "-2", "3"], "row 1: '-2' in column 'user' is a negative id"),
    ([1, None, 3], "row 1: column 'user' has no value"),
    (["a", "b", ""], "row 2: '' in column 'user' is an empty id"),
    ([1.0, 2.0, 2.5], "row 2: ids must be integers or text.* 2.5"),
    ([1.0, float("nan"), 2.5], "row 1: column 'user' must hold finite"),
  ],
)
def test_bad_ids(users, message):
  with pytest.raises(DataError, match=message):
    _make(user=users, item=[1, 2, 3])


def test_a_word_among_integers_may_be_refused():
  spec = ColumnSpec("user", "item", mixed_ids=False)
  with pytest.raises(DataError, match="row 1: 'x' in .* text_ids=True"):
    _make(spec, user=["1", "x", "2"], item=[1, 2, 3])
  assert len(_make(spec, user=["y", "x", "z"], item=["007", "7", "8"])) == 3


@pytest.mark.parametrize(
  "values, unit, expected",
  [
    ([7, 964982703], "s", [7, 964982703]),
    ([7999, -1], "ms", [7, -1]),
    ([7.9, 8.0], "s", [7, 8]),
    (["7", "8"], "s", [7, 8]),
    (["7.5", "8"], "s", [7, 8]),
    (["1970-01-01 00:01:00", "1970-01-02"], "s", [60, 86400]),
    (["1970-01-01T00:01:00Z", "1970-01-01T01:00:00+01:00"], "s", [60, 0]),
    ([date(1970, 1, 2), date(1969, 12, 31)], "s", [86400, -86400]),
    ([datetime(1970, 1, 1, 0, 1), datetime(1970, 1, 1)], "s", [60, 0]),
  ],
)
def test_times(values, unit, expected):
  spec = ColumnSpec("user", "item", timestamp="time", timestamp_unit=unit)
  data = _make(spec, user=[1, 2], item=[1, 1], time=values)
  assert data.timestamp.tolist() == expected


@pytest.mark.parametrize(
  "values, message",
  [
    (["7", "noon"], "row 1: 'noon' in column 'time' is not a number or an ISO"),
    (["1970-01-01", "1970-13-01"], "row 1: '1970-13-01'"),
    ([7, None], "row 1: column 'time' has no value"),
    ([7.0, float("nan")], "row 1: column 'time' must hold finite"),
    (["7", "1970-01-01"], "mixes several ways"),
  ],
)
def test_bad_times(values, message):
  spec = ColumnSpec("user", "item", timestamp="time")
  with pytest.raises(DataError, match=message):
    _make(spec, user=[1, 2], item=[1, 1], time=values)


@pytest.mark.parametrize(
  "values, message",
  [
    ([1.0, float("nan")], "row 1: column 'stars' must hold finite .* nan"),
    ([1.0, float("inf")], "row 1: column 'stars' must hold finite .* inf"),
    ([1.0, None], "row 1: column 'stars' has no value"),
    (["1", "good"], "row 1: 'good' in column 'stars' is not a number"),
  ],
)
def test_bad_ratings(values, message):
  spec = ColumnSpec("user", "item", rating="stars")
  with pytest.raises(DataError, match=message):
    _make(spec, user=[1, 2], item=[1, 1], stars=values)


def test_min_rating_drops_rows_and_the_ids_left_without_any():
  spec = ColumnSpec("user", "item", rating="stars", min_rating=4)
  data = _make(spec, user=[5, 6, 6, 7], item=list("abca"), stars=[3.5, 4, 2, 5])
  assert _rows(data) == [("6", "b"), ("7", "a")]
  assert (data.num_users, data.num_items) == (2, 2)
  assert data.rating.tolist() == [4.0, 5.0]
  with pytest.raises(DataError, match="no rating reaches 4"):
    _make(spec, user=[1], item=[1], stars=[1])


DOUBLES = {
  "user": [1, 1, 2, 1, 1],
  "item": [7, 8, 7, 7, 7],
  "time": [5, 5, 5, 5, 9],
  "stars": [1.0, 2.0, 3.0, 4.0, 5.0],
}


@pytest.mark.parametrize(
  "timed, policy, stars",
  [
    (True, "keep", [1, 2, 4, 5, 3]),
    (True, "first", [1, 2, 5, 3]),
    (True, "last", [2, 4, 5, 3]),
    (False, "keep", [1, 2, 4, 5, 3]),
    (False, "first", [1, 2, 3]),
    (False, "last", [2, 5, 3]),
  ],
)
def test_duplicates(timed, policy, stars):
  spec = ColumnSpec(
    "user",
    "item",
    timestamp="time" if timed else "",
    rating="stars",
    duplicates=policy,
  )
  assert _make(spec, **DOUBLES).rating.tolist() == stars


@pytest.mark.parametrize(
  "timed, message",
  [
    (True, r"row 3: the same user, item and timestamp as at row 0; 1 such"),
    (False, r"row 3: the same user and item as at row 0; 2 such"),
  ],
)
def test_duplicates_are_an_error_by_default(timed, message):
  spec = ColumnSpec("user", "item", timestamp="time" if timed else "")
  with pytest.raises(DataError, match=message):
    _make(spec, **DOUBLES)


def test_context_columns():
  spec = ColumnSpec("user", "item", context=("hour", "place", "yes", "x"))
  data = _make(
    spec,
    user=[2, 1],
    item=[1, 1],
    hour=pa.array([3, 4], pa.int8()),
    place=pa.array(["a", None]).dictionary_encode(),
    yes=[True, False],
    x=[0.5, 1.5],
  )
  assert data.column("hour").tolist() == [4, 3]
  assert data.column("place").tolist() == ["", "a"]
  assert data.column("yes").tolist() == [0, 1]
  assert data.column("x").tolist() == [1.5, 0.5]


@pytest.mark.parametrize(
  "values, message",
  [
    (pa.array([1, None]), "row 1: column 'c' has no value"),
    (pa.array([1.0, float("nan")]), "row 1: column 'c' must hold finite"),
    (pa.nulls(2), "column 'c' has no value at all"),
  ],
)
def test_bad_context(values, message):
  with pytest.raises(DataError, match=message):
    spec = ColumnSpec("user", "item", context=("c",))
    _make(spec, user=[2, 1], item=[1, 1], c=values)


def test_no_rows():
  with pytest.raises(DataError, match="toy: there is not one row"):
    _make(user=pa.array([], pa.int64()), item=pa.array([], pa.int64()))


@pytest.mark.parametrize(
  "options, message",
  [
    ({"user": ""}, "user_column must name a column"),
    ({"duplicates": "frist"}, "duplicates must be .* Did you mean 'first'"),
    ({"timestamp_unit": "h"}, "timestamp_unit must be one of"),
    ({"min_rating": 3}, "min_rating=3 needs a rating_column"),
    ({"rating": "r", "min_rating": "3"}, "must be a number|min_rating"),
    ({"context": ("u",)}, "every column can be used once"),
    ({"context": ("rating",)}, "can not be named user_id"),
  ],
)
def test_bad_specs(options, message):
  with pytest.raises((ConfigError, TypeError), match=message):
    ColumnSpec(**({"user": "u", "item": "i"} | options))


def test_compact_ids():
  ids, raw = compact_ids(np.array([4, 2, 4], np.int32), pa.array(list("abcd")))
  assert ids.tolist() == [2, 1, 2] and raw.to_pylist() == ["b", "d"]
