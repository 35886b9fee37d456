"""Delimited text: what is read, and the line of what can not be read."""

import gzip

import pyarrow as pa
import pytest

from recjax.data.sources.delimited import (
  line_of_row,
  read_delimited,
  read_fields,
  sniff_delimiter,
)
from recjax.errors import DataError

KINDS = {"a": pa.int64(), "b": pa.string()}


def _write(tmp_path, content, name="x.csv"):
  path = tmp_path / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


@pytest.mark.parametrize(
  "content, options",
  [
    ("a,c,b\n1,x,u\n2,y,v\n", {}),
    ("\ufeffa,c,b\r\n1,x,u\r\n2,y,v", {}),
    ("a\tc\tb\n1\tx\tu\n\n2\ty\tv\n", {"delimiter": "\t"}),
    ("1;x;u\n2;y;v\n", {"delimiter": ";", "names": ("a", "c", "b")}),
    ('a,c,"b"\n"1","x,\n!",u\n2,"""",v\n', {}),
  ],
)
def test_columns(tmp_path, content, options):
  path = _write(tmp_path, content)
  table = read_delimited(
    path, **({"delimiter": ",", "columns": KINDS} | options)
  )
  assert table.to_pydict() == {"a": [1, 2], "b": ["u", "v"]}


def test_encoding_and_packing(tmp_path):
  path = _write(tmp_path, gzip.compress("a,b\n1,é\n".encode("latin-1")), "x.gz")
  table = read_delimited(path, delimiter=",", columns=KINDS, encoding="latin-1")
  assert table.column("b").to_pylist() == ["é"]


@pytest.mark.parametrize(
  "content, message",
  [
    ("a,b\n1,x\n2\n3,z\n", r"line 3: expected 2 values \(a, b\), got 1: '2'"),
    ("a,b\n1,x\n\n2,y,z\n", "line 4: expected 2 values .* got 3: '2,y,z'"),
    ("a,b\n1,x\n2x,y\n", "line 3: '2x' in column 'a' is not an integer"),
    ('a,b\n1,"x\ny"\n2x,y\n', "line 4: '2x' in column 'a'"),
    (b"a,b\n1,x\n2,\xff\n", "line 3: .* in column 'b' is not text"),
    ("c,b\n1,x\n", r"no column 'a'; it has c, b\."),
    ("A_,b\n1,x\n", "no column 'a'; it has A_, b"),
    ("a,b,a\n1,x,2\n", "two columns named 'a'"),
    ("", "is empty"),
    ("\n\n", "nothing but blank lines"),
    ('a,b\n1,x\n2,"y\n3,z\n', "line 3: unexpected end of data; a quote"),
  ],
)
def test_errors_name_the_line(tmp_path, content, message):
  path = _write(tmp_path, content)
  with pytest.raises(DataError, match=message) as error:
    read_delimited(path, delimiter=",", columns=KINDS)
  assert str(path) in str(error.value)


def test_a_missing_and_a_truncated_file(tmp_path):
  with pytest.raises(DataError, match="no such file: .*no.csv"):
    read_delimited(tmp_path / "no.csv", delimiter=",", columns=KINDS)
  lines = "a,b\n" + "".join(f"{n},{n * 7919}\n" for n in range(9999))
  path = _write(tmp_path, gzip.compress(lines.encode())[:-999], "x.csv.gz")
  with pytest.raises(DataError, match=r"x.csv.gz"):
    read_delimited(path, delimiter=",", columns=KINDS)


def test_a_bad_line_in_a_later_block(tmp_path):
  # More than the block of one mebibyte that is parsed at a time.
  lines = ["a,b"] + [f"{n},text of row {n}" for n in range(100_000)]
  lines[90_000] = "oops"
  with pytest.raises(DataError, match="line 90001: expected 2 values"):
    read_delimited(
      _write(tmp_path, "\n".join(lines)), delimiter=",", columns=KINDS
    )


def test_line_of_row(tmp_path):
  path = _write(tmp_path, 'a,b\n1,x\n\n2,"y\nz"\n3,w\n')
  lines = [
    line_of_row(path, row, delimiter=",", header=True) for row in range(3)
  ]
  assert lines == [2, 4, 6]
  with pytest.raises(ValueError, match="no row 3"):
    line_of_row(path, 3, delimiter=",", header=True)
  assert line_of_row(path, 1, delimiter=",", header=False) == 2


def test_read_fields(tmp_path):
  path = _write(tmp_path, b"1::Fear: a film (1996)::X\r\n\n2::b::c\n")
  assert read_fields(path, "::", 3, "latin-1") == [
    ["1", "Fear: a film (1996)", "X"],
    ["2", "b", "c"],
  ]
  path = _write(tmp_path, "1::b::c\n2::b\n")
  with pytest.raises(DataError, match="line 2: expected 3 fields .* got 2"):
    read_fields(path, "::", 3, "latin-1")


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
def test_sniff(tmp_path, delimiter):
  path = _write(tmp_path, delimiter.join(["user", "item", "a b"]) + "\n1,2;3\n")
  assert sniff_delimiter(path) == delimiter
