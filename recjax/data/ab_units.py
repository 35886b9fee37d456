"""The units of an A/B test, read from a table in Parquet or CSV."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64
from pyarrow import csv, parquet

from recjax import files
from recjax.errors import ConfigError, DataError, check_choice, check_column

_MOST_ARMS = 50
_PARQUET = (".parquet", ".pq")
# How missing ids are written by those who do not leave them empty.
_NO_IDS = pa.array(["nan", "NaN", "NULL", "null", "None", "<NA>"])


Sums = Float64[np.ndarray, " unit"]


@dataclasses.dataclass(frozen=True, eq=False)
class AbUnits:
  """What a table tells of the units that were dealt to the arms of a test.

  Attributes:
    arms: their names, the control first; one of no name without a column.
    arm: the place in `arms` of each unit.
    metrics: of each unit by name, summed over its rows: the values of a metric,
      and the denominators if it is a ratio, or None.
    before: what was known of each unit before the test, a column each.
    order: of each unit: smaller numbers came first; None without a column.
  """

  arms: tuple[str, ...]
  arm: Int64[np.ndarray, " unit"]
  metrics: dict[str, tuple[Sums, Sums | None]]
  before: Float64[np.ndarray, "unit covariate"]
  order: Int64[np.ndarray, " unit"] | None

  @property
  def counts(self) -> Int64[np.ndarray, " arm"]:
    """Units of each arm."""
    return np.bincount(self.arm, minlength=len(self.arms))


def read_units(
  path: files.PathLike,
  metrics: Sequence[str],
  *,
  arm: str = "",
  control: str = "",
  before: Sequence[str] = (),
  unit: str = "",
  order: str = "",
) -> AbUnits:
  """Reads the columns that are named, and sums the rows of each unit.

  Args:
    path: ".parquet" or ".pq", or else CSV with a header.
    metrics: columns of what was measured, such as "clicks", or ratios of two,
      such as "clicks/impressions".
    arm: the column of arms; without it all units are of one.
    control: the arm that others are compared with.
    before: columns of what was known beforehand, one value a unit.
    unit: the column of what was dealt to arms, such as users; without it each
      row is a unit.
    order: the column of when a unit came: of its rows the first counts.

  Raises:
    DataError: the file or a column is missing or corrupt; a value is missing or
      no number, with its row; a unit is in two arms, or knows two values
      beforehand; there are not two arms, or more than 50.
    ConfigError: no row is of the control, or a metric is no column and no
      ratio of two.
  """
  path = pathlib.Path(path)
  names = _names(path)
  parts = {name: _columns(name, names) for name in metrics}
  values = [column for pair in parts.values() for column in pair]
  columns = dict.fromkeys([arm, unit, order, *values, *before])
  table = _read(path, names, [x for x in columns if x], texts=(arm, unit))
  numbers = {
    name: _numbers(table[name], path, name)
    for name in dict.fromkeys((*values, *before))
  }
  arms, arm_of_row = ("",), np.zeros(len(table), np.int64)
  if arm:
    arms, arm_of_row = _arms(table[arm], path, arm, control)
  first = unit_of_row = np.arange(len(table))
  if unit:
    first, unit_of_row = _units(table[unit], path, unit)
    text = f"{unit!r} is in two arms"
    _check_same(arm_of_row, first, unit_of_row, path, text)
  known = np.empty((len(first), len(before)))
  for place, name in enumerate(before):
    text = f"{unit!r} has two values of {name!r}, known before the test"
    _check_same(numbers[name], first, unit_of_row, path, text)
    known[:, place] = numbers[name][first]
  return AbUnits(
    arms,
    arm_of_row[first],
    _summed(parts, numbers, unit_of_row),
    known,
    _order(table[order], path, order, unit_of_row) if order else None,
  )


def _names(path: pathlib.Path) -> list[str]:
  """The columns of a table."""
  if not path.is_file():
    raise DataError(f"there is no table of an A/B test at {path}.")
  try:
    if path.suffix in _PARQUET:
      return parquet.read_schema(path).names
    with csv.open_csv(path) as reader:
      return reader.schema.names
  except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
    raise DataError(f"{path} can not be read: {error}.") from error


def _columns(metric: str, names: Sequence[str]) -> list[str]:
  """The column of a metric, or both of a ratio."""
  if metric in names:
    return [metric]
  parts = metric.split("/")
  if len(parts) > 2 or not all(parts):
    raise ConfigError(
      "a metric must be a column or a ratio of two, such as clicks/impressions;"
      f" got {metric!r}."
    )
  return parts


def _read(
  path: pathlib.Path,
  names: Sequence[str],
  columns: Sequence[str],
  texts: Sequence[str],
) -> pa.Table:
  """Some columns of a table; those of `texts` as they are written."""
  for name in columns:
    check_column(path, name, names)
    if names.count(name) > 1:
      raise DataError(
        f"{path} has several columns {name!r}; it has {', '.join(names)}."
      )
  try:
    if path.suffix in _PARQUET:
      table = parquet.read_table(path, columns=list(columns))
    else:
      # "NA" may be the name of an arm, "007" an id that is not 7.
      options = csv.ConvertOptions(
        include_columns=list(columns),
        column_types={name: pa.string() for name in texts if name},
        null_values=[""],
        strings_can_be_null=True,
      )
      table = csv.read_csv(path, convert_options=options)
  except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
    raise DataError(f"{path} can not be read: {error}.") from error
  if not len(table):
    raise DataError(f"{path} has no rows.")
  plain = {}
  for name in columns:
    kind = table[name].type
    if pa.types.is_nested(kind):
      raise DataError(f"{path}: {name!r} must hold single values; got {kind}.")
    is_coded = pa.types.is_dictionary(kind)
    plain[name] = table[name].cast(kind.value_type) if is_coded else table[name]
  return pa.table(plain)


def _check_complete(
  column: pa.ChunkedArray, path: pathlib.Path, name: str
) -> None:
  if column.null_count:
    row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
    raise DataError(
      f"{path}: row {row} has no {name!r}. Fill in what it was, or leave the"
      " unit out whole: values that are missing in one arm alone bias the test."
    )


def _numbers(
  column: pa.ChunkedArray, path: pathlib.Path, name: str
) -> Float64[np.ndarray, " row"]:
  _check_complete(column, path, name)
  try:
    # Integers above 2^53 are rounded.
    found = np.asarray(column.cast(pa.float64(), safe=False))
  except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
    values = column.to_pylist()
    wrong = [row for row, x in enumerate(values) if not _is_number(x)]
    row = wrong[0] if wrong else 0
    raise DataError(
      f"{path}: {name!r} must hold numbers; row {row} has {values[row]!r}."
    ) from None
  wrong = np.flatnonzero(~np.isfinite(found))
  if len(wrong):
    raise DataError(
      f"{path}: row {wrong[0]} has {found[wrong[0]]} as {name!r}."
    )
  return found


def _is_number(value: Any) -> bool:
  try:
    return math.isfinite(float(value))
  except (TypeError, ValueError):
    return False


def _arms(
  column: pa.ChunkedArray, path: pathlib.Path, name: str, control: str
) -> tuple[tuple[str, ...], np.ndarray]:
  """Their names, the control first, and the place of each row."""
  _check_complete(column, path, name)
  texts = column.cast(pa.string())
  names = sorted(pc.call_function("unique", [texts]).to_pylist())
  if not 2 <= len(names) <= _MOST_ARMS:
    raise DataError(
      f"{path}: {name!r} must hold from two to {_MOST_ARMS} arms; got"
      f" {len(names)}, such as {names[0]!r}."
    )
  check_choice("the control", control, names)
  names = [control, *(each for each in names if each != control)]
  options = pc.SetLookupOptions(pa.array(names))
  places = pc.call_function("index_in", [texts], options)
  return tuple(names), np.asarray(places).astype(np.int64)


def _units(
  column: pa.ChunkedArray, path: pathlib.Path, name: str
) -> tuple[np.ndarray, np.ndarray]:
  """The first row of each unit, and the unit of each row."""
  _check_complete(column, path, name)
  texts = column.cast(pa.string())
  lost = pc.call_function("is_in", [texts], pc.SetLookupOptions(_NO_IDS))
  if np.asarray(lost).any():
    row = int(np.flatnonzero(np.asarray(lost))[0])
    raise DataError(
      f"{path}: row {row} has {texts[row].as_py()!r} as {name!r}, which names"
      " no unit; all such rows would be one."
    )
  coded = texts.combine_chunks().dictionary_encode()
  unit_of_row = np.asarray(coded.indices).astype(np.int64)
  first = np.unique(unit_of_row, return_index=True)[1]
  return first, unit_of_row


def _summed(
  parts: dict[str, list[str]],
  numbers: dict[str, np.ndarray],
  unit_of_row: np.ndarray,
) -> dict[str, tuple[Sums, Sums | None]]:
  """The sums of each unit, of a metric and of its denominators."""
  sums = lambda column: np.bincount(unit_of_row, numbers[column])
  return {
    name: (sums(column), sums(per[0]) if per else None)
    for name, (column, *per) in parts.items()
  }


def _check_same(
  values: np.ndarray,
  first: np.ndarray,
  unit_of_row: np.ndarray,
  path: pathlib.Path,
  what: str,
) -> None:
  """Raises DataError where a unit has another value than in its first row."""
  other = np.flatnonzero(values != values[first][unit_of_row])
  if len(other):
    units = len(np.unique(unit_of_row[other]))
    begin = first[unit_of_row[other[0]]]
    raise DataError(
      f"{path}: the unit of the column {what}, in rows {begin} and {other[0]};"
      f" so are {units} of {len(first)} units. Leave such units out in all"
      " arms, or mend the logging."
    )


def _order(
  column: pa.ChunkedArray,
  path: pathlib.Path,
  name: str,
  unit_of_row: np.ndarray,
) -> Int64[np.ndarray, " unit"]:
  """The place of each unit in time, by the first of its rows."""
  _check_complete(column, path, name)
  if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
    raise DataError(
      f"{path}: {name!r} must hold numbers or times, which texts are not: they"
      f" have another order; row 0 has {column[0].as_py()!r}."
    )
  ranks = pc.call_function(
    "rank",
    [column.combine_chunks()],
    pc.RankOptions("ascending", tiebreaker="dense"),
  )
  found = np.full(unit_of_row.max() + 1, np.iinfo(np.int64).max)
  np.minimum.at(found, unit_of_row, np.asarray(ranks).astype(np.int64))
  return found
