import gzip

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from recjax.data.example_blocks import RandomParts
from recjax.data.sources import example_table as lib
from recjax.data.sources.example_table import ExampleTable
from recjax.errors import ConfigError, DataError

NUM = 500
_rng = np.random.default_rng(0)
TABLE = pa.table(
  {
    "click": _rng.integers(0, 2, NUM),
    "city": [None if n % 9 == 0 else f"c{n % 7}, {n % 3}" for n in range(NUM)],
    "code": [f"{n % 50:03d}" for n in range(NUM)],
    "age": pa.array(
      _rng.normal(40, 9, NUM).round(2), mask=_rng.random(NUM) < 0.1
    ),
    "w": _rng.random(NUM).round(3),
  }
)
NONE = {"validation_fraction": 0, "test_fraction": 0}


def as_csv(table, delimiter=","):
  quote = lambda v: (
    "" if v is None else f'"{v}"' if delimiter in str(v) else str(v)
  )
  rows = [table.column_names, *(row.values() for row in table.to_pylist())]
  return "\n".join(delimiter.join(map(quote, row)) for row in rows) + "\n"


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "toy").mkdir()
  return tmp_path


def same(examples, expected):
  for name in expected.column_names:
    found = examples.table.column(name).to_pylist()
    wanted = expected.column(name).to_pylist()
    if name in ("click", "w"):
      np.testing.assert_array_equal(np.float32(found), np.float32(wanted))
    else:
      assert found == wanted


def write(folder, kind, table=TABLE, stem="rows"):
  path = folder / "toy" / f"{stem}.{kind}"
  if kind == "parquet":
    parquet.write_table(table, path, row_group_size=120)
  else:
    text = as_csv(table, "\t" if "tsv" in kind else ",").encode()
    path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
  return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "parquet"])
def test_all_kinds_of_files_give_the_same_rows(folder, kind, monkeypatch):
  monkeypatch.setattr(lib, "_BLOCK_ROWS", 50)
  write(folder, kind)
  source = ExampleTable(
    "toy", "click", "w", text_columns=("code",) if kind != "parquet" else (),
    block_bytes=1500, **NONE,
  )  # fmt: skip
  assert source.name == "toy"
  train = source.read(folder).train
  same(train, TABLE)
  assert train.weights.dtype == train.labels.dtype == np.float32


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_reading_goes_on_from_any_block(folder, kind, monkeypatch):
  monkeypatch.setattr(lib, "_BLOCK_ROWS", 50)
  write(folder, kind, TABLE.slice(0, 300), "a")
  write(folder, kind, TABLE.slice(300), "b")
  source = ExampleTable("toy", "click", block_bytes=2000)
  blocks = list(source.blocks(folder))
  assert len(blocks) > 6
  deal = RandomParts(0.1, 0.1, 0).of_rows(0, NUM)
  for place, part in enumerate(("train", "validation", "test")):
    found = [
      code for b in blocks if part in b.parts
      for code in b.parts[part].column("age").to_pylist()
    ]  # fmt: skip
    expected = TABLE.filter(pa.array(deal == place)).column("age").to_pylist()
    assert found == expected
  for place in (0, 3, len(blocks) - 1):
    rest = list(source.blocks(folder, blocks[place].position))
    assert [b.position for b in rest] == [
      b.position for b in blocks[place + 1 :]
    ]
    for one, other in zip(rest, blocks[place + 1 :]):
      assert one.parts.keys() == other.parts.keys()
      assert all(one.parts[p].equals(other.parts[p]) for p in one.parts)


def test_given_parts_and_chosen_columns(folder):
  for stem, start in (("train", 0), ("valid", 300), ("test", 400)):
    write(folder, "csv", TABLE.slice(start, 100), stem)
  source = ExampleTable(
    "toy/train.csv",
    "click",
    validation="toy/valid.csv",
    test="toy/test.csv",
    columns=("age", "city"),
  )
  split = source.read(folder)
  for part, start in (
    (split.train, 0),
    (split.validation, 300),
    (split.test, 400),
  ):
    assert part.table.column_names == ["age", "city", "click"]
    same(part, TABLE.slice(start, 100).select(["age", "city", "click"]))


def test_real_labels(folder):
  rated = TABLE.set_column(0, "click", [np.arange(NUM) / 10])
  write(folder, "csv", rated)
  split = ExampleTable("toy", "click", label_kind="real", **NONE).read(folder)
  assert split.train.labels[7] == np.float32(0.7)
  with pytest.raises(
    DataError, match="line 3: column 'click' holds 0.1; labels"
  ):
    ExampleTable("toy", "click", **NONE).read(folder)


