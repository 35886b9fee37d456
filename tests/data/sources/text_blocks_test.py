"""Blocks of text against Python's csv module, and what is wrong with a line."""

import csv
import gzip
import io

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.sources import text_blocks as lib
from recjax.data.sources.text_blocks import TextLayout, line_of, text_blocks
from recjax.errors import DataError

LAYOUT = TextLayout(
  "\t", {"label": pa.int8(), "n": pa.int32(), "c": pa.string()}
)
QUOTED = TextLayout(
  ",", {"a": pa.int64(), "b": pa.string()}, header=True, quotes=True
)


def lines(num, seed=0):
  random = np.random.default_rng(seed)
  words = [
    "" if i % 5 == 1 else "v" * random.integers(1, 30) for i in range(num)
  ]
  numbers = ["" if i % 7 == 3 else str(i) for i in range(num)]
  return [f"{i % 2}\t{numbers[i]}\t{words[i]}" for i in range(num)]


def expected(text):
  return [
    [int(a), int(b) if b else None, c or None]
    for a, b, c in (line.split("\t") for line in text.split("\n") if line)
  ]


def found(blocks):
  return [
    list(row.values()) for block in blocks for row in block.table.to_pylist()
  ]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("block_bytes", [1, 50, 333, 10**6])
def test_all_rows_come_once_in_order(tmp_path, ending, block_bytes):
  text = "\n".join(lines(60)) + "\n"
  path = tmp_path / f"rows.txt{ending}"
  path.write_bytes(gzip.compress(text.encode()) if ending else text.encode())
  blocks = list(text_blocks(path, LAYOUT, block_bytes=block_bytes))
  assert found(blocks) == expected(text)
  assert [b.start for b in blocks] == [0] + [b.end for b in blocks[:-1]]
  assert blocks[-1].end == len(text)
  if block_bytes == 1:
    assert len(blocks) > 30  # As much as it takes to hold a line.
  # From the end of any block on, the same blocks follow.
  for place in (0, len(blocks) // 2, len(blocks) - 1):
    rest = list(text_blocks(path, LAYOUT, blocks[place].end, block_bytes))
    assert [(b.start, b.end) for b in rest] == [
      (b.start, b.end) for b in blocks[place + 1 :]
    ]
    assert found(rest) == found(blocks[place + 1 :])


@pytest.mark.parametrize(
  "text",
  [
    "1\t2\tx",  # No line break at the end.
    "1\t2\tx\r\n0\t3\ty\r\n",
    "\n\n1\t2\tx\n\n",  # Blank lines.
    "\ufeff1\t2\tx\n",  # A byte order mark.
  ],
)
def test_ends_of_lines_and_blanks(tmp_path, text):
  path = tmp_path / "rows.txt"
  path.write_bytes(text.encode())
  plain = text.replace("\r", "").replace("\ufeff", "")
  for block_bytes in (4, 1000):
    blocks = text_blocks(path, LAYOUT, block_bytes=block_bytes)
    assert found(blocks) == expected(plain)


def test_packed_in_several_members(tmp_path):
  parts = ["\n".join(lines(20, seed)) + "\n" for seed in range(3)]
  path = tmp_path / "rows.txt.gz"
  path.write_bytes(b"".join(gzip.compress(part.encode()) for part in parts))
  blocks = text_blocks(path, LAYOUT, block_bytes=100)
  assert found(blocks) == expected("".join(parts))


QUOTES = 'a,b\n1,"x, y"\n2,"two\nlines, ""said"" she"\n3,\n4,"\n\n"\n5,last\n'


@pytest.mark.parametrize("block_bytes", [1, 12, 30, 1000])
def test_line_breaks_inside_of_quotes(tmp_path, block_bytes):
  path = tmp_path / "q.csv"
  path.write_text(QUOTES)
  blocks = list(text_blocks(path, QUOTED, block_bytes=block_bytes))
  rows = list(csv.reader(io.StringIO(QUOTES)))[1:]
  assert found(blocks) == [[int(a), b or None] for a, b in rows]


def test_a_line_that_is_longer_than_a_block_and_its_parts(tmp_path):
  text = f"1\t2\tx\n0\t3\t{'y' * 5_000_000}\n1\t4\tz\n"
  path = tmp_path / "long.txt"
  path.write_text(text)
  blocks = text_blocks(path, LAYOUT, block_bytes=1000)
  assert found(blocks) == expected(text)


def test_columns_null_values_and_inference(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text("a,b,c\n1,NA,x\n2,2.5,y\n")
  layout = TextLayout(
    ",",
    dict.fromkeys("abc"),
    header=True,
    null_values=("NA",),
    columns=("c", "b"),
  )
  (block,) = text_blocks(path, layout)
  assert block.table.to_pylist() == [
    {"c": "x", "b": None},
    {"c": "y", "b": 2.5},
  ]


def test_another_encoding(tmp_path):
  path = tmp_path / "t.txt"
  path.write_bytes("1\t2\tMünchen\n".encode("latin-1"))
  layout = TextLayout("\t", LAYOUT.types, encoding="latin-1")
  (block,) = text_blocks(path, layout)
  assert block.table.column("c")[0].as_py() == "München"
  with pytest.raises(
    DataError, match=r"line 1: 'M\?nchen' in column 'c' is no"
  ):
    list(text_blocks(path, LAYOUT))


# -- What is wrong -------------------------------------------------------------


BAD = [
  ("1\t2", "expected 3 values \\(label ... c\\), got 2: '1\\\\t2'"),
  ("1\t2\tx\ty", "expected 3 values .* got 4"),
  ("1\tfive\tx", "'five' in column 'n' is no int32 integer"),
  ("1\t3000000000\tx", "'3000000000' in column 'n' is no int32 integer"),
  ("300\t3\tx", "'300' in column 'label' is no int8 integer"),
  ("1\t2.5\tx", "'2.5' in column 'n' is no int32 integer"),
]


@pytest.mark.parametrize("block_bytes", [100, 10**6])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_line_is_named(tmp_path, line, message, ending, block_bytes):
  rows = lines(40)
  rows[25] = line
  rows.insert(3, "")  # A blank line counts.
  text = "\n".join(rows) + "\n"
  path = tmp_path / f"bad.txt{ending}"
  path.write_bytes(gzip.compress(text.encode()) if ending else text.encode())
  with pytest.raises(DataError, match=f"bad.txt{ending}, line 27: {message}"):
    list(text_blocks(path, LAYOUT, block_bytes=block_bytes))


def test_an_open_quote(tmp_path):
  path = tmp_path / "q.csv"
  path.write_text('a,b\n1,x\n2,"y\n3,z\n')
  with pytest.raises(DataError, match=r"q.csv, line 3: a quote is not closed"):
    list(text_blocks(path, QUOTED))


def test_a_hint_follows_a_wrong_type(tmp_path):
  path = tmp_path / "q.csv"
  path.write_text("a,b\nx,1\n")
  layout = TextLayout(",", QUOTED.types, header=True, hint=" Name its type.")
  with pytest.raises(DataError, match="line 2: 'x' .* int64 integer. Name its"):
    list(text_blocks(path, layout))


def test_a_cut_gzip_file(tmp_path):
  random = np.random.default_rng(0)
  text = "\n".join(f"1\t{n}\tx" for n in random.integers(10**9, size=20_000))
  path = tmp_path / "cut.txt.gz"
  path.write_bytes(gzip.compress(text.encode())[:-5000])
  with pytest.raises(
    DataError, match="cut.txt.gz can not be read to its end, it is cut"
  ):
    list(text_blocks(path, LAYOUT, block_bytes=1000))


@pytest.mark.parametrize(
  ("content", "message"),
  [(b"no gzip", "cut or broken"), (b"", "is empty"), (None, "no such file")],
)
def test_files_that_are_none(tmp_path, content, message):
  path = tmp_path / "x.txt.gz"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(DataError, match=message):
    list(text_blocks(path, LAYOUT))


def test_a_file_without_line_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(lib, "_LONGEST_LINE_BYTES", 1000)
  path = tmp_path / "binary"
  path.write_bytes(b"x" * 100_000)
  with pytest.raises(DataError, match="no line end within 1000 bytes"):
    list(text_blocks(path, LAYOUT, block_bytes=64))


def test_a_file_that_shrank(tmp_path):
  path = tmp_path / "rows.txt.gz"
  path.write_bytes(gzip.compress(b"1\t2\tx\n"))
  with pytest.raises(DataError, match="shorter than it was"):
    list(text_blocks(path, LAYOUT, start=1000))


# -- Lines and headers ---------------------------------------------------------


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_line_of_a_row(tmp_path, ending):
  path = tmp_path / f"q.csv{ending}"
  data = QUOTES.encode()
  path.write_bytes(gzip.compress(data) if ending else data)
  starts = {1: 2, 2: 3, 3: 5, 4: 6, 5: 9}
  for block in text_blocks(path, QUOTED, block_bytes=12):
    for row, value in enumerate(block.table.column("a").to_pylist()):
      assert line_of(path, QUOTED, block.start, row) == starts[value]
  with pytest.raises(ValueError, match="no such row"):
    line_of(path, QUOTED, 0, 99)


def test_headers(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text('\ufeffa,"b"\n1,x\n')
  assert lib.header_of(path, QUOTED) == ("a", "b")
  lib.check_header(path, QUOTED)
  for header, message in (
    ("a,c", "line 1: column 2 of the header must be 'b'; got 'c'"),
    ("a", "column 2 of the header must be 'b'; got None"),
    ("a,b,c", "the header has 3 names where 2 are expected: a, b"),
  ):
    path.write_text(header + "\n1,x\n")
    with pytest.raises(DataError, match=message):
      lib.check_header(path, QUOTED)
  path.write_text("\n\n")
  with pytest.raises(DataError, match="has no header line"):
    lib.header_of(path, QUOTED)
