"""Delimited text of any length, in blocks of whole lines.

A block is some 16 MiB of text that ends with a line; pyarrow's CSV reader
turns it into columns on all cores while the text lies in one buffer that is
used over and over. Nothing but the block at hand is in memory.
"""

import contextlib
import csv
import dataclasses
import io
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from recjax.errors import DataError

BLOCK_BYTES = 16 << 20
_LONGEST_LINE_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class TextLayout:
  """How lines are taken apart.

  Attributes:
    delimiter: one character.
    types: all columns of a line, in order, with their types; None leaves it
      to the first look at a block.
    header: whether a file starts with a line of names.
    quotes: whether '"' quotes a value, which then may hold line breaks.
    null_values: texts that stand for a missing value, besides the empty one.
    columns: the wanted ones, () for all.
    encoding: of the text; a superset of ASCII.
    hint: what to say after a value of a wrong type.
  """

  delimiter: str
  types: dict[str, pa.DataType | None]
  header: bool = False
  quotes: bool = False
  null_values: tuple[str, ...] = ()
  columns: tuple[str, ...] = ()
  encoding: str = "utf-8"
  hint: str = ""


class TextBlock(NamedTuple):
  """Whole lines: their columns, and the bytes of (unpacked) text they fill."""

  table: pa.Table
  start: int
  end: int


def text_blocks(
  path: pathlib.Path,
  layout: TextLayout,
  start: int = 0,
  block_bytes: int = BLOCK_BYTES,
) -> Iterator[TextBlock]:
  """The blocks of a file; .gz, .bz2 and .zst are unpacked on the fly.

  Args:
    path: the file.
    layout: of its lines.
    start: 0, or the end of a block.
    block_bytes: the size of a block; longer lines have room nevertheless.

  Raises:
    DataError: the file is missing, empty, cut or broken, or a line has another
      number of values or a value of another type; the line is named.
  """
  at = start
  for text in _whole_lines(path, layout.quotes, start, block_bytes):
    end = at + len(text)
    skip = _header_bytes(text, layout) if at == 0 else 0
    if len(text) > skip:
      table = _parse(path, layout, text, skip, at)
      if table is not None and table.num_rows:
        yield TextBlock(table, at, end)
    at = end
  if at == 0:
    raise DataError(f"{path} is empty.")


def line_of(
  path: pathlib.Path, layout: TextLayout, start: int, row: int
) -> int:
  """The number of the line of a row of the block that begins at `start`."""
  first = _count_lines(path, start)
  with _open(path) as file:
    _skip(file, start)
    text = _decoded(file, layout)
    for number, values in _rows(text, layout, first, header=start == 0):
      if values is not None and row == 0:
        return number
      row -= 1
  raise ValueError(f"{path} has no such row.")


def _whole_lines(
  path: pathlib.Path, quotes: bool, start: int, block_bytes: int
) -> Iterator[memoryview]:
  """Views of one buffer; each is gone when the next is asked for."""
  room, have = bytearray(block_bytes), 0
  # Where a block ends depends on its start alone: reading can go on there.
  limit, at_end = block_bytes, False
  try:
    with _open(path) as file:
      _skip(file, start)
      while True:
        view = memoryview(room)
        while have < limit and not at_end:
          got = file.readinto(view[have:limit])
          have, at_end = have + got, not got
        is_last = at_end and have <= limit
        size = min(have, limit)
        end = size if is_last else _last_line_end(room, size, quotes)
        if end:
          yield view[:end]
          room[: have - end] = room[end:have]
          have -= end
          limit = block_bytes
        if is_last:
          return
        if not end:
          limit *= 2
          _check_line_length(path, limit)
          room = room + bytes(max(0, limit - len(room)))
  except FileNotFoundError:
    raise DataError(f"no such file: {path.absolute()}.") from None
  except (OSError, EOFError) as error:
    raise DataError(
      f"{path} can not be read to its end, it is cut or broken: {error}."
    ) from error


