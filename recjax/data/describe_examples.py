"""What labelled examples are like: `recjax data NAME` for ranking models."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt64
from rich import box, markup
from rich import table as rich_table

from recjax import progress
from recjax.data.column_values import ColumnValues, is_list
from recjax.data.examples import PARTS, Examples, ExampleSplit
from recjax.features import hashing

_HELD_OUT = PARTS[1:]
_MAX_SHOWN_CHARS = 14


@dataclasses.dataclass(frozen=True)
class PartSummary:
  """Labels and repetitions of the rows for one purpose.

  Attributes:
    part: "train", "validation" or "test".
    num_rows: rows.
    label_mean: mean of the labels, which is the share of positive ones where
      they are 0 and 1; None without rows.
    label_stddev: their standard deviation, with divisor n; None without rows.
    weight_range: smallest, mean and largest weight; None without weights or
      rows.
    num_repeats: rows all of whose columns, and the label, are those of an
      earlier row of this part. Weights are not looked at.
    num_in_train: rows all of whose columns are those of a training row, be
      its label the same or not; 0 for the training part itself.
    num_in_train_with_label: those of them where the label is the same, too.
  """

  part: str
  num_rows: int
  label_mean: float | None
  label_stddev: float | None
  weight_range: tuple[float, float, float] | None
  num_repeats: int
  num_in_train: int
  num_in_train_with_label: int


@dataclasses.dataclass(frozen=True)
class ColumnSummary:
  """One column, by its training rows unless said otherwise.

  A null, a NaN, an empty text and an empty list are missing. Of a column of
  lists the values in the lists are counted.

  Attributes:
    name: of the column.
    type: of Arrow, with that of the values for dictionaries.
    num_distinct: distinct values without missing ones.
    missing_share: share of rows without a value.
    top_value: the most common value as text; None if there is none.
    top_share: its share of rows, or of all values in lists.
    unseen: "validation", "test" -> share of the rows of that part with a value
      that no training row has, or, of floats, with one outside of the range of
      the training rows; None where the part has no row.
    minimum: of numbers; None for other types or if all are missing.
    median: of numbers, likewise.
    maximum: of numbers, likewise.
    mean_len: values per row of a column of lists; None for others.
  """

  name: str
  type: str
  num_distinct: int
  missing_share: float
  top_value: str | None
  top_share: float
  unseen: dict[str, float | None]
  minimum: float | int | None
  median: float | None
  maximum: float | int | None
  mean_len: float | None


@dataclasses.dataclass(frozen=True)
class ExampleSummary:
  """Counts and distributions of labelled examples.

  Attributes:
    name: of the data set.
    fingerprint: of the content of the three parts.
    label: the column of labels.
    weight: the column of weights, or "".
    has_binary_labels: whether all labels are 0 or 1.
    parts: train, validation and test.
    columns: all columns but label and weight.
  """

  name: str
  fingerprint: str
  label: str
  weight: str
  has_binary_labels: bool
  parts: tuple[PartSummary, ...]
  columns: tuple[ColumnSummary, ...]

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON."""
    return dataclasses.asdict(self)

  def facts(self) -> list[tuple[str, str]]:
    """Pairs of what and how much, as text."""
    kind = "0 or 1" if self.has_binary_labels else "numbers"
    facts = [
      ("data set", self.name),
      ("fingerprint", self.fingerprint[:16]),
      ("rows", f"{sum(part.num_rows for part in self.parts):,}"),
      ("columns", f"{len(self.columns):,}"),
      ("label", f"{self.label} ({kind})"),
    ]
    ranges = [p.weight_range for p in self.parts if p.weight_range is not None]
    if ranges:
      low, mean, high = ranges[0]
      facts.append(
        (
          "weight",
          f"{self.weight} (in train from {low:,.4g} to {high:,.4g}, mean"
          f" {mean:,.4g})",
        )
      )
    return facts

  def tables(self) -> tuple[rich_table.Table, ...]:
    """Facts, parts, columns and numbers, to be printed by rich."""
    facts = rich_table.Table(box=box.SIMPLE, show_header=False)
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column()
    for what, value in self.facts():
      facts.add_row(what, markup.escape(value))
    tables = [facts, self._part_table(), self._column_table()]
    if any(column.median is not None for column in self.columns):
      tables.append(self._number_table())
    return tuple(tables)

  def _part_table(self) -> rich_table.Table:
    labels = ["positive"] if self.has_binary_labels else ["mean", "stddev"]
    table = _table(
      "rows and labels",
      *("part", "rows", *labels, "repeats", "in train", "with its label"),
    )
    for part in self.parts:
      shown = [part.label_mean, part.label_stddev][: len(labels)]
      form = ".2%" if self.has_binary_labels else ",.4g"
      table.add_row(
        part.part,
        f"{part.num_rows:,}",
        *("" if value is None else f"{value:{form}}" for value in shown),
        f"{part.num_repeats:,}",
        *(
          "" if part.part == "train" else f"{count:,}"
          for count in (part.num_in_train, part.num_in_train_with_label)
        ),
      )
    return table

  def _column_table(self) -> rich_table.Table:
    headings = ["column", "type", "distinct", "missing", "most common", "share"]
    headings += ["new in val.", "new in test"]
    has_lists = any(column.mean_len is not None for column in self.columns)
    if has_lists:
      headings.append("mean length")
    table = _table("columns in train", *headings)
    for column in self.columns:
      cells = [
        markup.escape(column.name),
        column.type,
        f"{column.num_distinct:,}",
        _percent(column.missing_share),
        _cut(column.top_value or ""),
        _percent(column.top_share),
        *(_percent(column.unseen[part]) for part in _HELD_OUT),
      ]
      if has_lists:
        cells.append(_number(column.mean_len))
      table.add_row(*cells)
    return table

  def _number_table(self) -> rich_table.Table:
    headings = ("column", "min", "median", "max")
    table = _table("numbers in train", *headings)
    for column in self.columns:
      if column.median is not None:
        numbers = (column.minimum, column.median, column.maximum)
        table.add_row(markup.escape(column.name), *map(_number, numbers))
    return table