def test_types_come_from_the_first_block(folder):
  path = folder / "toy" / "t.csv"
  rows = [f"{n % 2},{n},{n}" for n in range(100)] + ["1,2.5,x7"]
  path.write_text("\n".join(["label,n,c", *rows]) + "\n")
  options = {"block_bytes": 300, **NONE}
  message = (
    "t.csv, line 102: '2.5' in column 'n' is no int64 integer. The types are"
    " those of the first block; text_columns and number_columns change them"
  )
  with pytest.raises(DataError, match=message):
    ExampleTable("toy", **options).read(folder)
  source = ExampleTable(
    "toy", text_columns=("c",), number_columns=("n",), **options
  )
  table = source.read(folder).train.table
  assert table.column("n").to_pylist()[-2:] == [99.0, 2.5]
  assert table.column("c").to_pylist()[-2:] == ["99", "x7"]


def test_no_header_and_null_values(folder):
  path = folder / "toy" / "t.txt"
  path.write_text("1|a|?\n0|?|3\n1|b|4\n")
  source = ExampleTable(
    "toy", column_names=["label", "x", "y"], null_values=("?",), **NONE
  )
  rows = source.read(folder).train.table.to_pylist()
  assert [row["x"] for row in rows] == ["a", None, "b"]
  assert [row["y"] for row in rows] == [None, 3, 4]


def test_parquet_files_that_disagree(folder):
  write(folder, "parquet", TABLE, "a")
  write(folder, "parquet", TABLE.set_column(3, "age", [["x"] * NUM]), "b")
  source = ExampleTable("toy", "click", **NONE)
  with pytest.raises(
    DataError, match="b.parquet, rows from .* can not be read"
  ):
    source.read(folder)
  write(folder, "parquet", TABLE.drop(["age"]), "b")
  with pytest.raises(DataError, match="b.parquet has no column 'age'"):
    source.read(folder)


def test_a_bad_row_of_parquet(folder):
  bad = TABLE.set_column(0, "click", [[1] * 333 + [5] + [0] * 166])
  write(folder, "parquet", bad)
  with pytest.raises(DataError, match="rows.parquet, row 334: column 'click'"):
    ExampleTable("toy", "click").read(folder)
  (folder / "toy" / "rows.parquet").write_bytes(b"PAR1 broken")
  with pytest.raises(DataError, match="is no Parquet file, or a broken one"):
    ExampleTable("toy", "click").read(folder)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"label_column": "clicked"}, "no column 'clicked'; .* mean 'click'"),
    ({"weight_column": "ww"}, "no column 'ww'"),
    ({"columns": ("cty",)}, "no column 'cty'; .* Did you mean 'city'"),
    ({"text_columns": ("cde",)}, "no column 'cde'; .* Did you mean 'code'"),
  ],
)
def test_columns_that_are_not_there(folder, options, message):
  write(folder, "csv")
  with pytest.raises(DataError, match=message):
    ExampleTable(**{"train": "toy", "label_column": "click"} | options).read(
      folder
    )


def test_other_broken_files(folder):
  with pytest.raises(DataError, match="no file 'toy'"):
    ExampleTable("toy").read(folder)
  (folder / "toy" / "t.csv").write_text("label,a,a\n1,2,3\n")
  with pytest.raises(DataError, match="two columns named 'a'"):
    ExampleTable("toy").read(folder)
  (folder / "toy" / "t.csv").write_text("label,a\n")
  with pytest.raises(DataError, match="has no row of data"):
    ExampleTable("toy").read(folder)
  write(folder, "parquet")
  with pytest.raises(DataError, match="must all be Parquet or all be text"):
    ExampleTable("toy").read(folder)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"label_column": ""}, "label_column must name"),
    ({"label_kind": "reel"}, "Did you mean 'real'"),
    ({"delimiter": "::"}, "delimiter must be one character"),
    ({"columns": "age"}, "columns must be a tuple of names"),
    (
      {"text_columns": ["a"], "number_columns": ["a"]},
      "a can not be in text_columns and in number_columns",
    ),
    ({"block_bytes": 0}, "block_bytes must lie"),
    ({"train": ""}, "training files must be named"),
  ],
)
def test_bad_settings(options, message):
  with pytest.raises(ConfigError, match=message):
    ExampleTable(**{"train": "t"} | options)


def test_names_and_hashes():
  assert ExampleTable("a/b.csv").name == "a"
  assert ExampleTable("/x/b.csv.gz").name == "b"
  assert len({ExampleTable("a", columns=["x"]), ExampleTable("a")}) == 2
