"""Delimited text to Arrow columns, with the line number of what is wrong."""

import contextlib
import csv
import dataclasses
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from pyarrow import csv as arrow_csv

from recjax.errors import DataError, check_column

_CANDIDATES = ("\t", ",", ";", "|")


@dataclasses.dataclass(frozen=True)
class _Layout:
  """A file and how its text is to be taken apart."""

  path: pathlib.Path
  delimiter: str
  header: tuple[str, ...]
  has_header: bool
  encoding: str
  quotes: bool


def sniff_delimiter(path: pathlib.Path, encoding: str = "utf-8") -> str:
  """The most frequent of tab, comma, semicolon and bar in the first line."""
  with _open_text(path, encoding) as file:
    first = file.readline()
  return max(_CANDIDATES, key=first.count)


def read_delimited(
  path: pathlib.Path,
  *,
  delimiter: str,
  columns: dict[str, pa.DataType | None],
  names: Sequence[str] = (),
  encoding: str = "utf-8",
  quotes: bool = True,
) -> pa.Table:
  """Reads the wanted columns of a CSV-like file, plain or compressed.

  Args:
    path: the file; .gz, .bz2 and .zst are unpacked on the fly.
    delimiter: one character.
    columns: the wanted columns and their types; None infers a type.
    names: the names of all columns of a file that has no header line.
    encoding: of the text.
    quotes: whether '"' quotes a value; else it is a character like others.

  Raises:
    DataError: the file is missing, empty or broken, lacks a column, or has a
      row with too many or too few values or with a value of another type;
      the line's number is given.
  """
  if not path.is_file():
    raise DataError(f"no such file: {path.absolute()}.")
  if path.stat().st_size == 0:
    raise DataError(f"{path} is empty.")
  header = tuple(names) or _header(path, delimiter, encoding, quotes)
  for column in columns:
    check_column(path, column, header)
  layout = _Layout(path, delimiter, header, not names, encoding, quotes)
  try:
    if quotes and _has_open_quote(path):
      # Arrow would take the rest of the file for one value.
      _explain(layout, columns)
    try:
      return _read(layout, columns, newlines=False)
    except pa.ArrowInvalid:
      # A line break inside quotes needs the slower way, which may also fail.
      if not quotes:
        raise
      return _read(layout, columns, newlines=True)
  except pa.ArrowInvalid as error:
    _explain(layout, columns)
    raise DataError(f"{path} can not be read: {error}.") from error
  except (OSError, EOFError) as error:
    raise DataError(f"{path} can not be read: {error}.") from error


def line_of_row(
  path: pathlib.Path,
  row: int,
  *,
  delimiter: str,
  header: bool,
  encoding: str = "utf-8",
  quotes: bool = True,
) -> int:
  """The number of the line at which data row `row` (from 0) starts."""
  with _rows(path, delimiter, encoding, quotes) as rows:
    for place, (line, _) in enumerate(rows):
      if place - header == row:
        return line
  raise ValueError(f"{path} has no row {row}.")


def read_fields(
  path: pathlib.Path, separator: str, num_fields: int, encoding: str
) -> list[list[str]]:
  """Splits every line of a small file at a separator of any length.

  Raises:
    DataError: a line has another number of fields.
  """
  fields = []
  with _open_text(path, encoding) as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      values = line.rstrip("\r\n").split(separator)
      if len(values) != num_fields:
        raise DataError(
          f"{path}, line {number}: expected {num_fields} fields separated by"
          f" {separator!r}, got {len(values)} in {line.strip()[:80]!r}."
        )
      fields.append(values)
  return fields


def _header(
  path: pathlib.Path, delimiter: str, encoding: str, quotes: bool
) -> tuple[str, ...]:
  with _rows(path, delimiter, encoding, quotes) as rows:
    _, header = next(rows, (0, None))
  if header is None:
    raise DataError(f"{path} holds nothing but blank lines.")
  for name in header:
    if header.count(name) > 1:
      raise DataError(f"{path} has two columns named {name!r}.")
  return tuple(header)


