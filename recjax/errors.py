"""Errors that tell a researcher the rule, the value and what to do."""

import difflib
import numbers
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
  """A setting is unknown, of the wrong type or out of range."""


class DataError(ValueError):
  """A data file is missing, broken, or does not hold what was asked for."""


class RunError(RuntimeError):
  """A run can not go on: another config, NaN, or nothing to restore."""


def nearest(name: str, choices: Iterable[str]) -> str:
  """A sentence naming the choice closest to `name`, or an empty string."""
  close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
  return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(what: str, value: object, choices: Iterable[str]) -> None:
  """Raises ConfigError unless `value` is one of `choices`."""
  choices = tuple(choices)
  if value in choices:
    return
  raise ConfigError(
    f"{what} must be one of {', '.join(map(repr, choices))}; got {value!r}."
    f"{nearest(str(value), choices)}"
  )


def check_column(where: object, name: str, known: Iterable[str]) -> None:
  """Raises DataError unless `name` is one of the columns of a table.

  Args:
    where: the table, such as its path.
    name: of the column.
    known: the columns that there are.
  """
  known = tuple(known)
  if name not in known:
    raise DataError(
      f"{where} has no column {name!r}; it has {', '.join(known)}."
      f"{nearest(name, known)}"
    )


def check_range(
  what: str,
  value: object,
  low: int | float | None = None,
  high: int | float | None = None,
  *,
  integer: bool = False,
) -> None:
  """Raises ConfigError unless `value` is a number within [low, high]."""
  expected = numbers.Integral if integer else numbers.Real
  kind = "an integer" if integer else "a number"
  if isinstance(value, bool) or not isinstance(value, expected):
    raise ConfigError(
      f"{what} must be {kind}; got {value!r} of type {type(value).__name__}."
    )
  number: Any = value
  too_low = low is not None and not number >= low
  too_high = high is not None and not number <= high
  if too_low or too_high or number != number:
    bounds = (
      f"[{'-inf' if low is None else low}, {'inf' if high is None else high}]"
    )
    raise ConfigError(f"{what} must lie in {bounds}; got {value!r}.")


def check_tuple(what: str, value: object, example: str) -> None:
  """Raises ConfigError unless `value` is a tuple or a list."""
  if not isinstance(value, (tuple, list)):
    raise ConfigError(
      f"{what} must be a tuple, such as {example}; got {value!r} of type"
      f" {type(value).__name__}."
    )
