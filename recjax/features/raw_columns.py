"""Raw Arrow columns as the few forms that encoders know.

Values that become ids are int64, text, or a dictionary of one of these;
numbers are float64 with NaN where there is none; lists are flat values with
the length of each.
"""

import dataclasses
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64

from recjax.errors import DataError, nearest


@dataclasses.dataclass(frozen=True)
class Place:
  """Where an array comes from, for messages.

  Attributes:
    feature: that reads it.
    column: in which it stands.
    first_row: number of its first row, counted from 0.
    row_of_value: the row of each value, where rows hold several.
  """

  feature: str
  column: str
  first_row: int = 0
  row_of_value: Int64[np.ndarray, " value"] | None = None

  def fail(self, at: int, value: object, fault: str) -> NoReturn:
    """Raises a DataError about the value at the place `at`."""
    row = at if self.row_of_value is None else int(self.row_of_value[at])
    raise DataError(
      f"feature {self.feature!r}: row {self.first_row + row} of column"
      f" {self.column!r} holds {value!r}, {fault}"
    )


def take_column(block: pa.Table, place: Place) -> pa.Array:
  """The one array of a column.

  Raises:
    DataError: there is no such column.
  """
  names = block.column_names
  if place.column not in names:
    raise DataError(
      f"feature {place.feature!r} reads the column {place.column!r}, which is"
      f" not there; there are {', '.join(names)}."
      f"{nearest(place.column, names)}"
    )
  column = block.column(place.column)
  if column.num_chunks == 1:
    return column.chunk(0)
  if isinstance(column.type, pa.DictionaryType):
    column = column.unify_dictionaries()
  combined = column.combine_chunks()
  if isinstance(combined, pa.ChunkedArray):
    return pa.concat_arrays(combined.chunks)
  return combined


def kind_of(array: pa.Array) -> str:
  """What values are: "integer", "text" or "none" where all are null."""
  kind = array.type
  if isinstance(kind, pa.DictionaryType):
    kind = kind.value_type
  if pa.types.is_null(kind):
    return "none"
  return "integer" if pa.types.is_int64(kind) else "text"


def check_kind(values: pa.Array, expected: str, place: Place) -> str:
  """Integers and text must not take turns.

  Args:
    values: of a block.
    expected: "integer", "text" or "none" (nothing seen so far).
    place: for messages.

  Returns:
    What is expected from now on.
  """
  kind = kind_of(values)
  if values.null_count == len(values):
    return expected
  if expected not in (kind, "none"):
    raise DataError(
      f"feature {place.feature!r}: column {place.column!r} holds {kind} from"
      f" row {place.first_row} on, but {expected} in the rows that were fitted."
      " Give it one type."
    )
  return kind


def as_values(array: pa.Array, place: Place) -> pa.Array:
  """What becomes ids: int64, text, or a dictionary of these.

  Booleans are 0 and 1. Whole numbers stored as floats, as pandas does where
  one is missing, are integers.

  Raises:
    DataError: other numbers, or another type.
  """
  kind = array.type
  if isinstance(array, pa.DictionaryArray):
    values = as_values(array.dictionary, place)
    return pa.DictionaryArray.from_arrays(array.indices, values)
  is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
  if is_text or pa.types.is_int64(kind):
    return array
  if pa.types.is_null(kind):
    return array.cast(pa.string())
  if pa.types.is_uint64(kind) or pa.types.is_boolean(kind):
    return array.cast(pa.int64(), safe=False)
  if pa.types.is_integer(kind):
    return array.cast(pa.int64())
  if pa.types.is_floating(kind):
    return _whole_numbers(array, place)
  if pa.types.is_binary(kind) or pa.types.is_string_view(kind):
    return array.cast(pa.large_string())
  raise DataError(
    f"feature {place.feature!r}: column {place.column!r} has the type {kind};"
    " ids are made of integers or text. Cast it before."
  )


def _whole_numbers(array: pa.Array, place: Place) -> pa.Array:
  values = array.cast(pa.float64()).fill_null(np.nan).to_numpy()
  missing = np.isnan(values)
  whole = np.where(missing, 0.0, values)
  bad = np.flatnonzero((whole != np.floor(whole)) | (np.abs(whole) > 2**53))
  if len(bad):
    fault = (
      "and ids are made of integers or text. For a number, use Numeric or"
      " Bucketized."
    )
    place.fail(int(bad[0]), float(values[bad[0]]), fault)
  return pa.array(whole.astype(np.int64), mask=missing)


def as_numbers(array: pa.Array, place: Place) -> Float64[np.ndarray, " row"]:
  """Numbers, NaN where one is missing.

  Raises:
    DataError: a value is infinite or no number; the row is named.
  """
  if isinstance(array, pa.DictionaryArray):
    array = array.dictionary_decode()
  try:
    if pa.types.is_null(array.type) or pa.types.is_boolean(array.type):
      array = array.cast(pa.int8())
    numbers = array.cast(pa.float64(), safe=False)
  except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
    _fail_at_first_text(array, place)
  values = numbers.fill_null(np.nan).to_numpy()
  infinite = np.flatnonzero(np.isinf(values))
  if len(infinite):
    row = int(infinite[0])
    place.fail(row, float(values[row]), "which is no finite number.")
  return values


def _fail_at_first_text(array: pa.Array, place: Place) -> NoReturn:
  """Slow, for errors only."""
  for row, value in enumerate(array.to_pylist()):
    try:
      if value is not None:
        float(value)
    except (TypeError, ValueError):
      place.fail(row, value, "which is no number.")
  raise DataError(
    f"feature {place.feature!r}: column {place.column!r} has the type"
    f" {array.type}, which can not be read as numbers."
  )


def as_lists(
  array: pa.Array, separator: str, place: Place
) -> tuple[pa.Array, Int64[np.ndarray, " row"]]:
  """Lists as their values, one after another, and their lengths.

  Args:
    array: lists, or text whose values stand between separators.
    separator: "" for lists.
    place: for messages.

  Raises:
    DataError: it is text without a separator, or neither lists nor text.
  """
  if isinstance(array, pa.DictionaryArray):
    array = array.dictionary_decode()
  kind = array.type
  is_list = (
    pa.types.is_list(kind)
    or pa.types.is_large_list(kind)
    or pa.types.is_fixed_size_list(kind)
  )
  if not is_list and separator:
    text = as_values(array, place)
    if kind_of(text) == "integer":
      text = text.cast(pa.string())
    options = pc.SplitPatternOptions(separator)
    array = pc.call_function("split_pattern", [text], options)
  elif not is_list:
    raise DataError(
      f"feature {place.feature!r}: column {place.column!r} must hold lists, or"
      f" text with a separator that is named; it has the type {kind}."
    )
  lengths = pc.call_function("list_value_length", [array]).fill_null(0)
  return array.flatten(), np.asarray(lengths).astype(np.int64)