def describe_examples(split: ExampleSplit) -> ExampleSummary:
  """Counts, shares and distributions of labelled examples, column by column.

  All rows are looked at; memory grows with 16 bytes a row besides one column
  at a time. Rows are compared by 64-bit keys of their values.
  """
  parts = (split.train, split.validation, split.test)
  first = split.train
  bounds = np.cumsum([0, *(len(part) for part in parts)])
  kinds = {
    field.name: field.type
    for field in first.table.schema
    if field.name not in (first.label, first.weight)
  }
  keys = np.zeros(bounds[-1], np.uint64)
  columns = []
  for name in progress.track(list(kinds), f"describing {first.name}"):
    chunks = [c for part in parts for c in part.table.column(name).chunks]
    values = ColumnValues.of_column(_joined(chunks, kinds[name]))
    keys = hashing.combined([keys, values.row_keys()])
    columns.append(_describe_column(name, kinds[name], values, bounds))
  train_keys = [np.sort(part) for part in _keys(first, keys[: len(first)])]
  return ExampleSummary(
    first.name.removesuffix(f" {PARTS[0]}"),
    split.fingerprint,
    first.label,
    first.weight,
    all(bool(np.isin(part.labels, [0, 1]).all()) for part in parts),
    tuple(
      _describe_part(name, part, keys[start:stop], train_keys)
      for name, part, start, stop in zip(PARTS, parts, bounds, bounds[1:])
    ),
    tuple(columns),
  )


def _joined(chunks: list[pa.Array], kind: pa.DataType) -> pa.ChunkedArray:
  # Dictionaries may differ from chunk to chunk.
  if pa.types.is_dictionary(kind):
    kind = kind.value_type
    chunks = [chunk.cast(kind) for chunk in chunks]
  return pa.chunked_array(chunks, kind)


def _keys(
  part: Examples, keys: UInt64[np.ndarray, " row"]
) -> tuple[UInt64[np.ndarray, " row"], UInt64[np.ndarray, " row"]]:
  """Keys of rows without and with their label."""
  # 0 and -0 have other bits; their sum with 0 has the same ones.
  bits = (part.labels + np.float32(0)).view(np.int32)
  return keys, hashing.combined([keys, hashing.hash_integers(bits)])


def _describe_part(
  name: str,
  part: Examples,
  keys: UInt64[np.ndarray, " row"],
  train_keys: list[UInt64[np.ndarray, " train_row"]],
) -> PartSummary:
  labels, weights = part.labels, part.weights
  plain, labelled = _keys(part, keys)
  found = [0, 0]
  if name != PARTS[0]:
    found = [
      _count_found(mine, theirs)
      for mine, theirs in zip((plain, labelled), train_keys)
    ]
  weight_range = None
  if weights is not None and len(part):
    mean = weights.mean(dtype=np.float64)
    weight_range = (float(weights.min()), float(mean), float(weights.max()))
  return PartSummary(
    name,
    len(part),
    float(labels.mean(dtype=np.float64)) if len(part) else None,
    float(labels.std(dtype=np.float64)) if len(part) else None,
    weight_range,
    int((np.diff(np.sort(labelled)) == 0).sum()),
    *found,
  )


