"""Any CSV, TSV or Parquet files as labelled rows."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from pyarrow import parquet

from recjax.data.example_blocks import Block, read_blocks
from recjax.data.examples import LABEL_KINDS, ExampleSplit, check_examples
from recjax.data.sources import text_blocks
from recjax.data.sources.columns import as_names
from recjax.data.sources.delimited import sniff_delimiter
from recjax.data.sources.example_files import PartFiles
from recjax.errors import (
  ConfigError,
  DataError,
  check_choice,
  check_column,
  check_range,
)

_BLOCK_ROWS = 1 << 17


@dataclasses.dataclass(frozen=True)
class ExampleTable:
  """Labelled rows in files with named columns.

  All files are of one kind: Parquet, or text (any other ending, also with
  .gz, .bz2 or .zst). Types of text columns are looked up in the first block
  of the first training file: integers, numbers, or else text.

  Attributes:
    train: a file, a folder or a glob, in the data folder or absolute.
    label_column: the column of labels.
    weight_column: the column of weights, or "".
    validation: the same as `train`; "" takes rows out of the training files.
    test: the same.
    validation_fraction: share of the rows of the training files that is for
      validation; None is 0.1 where no file is named for it, else 0.
    test_fraction: the same for test.
    seed: deals the rows out.
    label_kind: "binary" for labels 0 and 1, "real" for numbers.
    columns: of the files, which are kept besides label and weight; () keeps
      all.
    text_columns: columns of text files that hold text, whatever they look
      like: codes such as "007".
    number_columns: columns of text files that hold numbers with fractions,
      though the first block may show none.
    column_names: all columns of text files without a header line.
    null_values: texts that stand for a missing value, besides the empty one.
    delimiter: of text; by default found in the first line.
    encoding: of text.
    name: how reports call it; by default the folder, or else the file.
    block_bytes: text that is read at a time.
  """

  train: str
  label_column: str = "label"
  weight_column: str = ""
  validation: str = ""
  test: str = ""
  validation_fraction: float | int | None = None
  test_fraction: float | int | None = None
  seed: int = 0
  label_kind: str = "binary"
  columns: Sequence[str] = ()
  text_columns: Sequence[str] = ()
  number_columns: Sequence[str] = ()
  column_names: Sequence[str] = ()
  null_values: Sequence[str] = ()
  delimiter: str = ""
  encoding: str = "utf-8"
  name: str = ""
  block_bytes: int = dataclasses.field(
    default=text_blocks.BLOCK_BYTES, metadata={"changes_data": False}
  )

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if field.default == ():
        names = as_names(field.name, getattr(self, field.name))
        object.__setattr__(self, field.name, names)
    check_choice("label_kind", self.label_kind, LABEL_KINDS)
    check_range("ExampleTable.block_bytes", self.block_bytes, 1, integer=True)
    if not self.label_column:
      raise ConfigError("label_column must name a column; got ''.")
    if len(self.delimiter) > 1:
      raise ConfigError(
        "delimiter must be one character, or '' to find it; got"
        f" {self.delimiter!r}."
      )
    both = set(self.text_columns) & set(self.number_columns)
    if both:
      raise ConfigError(
        f"{', '.join(sorted(both))} can not be in text_columns and in"
        " number_columns."
      )
    self._parts()
    if not self.name:
      path = pathlib.PurePath(self.train)
      folder = "" if path.is_absolute() else path.parent.name
      object.__setattr__(self, "name", folder or path.name.split(".")[0])

  def _parts(self) -> PartFiles:
    return PartFiles(
      self.train,
      self.validation,
      self.test,
      self.validation_fraction,
      self.test_fraction,
      self.seed,
    )

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files that are read.

    Raises:
      DataError: there is none, or Parquet and text are mixed.
    """
    found = self._parts().find(pathlib.Path(data_dir), self.name)
    paths = tuple(path for _, path in found)
    kinds = {path.suffix == ".parquet" for path in paths}
    if len(kinds) > 1:
      raise DataError(
        f"{self.name}: the files must all be Parquet or all be text; got"
        f" {', '.join(path.name for path in paths[:5])}."
      )
    return paths

  def blocks(
    self, data_dir: pathlib.Path, position: dict[str, int] | None = None
  ) -> Iterator[Block]:
    """Rows block by block; label and weight are float32.

    Raises:
      DataError: a file is missing or broken, lacks a column, or has a bad
        value; file and line, or row, are named.
    """
    first = self.files(pathlib.Path(data_dir))[0]
    if first.suffix == ".parquet":
      schema = self._parquet_schema(first)
      read = lambda path, offset: self._read_parquet(path, schema, offset)
    else:
      layout = self._layout(first)
      read = lambda path, offset: self._read_text(path, layout, offset)
    return self._parts().blocks(
      pathlib.Path(data_dir), self.name, read, position
    )

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """All rows; see `blocks` for what it raises."""
    return read_blocks(self, pathlib.Path(data_dir), self.label_kind)

  def _check(self, table: pa.Table, where) -> pa.Table:
    return check_examples(
      self.name,
      table,
      label=self.label_column,
      weight=self.weight_column,
      label_kind=self.label_kind,
      where=where,
    )

  def _wanted(self, path: pathlib.Path, known: Sequence[str]) -> list[str]:
    """The columns to keep, all of which a file must have."""
    roles = [self.label_column, self.weight_column]
    kept = self.columns or known
    wanted = dict.fromkeys([*kept, *(role for role in roles if role)])
    self._known(path, (*self.text_columns, *self.number_columns), known)
    return self._known(path, wanted, known)

  def _known(
    self, path: pathlib.Path, names: Iterable[str], known: Sequence[str]
  ) -> list[str]:
    for name in names:
      check_column(path, name, known)
    return list(names)

  # -- Text -------------------------------------------------------------------

  def _layout(self, path: pathlib.Path) -> text_blocks.TextLayout:
    """Columns and types, from the first block."""
    layout = text_blocks.TextLayout(
      delimiter=self.delimiter or sniff_delimiter(path, self.encoding),
      types={},
      header=not self.column_names,
      quotes=True,
      null_values=tuple(self.null_values),
      encoding=self.encoding,
      hint=(
        " The types are those of the first block; text_columns and"
        " number_columns change them."
      ),
    )
    names = self.column_names or text_blocks.header_of(path, layout)
    for name in names:
      if list(names).count(name) > 1:
        raise DataError(f"{path} has two columns named {name!r}.")
    types: dict[str, pa.DataType | None] = dict.fromkeys(names)
    for name in self.text_columns:
      types[name] = pa.string()
    layout = dataclasses.replace(
      layout, types=types, columns=tuple(self._wanted(path, names))
    )
    first = next(
      text_blocks.text_blocks(path, layout, 0, self.block_bytes), None
    )
    if first is None:
      raise DataError(f"{path} has no row of data.")
    for field in first.table.schema:
      types[field.name] = _text_type(field.type)
    for name in self.number_columns:
      types[name] = pa.float64()
    return layout

  def _read_text(
    self, path: pathlib.Path, layout: text_blocks.TextLayout, offset: int
  ) -> Iterator[tuple[pa.Table, int]]:
    if layout.header:
      text_blocks.check_header(path, layout)
    for table, start, end in text_blocks.text_blocks(
      path, layout, offset, self.block_bytes
    ):
      where = lambda row, start=start: (
        f"{path}, line {text_blocks.line_of(path, layout, start, row)}"
      )
      yield self._check(table, where), end

  # -- Parquet ----------------------------------------------------------------

  def _parquet_schema(self, path: pathlib.Path) -> pa.Schema:
    known = _parquet_file(path).schema_arrow
    return pa.schema(
      [known.field(name) for name in self._wanted(path, known.names)]
    )

  def _read_parquet(
    self, path: pathlib.Path, schema: pa.Schema, offset: int
  ) -> Iterator[tuple[pa.Table, int]]:
    """Blocks of rows; the offset counts rows."""
    file = _parquet_file(path)
    wanted = self._known(path, schema.names, file.schema_arrow.names)
    row = 0
    for group in range(file.num_row_groups):
      num_rows = file.metadata.row_group(group).num_rows
      if row + num_rows <= offset:
        row += num_rows
        continue
      try:
        for batch in file.iter_batches(_BLOCK_ROWS, [group], columns=wanted):
          first, row = row, row + batch.num_rows
          if row <= offset or not batch.num_rows:
            continue
          table = pa.Table.from_batches([batch]).select(schema.names)
          where = lambda at, first=first: f"{path}, row {first + at + 1}"
          yield self._check(table.cast(schema), where), row
      except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise DataError(
          f"{path}, rows from {row + 1}: can not be read as the first file"
          f" was: {error}."
        ) from error


def _text_type(found: pa.DataType) -> pa.DataType:
  """Integers, numbers and booleans as found, all else as text."""
  kinds = pa.types
  if kinds.is_integer(found) or kinds.is_floating(found):
    return found
  return found if kinds.is_boolean(found) else pa.string()


def _parquet_file(path: pathlib.Path) -> parquet.ParquetFile:
  try:
    return parquet.ParquetFile(path)
  except (pa.ArrowInvalid, OSError) as error:
    raise DataError(
      f"{path} is no Parquet file, or a broken one: {error}"
    ) from error