def _check_line_length(path: pathlib.Path, num_bytes: int) -> None:
  if num_bytes > 2 * _LONGEST_LINE_BYTES:
    raise DataError(
      f"{path} has no line end within {_LONGEST_LINE_BYTES} bytes: is it a text"
      " file, and is each quote closed?"
    )


def _last_line_end(room: bytearray, have: int, quotes: bool) -> int:
  """The number of bytes up to the last line break outside of quotes."""
  if not quotes or room.find(b'"', 0, have) < 0:
    return room.rfind(b"\n", 0, have) + 1
  text = np.frombuffer(room, np.uint8, have)
  open_quotes = np.cumsum(text == ord('"'), dtype=np.int32) & 1
  ends = np.flatnonzero((text == ord("\n")) & (open_quotes == 0))
  return int(ends[-1]) + 1 if len(ends) else 0


def _header_bytes(text: memoryview, layout: TextLayout) -> int:
  """The bytes of what stands before the first row."""
  if not layout.header:
    return 3 if bytes(text[:3]) == b"\xef\xbb\xbf" else 0
  return bytes(text).find(b"\n") + 1 or len(text)


def _parse(
  path: pathlib.Path, layout: TextLayout, text: memoryview, skip: int, at: int
) -> pa.Table | None:
  """The columns of a block; None where it holds blank lines alone."""
  num_quotes = bytes(text).count(b'"') if layout.quotes else 0
  if num_quotes % 2:
    # Arrow would take all that follows for one value.
    _explain(path, layout, text, at)
  # Parts for the threads; smaller ones cost more than they bring.
  part_bytes = max(1 << 20, len(text) // 4)
  try:
    try:
      return _read(layout, text[skip:], part_bytes, num_quotes > 0)
    except pa.ArrowInvalid:
      # A line may be longer than a part.
      return _read(layout, text[skip:], len(text) + 1, num_quotes > 0)
  except pa.ArrowInvalid as error:
    if not bytes(text[skip:]).strip():
      return None
    _explain(path, layout, text, at)
    raise DataError(f"{path}, near byte {at}: {error}.") from error


def _read(
  layout: TextLayout, text: memoryview, part_bytes: int, newlines: bool
) -> pa.Table:
  return arrow_csv.read_csv(
    pa.BufferReader(pa.py_buffer(text)),
    read_options=arrow_csv.ReadOptions(
      column_names=list(layout.types),
      block_size=part_bytes,
      encoding=layout.encoding,
    ),
    parse_options=arrow_csv.ParseOptions(
      delimiter=layout.delimiter,
      quote_char='"' if layout.quotes else False,
      newlines_in_values=newlines,
    ),
    convert_options=arrow_csv.ConvertOptions(
      column_types={k: kind for k, kind in layout.types.items() if kind},
      include_columns=list(layout.columns),
      strings_can_be_null=True,
      null_values=["", *layout.null_values],
    ),
  )


# -- What is wrong, slowly -----------------------------------------------------


def _explain(
  path: pathlib.Path, layout: TextLayout, text: memoryview, at: int
) -> None:
  """Finds the first bad line of a block and raises."""
  names = list(layout.types)
  wanted = layout.columns or tuple(names)
  checks = [
    (names.index(name), name, kind)
    for name in wanted
    if (kind := layout.types[name]) is not None
  ]
  nulls = {"", *layout.null_values}
  lines = _decoded(io.BytesIO(bytes(text)), layout)
  first = _count_lines(path, at)
  for number, values in _rows(lines, layout, first, header=at == 0):
    where = f"{path}, line {number}"
    if values is None:
      raise DataError(
        f"{where}: a quote is not closed, or not where it may be."
      )
    if len(values) != len(names):
      shown = layout.delimiter.join(values)
      raise DataError(
        f"{where}: expected {len(names)} values ({names[0]} ... {names[-1]}),"
        f" got {len(values)}: {_shown(shown)}."
      )
    for place, name, kind in checks:
      if values[place] not in nulls and not _fits(values[place], kind):
        raise DataError(
          f"{where}: {_shown(values[place])} in column {name!r} is no"
          f" {_kind_name(kind)}.{layout.hint}"
        )


def _rows(
  text: io.TextIOWrapper, layout: TextLayout, first_line: int, header: bool
) -> Iterator[tuple[int, list[str] | None]]:
  """Number of the line and values of each row; None where quotes are broken."""
  reader = csv.reader(
    text,
    delimiter=layout.delimiter,
    quoting=csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE,
    strict=True,
  )
  skipped = not (header and layout.header)
  line = 1
  while True:
    try:
      values = next(reader)
    except StopIteration:
      return
    except csv.Error:
      yield first_line + line, None
      return
    if values and skipped:
      yield first_line + line, values
    skipped = skipped or bool(values)
    line = reader.line_num + 1


def _fits(text: str, kind: pa.DataType) -> bool:
  try:
    if pa.types.is_integer(kind):
      pa.scalar(int(text), kind)
    elif pa.types.is_floating(kind):
      float(text)
    else:
      text.encode("utf-8")  # Fails on what could not be decoded.
  except (ValueError, OverflowError, pa.ArrowInvalid):
    return False
  return True


def _kind_name(kind: pa.DataType) -> str:
  if pa.types.is_integer(kind):
    return f"{kind} integer"
  return "number" if pa.types.is_floating(kind) else "text in the encoding"


def _shown(text: str) -> str:
  return repr(text.encode("utf-8", "replace").decode()[:80])


def _decoded(file, layout: TextLayout) -> io.TextIOWrapper:
  same = layout.encoding.lower() in ("utf-8", "utf8")
  encoding = "utf-8-sig" if same else layout.encoding
  if isinstance(file, io.FileIO):
    file = io.BufferedReader(file)
  return io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")


def _count_lines(path: pathlib.Path, num_bytes: int) -> int:
  """Line breaks within the first bytes of the text of a file."""
  count = 0
  with _open(path) as file:
    while num_bytes and (part := file.read(min(1 << 20, num_bytes))):
      count += bytes(part).count(b"\n")
      num_bytes -= len(part)
  return count


# -- Files ---------------------------------------------------------------------


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator:
  """The text of a file as bytes, unpacked if its ending says so."""
  if path.suffix in (".gz", ".bz2", ".zst"):
    # A buffer of its own: small reads of packed data are slow.
    with pa.input_stream(str(path)) as file:  # pyright: ignore
      yield file
  else:
    with open(path, "rb", buffering=0) as file:
      yield file


def _skip(file, num_bytes: int) -> None:
  if num_bytes and isinstance(file, io.FileIO):
    file.seek(num_bytes)
    return
  while num_bytes:
    part = file.read(min(1 << 22, num_bytes))
    if not part:
      raise OSError("it is shorter than it was")
    num_bytes -= len(part)


def header_of(path: pathlib.Path, layout: TextLayout) -> tuple[str, ...]:
  """The names in the first line of a file.

  Raises:
    DataError: the file is empty or can not be read.
  """
  plain = dataclasses.replace(layout, header=False)
  try:
    with _open(path) as file:
      text = _decoded(file, plain)
      _, values = next(_rows(text, plain, 0, header=False), (0, None))
  except FileNotFoundError:
    raise DataError(f"no such file: {path.absolute()}.") from None
  except (OSError, EOFError) as error:
    raise DataError(f"{path} can not be read: {error}.") from error
  if values is None:
    raise DataError(f"{path} has no header line.")
  return tuple(values)


def check_header(path: pathlib.Path, layout: TextLayout) -> None:
  """Compares the header of a file with the columns of a layout.

  Raises:
    DataError: a name is another one; the first is named.
  """
  found, expected = header_of(path, layout), tuple(layout.types)
  if found == expected:
    return
  for place, name in enumerate(expected):
    other = found[place] if place < len(found) else None
    if other != name:
      raise DataError(
        f"{path}, line 1: column {place + 1} of the header must be {name!r};"
        f" got {other!r}. All {len(expected)} names: {', '.join(expected)}."
      )
  raise DataError(
    f"{path}, line 1: the header has {len(found)} names where"
    f" {len(expected)} are expected: {', '.join(expected)}."
  )
