r"""The features of a line of Ali-CCP, turned into columns.

A text such as "205 \x02 11 \x03 1.0 \x01 210 \x02 7 \x03 1.0", without
the blanks, is the id 11 of the field 205 and the id 7 of the field 210.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from recjax.data.sources import text_blocks
from recjax.errors import DataError

# Fields of which a line may have several ids.
LIST_FIELDS = ("109_14", "110_14", "127_14", "150_14", "210", "853")


class Lines(NamedTuple):
  """Where the rows of a block stand."""

  path: pathlib.Path
  layout: text_blocks.TextLayout
  start: int

  def named(self, row: int) -> str:
    """The file and the line of a row."""
    number = text_blocks.line_of(self.path, self.layout, self.start, row)
    return f"{self.path}, line {number}"


def field_columns(
  table: pa.Table,
  wanted: Sequence[str],
  known: tuple[str, ...],
  values: Sequence[str],
  lines: Lines,
) -> pa.Table:
  """A column for each wanted field, from the texts of features.

  Args:
    table: with the texts in `features`.
    wanted: the fields, of the known ones.
    known: all fields that may come.
    values: lists of which the values are wanted as well, as FIELD_value.
    lines: where the rows stand, for messages.

  Returns:
    int32 ids, null where a row has none; lists of them for LIST_FIELDS.

  Raises:
    DataError: a feature is not FIELD, id and value, its field is none of the
      known ones, or a field that is no list comes twice.
  """
  # An empty text would be one empty feature.
  parts = _split(table.column("features").fill_null(""), "\x01")
  rows = np.repeat(np.arange(len(parts)), _lengths(parts))
  texts = parts.flatten()
  filled = pc.call_function("not_equal", [texts, pa.scalar("")])
  rows, texts = rows[np.asarray(filled)], texts.filter(filled)
  field, rest = _two(texts, "\x02", rows, lines)
  ids, counts = _two(rest, "\x03", rows, lines)
  lookup = pc.SetLookupOptions(pa.array(known))
  found = pc.call_function("index_in", [field], lookup)
  places = found.fill_null(-1).to_numpy()
  bad = np.flatnonzero(places < 0)
  if len(bad):
    raise DataError(
      f"{lines.named(int(rows[bad[0]]))}: a feature of the field"
      f" {field[int(bad[0])].as_py()!r}; known here are {', '.join(known)}."
    )
  columns: dict[str, pa.Array] = {}
  for name in wanted:
    of_field = np.flatnonzero(places == known.index(name))
    at, chosen = rows[of_field], pa.array(of_field)
    numbers = _numbers(ids.take(chosen), pa.int32(), at, name, lines)
    if name not in LIST_FIELDS:
      columns[name] = _single(numbers, at, table.num_rows, name, lines)
      continue
    ends = np.cumsum(np.bincount(at, minlength=table.num_rows))
    offsets = pa.array(np.append(0, ends).astype(np.int32))
    columns[name] = pa.ListArray.from_arrays(offsets, numbers)
    if name in values:
      weights = _numbers(counts.take(chosen), pa.float32(), at, name, lines)
      columns[f"{name}_value"] = pa.ListArray.from_arrays(offsets, weights)
  # Without any field there are rows nevertheless.
  empty = {"rows": pa.nulls(table.num_rows)}
  return pa.table({**columns, **empty}).drop_columns(["rows"])


def _split(texts: pa.Array | pa.ChunkedArray, separator: str) -> pa.Array:
  options = pc.SplitPatternOptions(separator)
  parts = pc.call_function("split_pattern", [texts], options)
  if isinstance(parts, pa.ChunkedArray):
    parts = parts.combine_chunks()
  return parts


def _lengths(lists: pa.Array) -> Int64[np.ndarray, " row"]:
  lengths = pc.call_function("list_value_length", [lists])
  return np.asarray(lengths).astype(np.int64)


def _two(
  texts: pa.Array, separator: str, rows: np.ndarray, lines: Lines
) -> tuple[pa.Array, pa.Array]:
  """What stands before and after a separator."""
  pairs = _split(texts, separator)
  bad = np.flatnonzero(_lengths(pairs) != 2)
  if len(bad):
    raise DataError(
      f"{lines.named(int(rows[bad[0]]))}: {texts[int(bad[0])].as_py()!r} is no"
      r" feature, which is FIELD \x02 id \x03 value."
    )
  flat = pairs.flatten()
  return flat[::2], flat[1::2]


def _numbers(
  texts: pa.Array, kind: pa.DataType, rows: np.ndarray, name: str, lines: Lines
) -> pa.Array:
  try:
    return texts.cast(kind)
  except pa.ArrowInvalid:
    pass
  for row, text in zip(rows, texts):
    try:
      text.cast(kind)
    except pa.ArrowInvalid:
      raise DataError(
        f"{lines.named(int(row))}: {text.as_py()!r} in field {name!r} is no"
        f" {kind}."
      ) from None
  raise AssertionError("a cast fails for all texts and for none")


def _single(
  ids: pa.Array, rows: np.ndarray, num_rows: int, name: str, lines: Lines
) -> pa.Array:
  twice = np.flatnonzero(np.diff(rows) == 0)
  if len(twice):
    raise DataError(
      f"{lines.named(int(rows[twice[0]]))}: the field {name!r} comes twice;"
      f" only {', '.join(LIST_FIELDS)} may."
    )
  values, missing = np.zeros(num_rows, np.int32), np.ones(num_rows, bool)
  values[rows], missing[rows] = ids.to_numpy(zero_copy_only=False), False
  return pa.array(values, mask=missing)
