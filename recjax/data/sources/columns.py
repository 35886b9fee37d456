"""From raw columns of any type to Interactions: ids, times, duplicates."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from recjax.data.interactions import Interactions
from recjax.errors import ConfigError, DataError, check_choice, check_range

DUPLICATES = ("error", "keep", "first", "last")
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclasses.dataclass(frozen=True)
class ColumnSpec:
  """Which raw column is what, and which rows are wanted.

  Attributes:
    user: the column of user ids.
    item: the column of item ids.
    timestamp: the column of times, or "".
    rating: the column of ratings, or "".
    context: further columns to keep.
    timestamp_unit: "s", "ms", "us" or "ns", for times that are numbers.
    min_rating: rows rated lower are dropped; None keeps all.
    duplicates: what to do with rows of equal user and item (and timestamp,
      where there is one): "error", "keep", or keep the "first" or the "last".
    mixed_ids: whether a column may mix integer ids with others. In a text
      file a broken line looks just like that.
  """

  user: str
  item: str
  timestamp: str = ""
  rating: str = ""
  context: tuple[str, ...] = ()
  timestamp_unit: str = "s"
  min_rating: int | float | None = None
  duplicates: str = "error"
  mixed_ids: bool = True

  def __post_init__(self):
    for what, column in (
      ("user_column", self.user),
      ("item_column", self.item),
    ):
      if not column:
        raise ConfigError(f"{what} must name a column; got ''.")
    check_choice("duplicates", self.duplicates, DUPLICATES)
    check_choice("timestamp_unit", self.timestamp_unit, tuple(_TICKS))
    if self.min_rating is not None:
      check_range("min_rating", self.min_rating)
      if not self.rating:
        raise ConfigError(
          f"min_rating={self.min_rating} needs a rating_column; got ''."
        )
    taken = {"user_id", "item_id", "timestamp", "rating"} & set(self.context)
    taken -= {self.user, self.item, self.timestamp, self.rating}
    if len(set(self.names)) != len(self.names) or taken:
      raise ConfigError(
        "every column can be used once, and a context column can not be"
        f" named user_id, item_id, timestamp or rating; got {self.names}."
      )

  @property
  def names(self) -> tuple[str, ...]:
    """All raw columns that are read."""
    optional = tuple(name for name in (self.timestamp, self.rating) if name)
    return (self.user, self.item, *optional, *self.context)


def as_names(what: str, names: Sequence[str]) -> tuple[str, ...]:
  """Names as a tuple: gin gives lists, and settings must be hashable.

  Raises:
    ConfigError: one text stands where several are expected.
  """
  if isinstance(names, str):
    raise ConfigError(f"{what} must be a tuple of names; got {names!r}.")
  return tuple(names)


def make_interactions(
  name: str,
  table: pa.Table,
  spec: ColumnSpec,
  where: Callable[[int], str],
) -> Interactions:
  """Encodes ids as 1..N in the order of the raw ids and checks all values.

  Raw ids that are all integers are ordered as numbers, others as text; the
  raw id of id i is row i - 1 of the column `raw_id` of `users` or `items`.

  Args:
    name: how reports call the data set.
    table: raw columns, in the order of the source.
    spec: what the columns are.
    where: tells where a row (from 0) stands in the source, for messages.

  Raises:
    DataError: there is no row, a value is missing, NaN, negative where it is
      an id, or of a wrong type, or rows are duplicates.
  """
  if not table.num_rows:
    raise DataError(f"{name}: there is not one row of data.")
  users, user_raw = _encode_ids(table, spec.user, spec.mixed_ids, where)
  items, item_raw = _encode_ids(table, spec.item, spec.mixed_ids, where)
  columns = {"user_id": users, "item_id": items}
  if spec.timestamp:
    columns["timestamp"] = _seconds(
      table.column(spec.timestamp), spec.timestamp, spec.timestamp_unit, where
    )
  if spec.rating:
    columns["rating"] = _numbers(
      table.column(spec.rating), spec.rating, where
    ).astype(np.float32)
  for column in spec.context:
    columns[column] = _context(table.column(column), column, where)
  keep = _without_duplicates(columns, spec.duplicates, where)
  if spec.min_rating is not None:
    keep &= columns["rating"] >= spec.min_rating
    if not keep.any():
      raise DataError(f"{name}: no rating reaches {spec.min_rating}.")
  if not keep.all():
    columns = {key: values[keep] for key, values in columns.items()}
    columns["user_id"], user_raw = compact_ids(columns["user_id"], user_raw)
    columns["item_id"], item_raw = compact_ids(columns["item_id"], item_raw)
  return Interactions.from_columns(
    name,
    columns,
    num_users=len(user_raw),
    num_items=len(item_raw),
    users=pa.table({"raw_id": user_raw}),
    items=pa.table({"raw_id": item_raw}),
  )


def compact_ids(
  ids: Int[np.ndarray, " row"], raw: pa.Array
) -> tuple[Int[np.ndarray, " row"], pa.Array]:
  """Renumbers ids so that none is without a row."""
  kept = np.unique(ids)
  new_ids = np.zeros(len(raw) + 1, np.int32)
  new_ids[kept] = np.arange(1, len(kept) + 1)
  return new_ids[ids], raw.take(pa.array(kept - 1))


def _encode_ids(
  table: pa.Table, name: str, mixed: bool, where: Callable[[int], str]
) -> tuple[Int[np.ndarray, " row"], pa.Array]:
  column = table.column(name)
  _check_no_null(column, name, where)
  if pa.types.is_floating(column.type):
    values = _numbers(column, name, where)
    if not np.all(values == np.floor(values)):
      row = int(np.flatnonzero(values != np.floor(values))[0])
      raise DataError(
        f"{where(row)}: ids must be integers or text; column {name!r} holds"
        f" {values[row]}."
      )
    column = column.cast(pa.int64())
  if not pa.types.is_dictionary(column.type):
    column = column.dictionary_encode()
  coded = _one_array(column.unify_dictionaries())
  codes = coded.indices.to_numpy()
  raw = coded.dictionary.cast(pa.string())

  def check(is_bad: Bool[np.ndarray, " id"], fault: str) -> None:
    if is_bad.any():
      row = int(np.flatnonzero(is_bad[codes])[0])
      shown = raw[int(codes[row])].as_py()
      raise DataError(f"{where(row)}: {shown!r} in column {name!r} {fault}.")

  check(
    np.asarray(pc.call_function("equal", [raw, pa.scalar("")])),
    "is an empty id",
  )
  is_integer = np.asarray(_looks_integer(raw))
  if not mixed and is_integer.any():
    check(
      ~is_integer,
      "stands among integer ids: is the line broken? If ids are text, set"
      " text_ids=True",
    )
  # "007" and "7" are two ids; only text can keep them apart.
  canonical = is_integer.all() and raw.cast(pa.int64()).cast(
    pa.string()
  ).equals(raw)
  if canonical:
    numbers = raw.cast(pa.int64()).to_numpy()
    check(numbers < 0, "is a negative id")
    order = np.argsort(numbers, kind="stable")
  else:
    order = pc.call_function("array_sort_indices", [raw]).to_numpy()
  rank = np.empty(len(raw), np.int32)
  rank[order] = np.arange(1, len(raw) + 1)
  return rank[codes], raw.take(pa.array(order))


def _looks_integer(raw: pa.Array) -> pa.Array:
  options = pc.MatchSubstringOptions(r"^-?\d{1,18}$")
  return pc.call_function("match_substring_regex", [raw], options)


def _one_array(column: pa.ChunkedArray):
  combined = column.combine_chunks()
  if isinstance(combined, pa.ChunkedArray):
    return pa.concat_arrays(combined.chunks)
  return combined


def _check_no_null(
  column: pa.ChunkedArray, name: str, where: Callable[[int], str]
) -> None:
  if column.null_count:
    row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
    raise DataError(f"{where(row)}: column {name!r} has no value.")


def _numbers(
  column: pa.ChunkedArray, name: str, where: Callable[[int], str]
) -> Float[np.ndarray, " row"]:
  """A column as float64 without NaN."""
  _check_no_null(column, name, where)
  try:
    values = column.cast(pa.float64()).to_numpy()
  except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
    _raise_at_first(column, name, "a number", float, where)
  bad = np.flatnonzero(~np.isfinite(values))
  if len(bad):
    row = int(bad[0])
    raise DataError(
      f"{where(row)}: column {name!r} must hold finite numbers, got"
      f" {values[row]}."
    )
  return values


def _seconds(
  column: pa.ChunkedArray, name: str, unit: str, where: Callable[[int], str]
) -> Int[np.ndarray, " row"]:
  """Numbers in `unit`, Arrow times or ISO texts as seconds since 1970."""
  _check_no_null(column, name, where)
  ticks = _TICKS[unit]
  kind = column.type
  if pa.types.is_string(kind) or pa.types.is_large_string(kind):
    for target in (pa.int64(), pa.float64(), pa.timestamp("us")):
      try:
        column = column.cast(target)
        break
      except pa.ArrowInvalid:
        continue
    else:
      column = _zoned_times(column, name, where)
    kind = column.type
  if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
    column = column.cast(pa.timestamp("us", getattr(kind, "tz", None)))
    return np.asarray(column.cast(pa.int64())) // 10**6
  if pa.types.is_integer(kind):
    return np.asarray(column.cast(pa.int64())) // ticks
  return np.floor(_numbers(column, name, where) / ticks).astype(np.int64)


def _zoned_times(
  column: pa.ChunkedArray, name: str, where: Callable[[int], str]
) -> pa.ChunkedArray:
  try:
    return column.cast(pa.timestamp("us", "UTC"))
  except pa.ArrowInvalid:
    kind = "a number or an ISO time"
    _raise_at_first(column, name, kind, _parse_time, where)


def _parse_time(text: str) -> None:
  try:
    float(text)
  except ValueError:
    pa.array([text]).cast(pa.timestamp("us", "UTC" if "Z" in text else None))


def _raise_at_first(
  column: pa.ChunkedArray,
  name: str,
  kind: str,
  parse: Callable[[str], object],
  where: Callable[[int], str],
) -> NoReturn:
  """Raises at the first value that `parse` refuses; slow, for errors only."""
  for row, value in enumerate(column):
    try:
      parse(value.as_py())
    except (ValueError, TypeError):
      raise DataError(
        f"{where(row)}: {value.as_py()!r} in column {name!r} is not {kind}."
      ) from None
  raise DataError(f"column {name!r} mixes several ways to write {kind}.")


def _context(
  column: pa.ChunkedArray, name: str, where: Callable[[int], str]
) -> np.ndarray:
  kind = column.type
  if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
    _check_no_null(column, name, where)
    return np.asarray(column)
  if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
    return _numbers(column, name, where)
  if pa.types.is_null(kind):
    raise DataError(f"column {name!r} has no value at all.")
  text = column.cast(pa.string()).fill_null("")
  return np.asarray(text, dtype=object)


def _without_duplicates(
  columns: dict[str, np.ndarray], policy: str, where: Callable[[int], str]
) -> Bool[np.ndarray, " row"]:
  """Which rows stay under the policy for duplicates."""
  rows = len(columns["user_id"])
  keep = np.ones(rows, bool)
  if policy == "keep":
    return keep
  num_items = int(columns["item_id"].max()) + 1
  pair = columns["user_id"].astype(np.int64) * num_items + columns["item_id"]
  keys = (pair,)
  if "timestamp" in columns:
    keys = (columns["timestamp"], pair)
  order = np.lexsort(keys)  # Stable: equal rows stay in their order.
  same = np.ones(rows - 1, bool)
  for key in keys:
    same &= key[order[1:]] == key[order[:-1]]
  if not same.any():
    return keep
  if policy == "error":
    repeats = order[1:][same]
    row = int(repeats.min())
    first = int(order[:-1][same][repeats.argmin()])
    what = "user, item and timestamp" if len(keys) == 2 else "user and item"
    raise DataError(
      f"{where(row)}: the same {what} as at {where(first)};"
      f" {len(repeats)} such row(s) in all. Choose duplicates='keep', 'first'"
      " or 'last'."
    )
  keep[order[1:][same] if policy == "first" else order[:-1][same]] = False
  return keep