def _count_found(
  keys: UInt64[np.ndarray, " row"], ordered: UInt64[np.ndarray, " train_row"]
) -> int:
  """How many keys stand among ordered ones, of which there is one at least."""
  places = np.searchsorted(ordered, keys)
  return int((ordered[np.minimum(places, len(ordered) - 1)] == keys).sum())


def _describe_column(
  name: str,
  kind: pa.DataType,
  values: ColumnValues,
  bounds: Int[np.ndarray, " bound"],
) -> ColumnSummary:
  train, *held_out = (
    values.part(int(start), int(stop))
    for start, stop in zip(bounds, bounds[1:])
  )
  counts = train.counts()
  seen = counts > 0
  top = int(counts.argmax()) if seen.any() else None
  numbers = _quantiles(values.distinct, counts)
  new = ~seen
  if pa.types.is_floating(values.distinct.type) and top is not None:
    floats = values.distinct.to_numpy(zero_copy_only=False)
    new = (floats < numbers[0]) | (floats > numbers[2])
  return ColumnSummary(
    name=name,
    type=_type_text(kind),
    num_distinct=int(seen.sum()),
    missing_share=float(1 - train.rows_with(seen).mean()),
    top_value=None if top is None else _text(values.distinct[top].as_py()),
    top_share=0.0 if top is None else float(counts[top] / len(train.codes)),
    unseen={
      part: float(of.rows_with(new).mean()) if of.num_rows else None
      for part, of in zip(_HELD_OUT, held_out)
    },
    minimum=numbers[0],
    median=numbers[1],
    maximum=numbers[2],
    mean_len=len(train.codes) / train.num_rows if is_list(kind) else None,
  )


def _quantiles(
  distinct: pa.Array, counts: Int[np.ndarray, " distinct"]
) -> tuple[float | int | None, float | None, float | int | None]:
  """Smallest, median and largest number, each as often as it is counted."""
  kind = distinct.type
  if not pa.types.is_integer(kind) and not pa.types.is_floating(kind):
    return None, None, None
  present = np.flatnonzero(counts)
  if not len(present):
    return None, None, None
  numbers = distinct.take(pa.array(present)).to_numpy(zero_copy_only=False)
  order = np.argsort(numbers)
  numbers, up_to = numbers[order], np.cumsum(counts[present][order])
  total = int(up_to[-1])
  middle = np.searchsorted(up_to, [(total - 1) // 2, total // 2], side="right")
  low, high = (float(numbers[place]) for place in middle)
  return numbers[0].item(), (low + high) / 2, numbers[-1].item()


def _type_text(kind: pa.DataType) -> str:
  if is_list(kind):
    return f"list of {_type_text(kind.value_type)}"
  if pa.types.is_dictionary(kind):
    return _type_text(kind.value_type)
  return str(kind)


def _text(value: Any) -> str:
  return f"{value:g}" if isinstance(value, float) else str(value)


def _table(title: str, *headings: str) -> rich_table.Table:
  table = rich_table.Table(
    box=box.SIMPLE_HEAD, title=title, title_style="bold", padding=(0, 0)
  )
  for number, heading in enumerate(headings):
    table.add_column(
      heading, justify="right" if number else "left", no_wrap=not number
    )
  return table


def _percent(share: float | None) -> str:
  """A share with three digits; one that is not 0 never looks like 0."""
  if share is None:
    return ""
  if 0 < share < 0.0005:
    return "<0.1%"
  return f"{share:.1%}" if share else "0%"


def _number(value: float | int | None) -> str:
  if value is None:
    return ""
  if value == round(value, 1) and abs(value) < 1e9:
    return f"{value:,}".removesuffix(".0")
  return f"{value:,.4g}"


def _cut(text: str) -> str:
  """A text that is not too long for a table, and no markup to rich."""
  if len(text) > _MAX_SHOWN_CHARS:
    text = f"{text[: _MAX_SHOWN_CHARS - 1]}…"
  return markup.escape(text)
