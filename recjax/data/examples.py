"""Labelled rows for ranking models: immutable, memory-mapped columns."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Shaped

from recjax import files
from recjax.data import arrow_store
from recjax.data import fingerprint as fingerprints
from recjax.errors import DataError, check_choice, check_column, nearest

_FORMAT = 1
PARTS = ("train", "validation", "test")
LABEL_KINDS = ("binary", "real")


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
  """Rows of raw columns with a label.

  Make one with `from_table` or `load`; the constructor checks nothing.

  Attributes:
    name: how reports call it.
    table: Arrow columns, those of label and weight as float32.
    label: the name of the label's column.
    weight: the name of the weights' column, or "".
    fingerprint: hex SHA-256 of columns and roles; neither the name nor the
      layout of a file has a part in it.
  """

  name: str
  table: pa.Table
  label: str
  weight: str
  fingerprint: str

  @classmethod
  def from_table(
    cls,
    name: str,
    table: pa.Table,
    *,
    label: str = "label",
    weight: str = "",
    label_kind: str = "binary",
    where: Callable[[int], str] | None = None,
  ) -> "Examples":
    """Checks labels and weights, and seals the table.

    Args:
      name: how reports call it.
      table: the rows; there may be none.
      label: the column of labels.
      weight: the column of weights, or "".
      label_kind: "binary" admits 0 and 1 alone, "real" all finite numbers.
      where: tells where a row (from 0) stands in the source, for messages.

    Raises:
      DataError: a column is missing, or a label or weight is no number or out
        of range; row, column and value are named.
    """
    table = check_examples(
      name,
      table,
      label=label,
      weight=weight,
      label_kind=label_kind,
      where=where,
    ).combine_chunks()
    roles = {f"label {label}": 1, f"weight {weight}": 1}
    digest = fingerprints.fingerprint({"examples": table}, roles)
    return cls(name, table, label, weight, digest)

  def __len__(self) -> int:
    return self.table.num_rows

  def column(self, name: str) -> Shaped[np.ndarray, " row"]:
    """A column as an array; numbers without nulls are not copied.

    Raises:
      DataError: there is no such column.
    """
    check_column(self.name, name, self.table.column_names)
    values = self.table.column(name).to_numpy()
    values.flags.writeable = False
    return values

  def numbers(self, name: str) -> Float32[np.ndarray, " row"]:
    """A column as float32, NaN where it is null.

    Raises:
      DataError: there is no such column, or it holds something else.
    """
    self.column(name)
    where = lambda row: f"{self.name}, row {row}"
    return column_numbers(self.table.column(name), name, where)

  @functools.cached_property
  def labels(self) -> Float32[np.ndarray, " row"]:
    """The label of each row."""
    return self.column(self.label)

  @functools.cached_property
  def weights(self) -> Float32[np.ndarray, " row"] | None:
    """The weight of each row, or None."""
    return self.column(self.weight) if self.weight else None

  def save(self, directory: files.PathLike) -> None:
    """Writes an Arrow file and its manifest, all or nothing."""
    facts = {
      "format": _FORMAT,
      "name": self.name,
      "label": self.label,
      "weight": self.weight,
      "fingerprint": self.fingerprint,
    }
    arrow_store.save_tables(directory, {"examples": self.table}, facts)

  @classmethod
  def load(cls, directory: files.PathLike) -> "Examples":
    """Maps saved examples into memory after checking the file.

    Raises:
      DataError: a file is missing, truncated or altered; it is named.
    """
    manifest, tables = arrow_store.load_tables(
      directory,
      what="examples",
      version=_FORMAT,
      facts=("name", "label", "weight", "fingerprint"),
      needs="examples",
    )
    return cls(
      manifest["name"],
      tables["examples"],
      manifest["label"],
      manifest["weight"],
      manifest["fingerprint"],
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleSplit:
  """Examples to train on, to select models on, and to report on.

  Attributes:
    train: features are fitted on these rows alone.
    validation: it may be empty.
    test: it may be empty.
  """

  train: Examples
  validation: Examples
  test: Examples

  def __post_init__(self):
    if not len(self.train):
      raise DataError(f"{self.train.name}: there is no training row.")
    for part in (self.validation, self.test):
      expected, found = self.train.table.schema, part.table.schema
      if not found.equals(expected):
        raise DataError(
          f"{part.name} has the columns ({_listed(found)}), but"
          f" {self.train.name} has ({_listed(expected)})."
        )

  @property
  def fingerprint(self) -> str:
    """Of the three parts."""
    parts = (self.train, self.validation, self.test)
    return fingerprints.fingerprint(
      {}, {f"{key} {part.fingerprint}": 1 for key, part in zip(PARTS, parts)}
    )

  def save(self, directory: files.PathLike) -> None:
    """Writes a folder for each part, all or nothing."""
    with files.replace_directory(directory) as folder:
      for part in PARTS:
        getattr(self, part).save(folder / part)

  @classmethod
  def load(cls, directory: files.PathLike) -> "ExampleSplit":
    """Maps a saved split into memory after checking its files.

    Raises:
      DataError: a file is missing, truncated or altered; it is named.
    """
    folder = pathlib.Path(directory)
    return cls(*(Examples.load(folder / part) for part in PARTS))


def _listed(schema: pa.Schema) -> str:
  return ", ".join(f"{field.name}: {field.type}" for field in schema)


def check_examples(
  name: str,
  table: pa.Table,
  *,
  label: str,
  weight: str = "",
  label_kind: str = "binary",
  where: Callable[[int], str] | None = None,
) -> pa.Table:
  """The table with label and weight as float32; see `Examples.from_table`."""
  check_choice("label_kind", label_kind, LABEL_KINDS)
  where = where or (lambda row: f"{name}, row {row}")
  columns = [label, weight] if weight else [label]
  for role, column in zip(("label", "weight"), columns):
    if column not in table.column_names:
      raise DataError(
        f"{name} has no column {column!r} for its {role}; it has"
        f" {', '.join(table.column_names)}."
        f"{nearest(column, table.column_names)}"
      )
    values = column_numbers(table.column(column), column, where)
    if role == "weight":
      bad, rule = ~(values >= 0), "weights must be 0 or more"
    elif label_kind == "binary":
      bad, rule = (values != 0) & (values != 1), "labels must be 0 or 1"
    else:
      bad, rule = np.isnan(values), "labels must be finite numbers"
    bad |= np.isinf(values)
    if bad.any():
      row = int(np.flatnonzero(bad)[0])
      shown = table.column(column)[row].as_py()
      raise DataError(
        f"{where(row)}: column {column!r} holds {shown!r}; {rule}."
      )
    place = table.column_names.index(column)
    table = table.set_column(place, column, pa.array(values, pa.float32()))
  return table


def column_numbers(
  column: pa.ChunkedArray, name: str, where: Callable[[int], str]
) -> Float32[np.ndarray, " row"]:
  """A column as float32, NaN where a value is missing.

  Args:
    column: numbers, or booleans.
    name: of the column.
    where: tells where a row (from 0) stands, for messages.

  Raises:
    DataError: it holds something else.
  """
  try:
    if pa.types.is_boolean(column.type):
      column = column.cast(pa.int8())
    return column.cast(pa.float32(), safe=False).fill_null(np.nan).to_numpy()
  except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
    pass
  for row, value in enumerate(column.to_pylist()):
    try:
      if value is not None:
        float(value)
    except (TypeError, ValueError):
      raise DataError(
        f"{where(row)}: column {name!r} holds {value!r}, which is no number."
      ) from None
  raise DataError(f"column {name!r} has the type {column.type}.")


def join_blocks(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
  """All rows of blocks, which may be none, with the types of a schema."""
  if not tables:
    return schema.empty_table()
  return pa.concat_tables(tables)
