"""Messages name the rule, the value and the nearest valid name."""

import numpy as np
import pytest

from recjax.errors import (
  ConfigError,
  DataError,
  check_choice,
  check_column,
  check_range,
  check_tuple,
  nearest,
)


def test_nearest_names_the_closest_choice_or_nothing():
  assert nearest("rating", ["ratings", "item"]) == " Did you mean 'ratings'?"
  assert nearest("zzz", ["ratings", "item"]) == ""
  assert nearest("x", []) == ""


def test_check_choice():
  check_choice("loss", "bce", ("bce", "full"))
  with pytest.raises(
    ConfigError,
    match=r"^loss must be one of 'bce', 'full'; got 'bcee'\."
    r" Did you mean 'bce'\?$",
  ):
    check_choice("loss", "bcee", ("bce", "full"))


def test_check_column():
  check_column("a.csv", "item", ["user", "item"])
  with pytest.raises(
    DataError,
    match=r"^a\.csv has no column 'itm'; it has user, item\."
    r" Did you mean 'item'\?$",
  ):
    check_column("a.csv", "itm", ["user", "item"])


@pytest.mark.parametrize("value", [0, 5, 2.5, np.float32(1.5), np.int64(3)])
def test_check_range_takes_numbers_in_bounds(value):
  check_range("rate", value, 0, 5)


@pytest.mark.parametrize(
  "value, bounds, shown",
  [
    (-1, (0, None), r"\[0, inf\]"),
    (2, (None, 1), r"\[-inf, 1\]"),
    (1, (-2, 0), r"\[-2, 0\]"),
    (float("nan"), (0, 1), r"\[0, 1\]"),
    (float("nan"), (None, None), r"\[-inf, inf\]"),
  ],
)
def test_check_range_shows_bounds_and_value(value, bounds, shown):
  with pytest.raises(
    ConfigError, match=f"^rate must lie in {shown}; got {value}"
  ):
    check_range("rate", value, *bounds)


@pytest.mark.parametrize("value", [True, "3", None, [3]])
def test_check_range_refuses_other_types(value):
  with pytest.raises(ConfigError, match="rate must be a number; got"):
    check_range("rate", value)


def test_check_tuple():
  check_tuple("weights", (1, 2), "(1, 2)")
  check_tuple("weights", [], "(1, 2)")
  message = r"^weights must be a tuple, such as \(1, 2\); got 3 of type int"
  with pytest.raises(ConfigError, match=message):
    check_tuple("weights", 3, "(1, 2)")
  with pytest.raises(ConfigError, match="got 'ab' of type str"):
    check_tuple("weights", "ab", "(1, 2)")


def test_check_range_integer():
  check_range("steps", 3, 1, integer=True)
  check_range("steps", np.int32(3), 1, integer=True)
  with pytest.raises(ConfigError, match="integer; got 3.0 of type float"):
    check_range("steps", 3.0, 1, integer=True)