def _open_text(path: pathlib.Path, encoding: str) -> io.TextIOWrapper:
  encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
  return io.TextIOWrapper(
    pa.input_stream(str(path)),  # pyright: ignore[reportArgumentType]
    encoding,
    errors="surrogateescape",
    newline="",
  )


@contextlib.contextmanager
def _rows(
  path: pathlib.Path, delimiter: str, encoding: str, quotes: bool
) -> Iterator[Iterator[tuple[int, list[str]]]]:
  """An iterator of (number of its first line, values), without blank lines."""

  def rows(reader):
    line = 1
    try:
      for values in reader:
        if values:
          yield line, values
        line = reader.line_num + 1
    except csv.Error as error:
      raise DataError(
        f"{path}, line {line}: {error}; a quote may be open."
      ) from error

  quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
  try:
    with _open_text(path, encoding) as file:
      reader = csv.reader(
        file, delimiter=delimiter, quoting=quoting, strict=True
      )
      yield rows(reader)
  except (OSError, EOFError) as error:
    raise DataError(f"{path} is broken: {error}.") from error


def _has_open_quote(path: pathlib.Path) -> bool:
  count = 0
  with pa.input_stream(str(path)) as file:  # pyright: ignore
    while block := file.read(1 << 20):
      count += block.count(b'"')
  return count % 2 == 1


def _read(
  layout: _Layout, columns: dict[str, pa.DataType | None], newlines: bool
) -> pa.Table:
  return arrow_csv.read_csv(
    layout.path,
    read_options=arrow_csv.ReadOptions(
      column_names=list(layout.header),
      skip_rows=1 if layout.has_header else 0,
      encoding=layout.encoding,
    ),
    parse_options=arrow_csv.ParseOptions(
      delimiter=layout.delimiter,
      quote_char='"' if layout.quotes else False,
      newlines_in_values=newlines,
    ),
    convert_options=arrow_csv.ConvertOptions(
      include_columns=list(columns),
      column_types={key: kind for key, kind in columns.items() if kind},
    ),
  )


def _explain(layout: _Layout, columns: dict[str, pa.DataType | None]) -> None:
  """Finds the first bad line and raises; returns if all lines look well."""
  path, header, delimiter = layout.path, layout.header, layout.delimiter
  checks = [
    (header.index(name), name, _parser(kind)) for name, kind in columns.items()
  ]
  with _rows(path, delimiter, layout.encoding, layout.quotes) as rows:
    for place, (line, values) in enumerate(rows):
      if layout.has_header and place == 0:
        continue
      if len(values) != len(header):
        raise DataError(
          f"{path}, line {line}: expected {len(header)} values"
          f" ({', '.join(header)}), got {len(values)}:"
          f" {_shown(delimiter.join(values))}."
        )
      for position, name, parse in checks:
        try:
          parse(values[position])
        except ValueError:
          raise DataError(
            f"{path}, line {line}: {_shown(values[position])} in column"
            f" {name!r} is not {_kind_name(columns[name])}."
          ) from None


def _parser(kind: pa.DataType | None) -> Callable[[str], object]:
  if kind is not None and pa.types.is_integer(kind):
    return lambda text: int(text) if text.strip() else None
  if kind is not None and pa.types.is_floating(kind):
    return lambda text: float(text) if text.strip() else None
  return lambda text: text.encode("utf-8")  # Fails on undecodable bytes.


def _kind_name(kind: pa.DataType | None) -> str:
  if kind is not None and pa.types.is_integer(kind):
    return "an integer"
  if kind is not None and pa.types.is_floating(kind):
    return "a number"
  return "text in the encoding of the file"


def _shown(text: str) -> str:
  return repr(text.encode("utf-8", "replace").decode()[:80])
