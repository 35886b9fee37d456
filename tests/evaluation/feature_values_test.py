import numpy as np
import pyarrow as pa
import pytest

from recjax.errors import ConfigError
from recjax.evaluation import feature_values as lib

TABLE = pa.table(
  {
    "raw_id": list("abcdef"),
    "genres": [["War", "Drama"], ["Drama"], [], None, ["Drama"], ["War"]],
    "year": pa.array([1999, 1995, None, 1999, 2000, 1995], pa.int32()),
    "town": ["Rome", "Bonn", "Bonn", "", "Bern", "Bonn"],
    "price": [0.5, 2.5, float("nan"), 1.5, 9.0, 3.25],
    "image": [[0.0, 1.0]] * 6,
  }
)


def groups(found):
  """{value: its ids}."""
  assert not found.member[0].any()
  return {
    value: np.flatnonzero(found.member[:, place]).tolist()
    for place, value in enumerate(found.values)
  }


def test_lists_are_in_several_groups():
  found = lib.feature_values(TABLE, "genres")
  assert found.name == "genres" and found.member.shape == (7, 2)
  assert groups(found) == {"Drama": [1, 2, 5], "War": [1, 6]}
  assert list(groups(found)) == ["Drama", "War"]  # The most frequent first.
  assert groups(found.with_missing())[lib.MISSING] == [3, 4]


def test_numbers_are_in_their_order():
  found = lib.feature_values(TABLE, "year")
  assert list(groups(found).items()) == [
    ("1995", [2, 6]), ("1999", [1, 4]), ("2000", [5])
  ]  # fmt: skip
  whole = lib.feature_values(pa.table({"year": [3, 1, 2]}), "year")
  assert whole.with_missing() is whole


def test_the_most_frequent_texts_are_kept():
  found = lib.sliced_values(TABLE, "town", most=1, parts=9)
  assert groups(found) == {"Bonn": [2, 3, 6], "other (2 values)": [1, 5]}
  found = lib.sliced_values(TABLE, "town", most=3, parts=9)
  assert groups(found) == {"Bonn": [2, 3, 6], "Rome": [1], "Bern": [5]}


def test_many_numbers_are_cut_into_parts():
  found = lib.sliced_values(TABLE, "price", most=2, parts=2)
  assert list(groups(found).items()) == [
    ("0.5-2.5", [1, 2, 4]), ("3.25-9", [5, 6])
  ]  # fmt: skip
  # Equal values are in one part.
  ages = pa.table({"age": [30, 10, 10, 10, 20, 40, 50]})
  found = lib.sliced_values(ages, "age", most=3, parts=7)
  assert groups(found) == {
    "10": [2, 3, 4], "20": [5], "30": [1], "40": [6], "50": [7]
  }  # fmt: skip
  found = lib.sliced_values(ages, "age", most=3, parts=2)
  assert groups(found) == {"10-20": [2, 3, 4, 5], "30-50": [1, 6, 7]}


def test_ends_part_values_evenly():
  values = np.random.default_rng(0).permutation(100) + 1
  assert lib.equal_ends(values, 4) == (25, 50, 75)
  assert lib.equal_ends(np.array([7, 7, 7]), 3) == ()


def test_what_is_no_feature():
  for name in ("genres", "year", "town", "price"):
    lib.check_feature(TABLE, name, "item")
  with pytest.raises(ConfigError, match="no item feature 'genre'.*'genres'"):
    lib.check_feature(TABLE, "genre", "item")
  with pytest.raises(ConfigError, match="no item feature 'raw_id'"):
    lib.check_feature(TABLE, "raw_id", "item")
  with pytest.raises(ConfigError, match="'image' holds vectors"):
    lib.check_feature(TABLE, "image", "item")
  with pytest.raises(ConfigError, match="knows nothing of its users"):
    lib.check_feature(None, "age", "user")


def test_too_many_values(monkeypatch):
  monkeypatch.setattr(lib, "_MAX_MEMBERS", 20)
  with pytest.raises(ConfigError, match="has 3 values for 6 ids.*at most 2"):
    lib.feature_values(TABLE, "year")
