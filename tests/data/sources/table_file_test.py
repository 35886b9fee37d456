"""Any CSV, TSV or Parquet, and the line of what is wrong in it."""

import csv
import gzip

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from recjax.data.sources.table_file import TableFile
from recjax.errors import ConfigError, DataError

HEADER = "userId,movieId,rating,timestamp\n"
GOOD = HEADER + "3,10,4.0,50\n1,20,3.5,40\n3,9,1.0,30\n"


def _source(name="ratings.csv", **options):
  settings = {
    "user_column": "userId",
    "item_column": "movieId",
    "timestamp_column": "timestamp",
    "rating_column": "rating",
  }
  return TableFile(name, **(settings | options))


def _read(tmp_path, content, name="ratings.csv", **options):
  path = tmp_path / name
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return _source(name, **options).read(tmp_path)


def _rows(data):
  users = data.users.column("raw_id").to_pylist()
  items = data.items.column("raw_id").to_pylist()
  return [
    (users[user - 1], items[item - 1], time, rating)
    for user, item, time, rating in zip(
      data.user_id.tolist(),
      data.item_id.tolist(),
      data.timestamp.tolist(),
      data.rating.tolist(),
    )
  ]


EXPECTED = [("1", "20", 40, 3.5), ("3", "9", 30, 1.0), ("3", "10", 50, 4.0)]


@pytest.mark.parametrize(
  "name, content, options",
  [
    ("r.csv", GOOD, {}),
    ("r.csv", GOOD.replace("\n", "\r\n"), {}),
    ("r.csv", GOOD.replace(",", ";"), {}),
    ("r.tsv", GOOD.replace(",", "\t"), {}),
    ("r.csv.gz", gzip.compress(GOOD.encode(), mtime=0), {}),
    ("r.txt", GOOD.replace(",", " "), {"delimiter": " "}),
    (
      "r.dat",
      GOOD.removeprefix(HEADER),
      {"column_names": ("userId", "movieId", "rating", "timestamp")},
    ),
  ],
)
def test_text(tmp_path, name, content, options):
  data = _read(tmp_path, content, name, **options)
  assert _rows(data) == EXPECTED
  assert data.items.column("raw_id").to_pylist() == ["9", "10", "20"]


def _parquet_table():
  return pa.table(
    {
      "userId": [3, 1, 3],
      "movieId": ["10", "20", "9"],
      "rating": pa.array([4.0, 3.5, 1.0], pa.float32()),
      "timestamp": pa.array([50, 40, 30], pa.timestamp("s")),
      "unused": ["x", None, "y"],
    }
  )


def test_parquet(tmp_path):
  parquet.write_table(_parquet_table(), tmp_path / "r.parquet")
  assert _rows(_source("r.parquet").read(tmp_path)) == EXPECTED


def test_folders(tmp_path):
  (tmp_path / "parts").mkdir()
  table = _parquet_table()
  parquet.write_table(table.slice(0, 2), tmp_path / "parts" / "0.parquet")
  parquet.write_table(table.slice(2), tmp_path / "parts" / "1.parquet")
  (tmp_path / "parts" / "_SUCCESS").write_text("")
  source = _source("parts")
  assert len(source.files(tmp_path)) == 2
  assert _rows(source.read(tmp_path)) == EXPECTED
  (tmp_path / "text").mkdir()
  lines = GOOD.splitlines(keepends=True)
  (tmp_path / "text" / "a.csv").write_text("".join(lines[:2]))
  (tmp_path / "text" / "b.csv").write_text("".join([HEADER, *lines[2:]]))
  assert _rows(_source("text").read(tmp_path)) == EXPECTED
  (tmp_path / "text" / "b.csv").write_text(HEADER + "1,2,3,4\n1,-2,3,4\n")
  with pytest.raises(DataError, match=r"b\.csv, line 3: '-2' .* negative"):
    _source("text").read(tmp_path)


def test_bad_folders(tmp_path):
  (tmp_path / "mixed").mkdir()
  with pytest.raises(DataError, match="one kind .* found none"):
    _source("mixed").files(tmp_path)
  for name in ("a.csv", "b.tsv"):
    (tmp_path / "mixed" / name).write_text(GOOD)
  with pytest.raises(DataError, match=r"found \.csv, \.tsv"):
    _source("mixed").files(tmp_path)


@pytest.mark.parametrize(
  "lines, message",
  [
    ("1,2,3.0,4\n1,2\n", r"line 3: expected 4 values .* got 2"),
    ("1,2,3.0,4\n1,3,3.0,5,6\n", "line 3: expected 4 values .* got 5"),
    ("1,2,3.0,4\n1,3,good,5\n", "line 3: 'good' in column 'rating' is not a"),
    ("1,2,3.0,4\n1,x3,2.0,5\n", "line 3: 'x3' in column 'movieId' stands"),
    ("1,2,3.0,4\n1,3,2.0,noon\n", "line 3: 'noon' in column 'timestamp'"),
    ("1,2,3.0,4\n\n1,-3,2.0,5\n", "line 4: '-3' .* is a negative id"),
    ("1,2,3.0,4\n,3,2.0,5\n", "line 3: '' in column 'userId' is an empty"),
    ("1,2,NaN,4\n1,3,2.0,5\n", "line 2: column 'rating' has no value"),
    ("1,2,,4\n1,3,2.0,5\n", "line 2: column 'rating' has no value"),
    ("1,2,inf,4\n1,3,2.0,5\n", "line 2: column 'rating' must hold finite"),
    (
      "1,2,3.0,4\n1,3,3.0,4\n1,2,5.0,4\n",
      r"line 4: the same user, item and timestamp as at .*line 2",
    ),
    ("", "not one row"),
  ],
)
def test_bad_lines(tmp_path, lines, message):
  with pytest.raises(DataError, match=message) as error:
    _read(tmp_path, HEADER + lines)
  assert "ratings" in str(error.value)


def test_files_that_are_none(tmp_path):
  with pytest.raises(DataError, match="ratings.csv is empty"):
    _read(tmp_path, "")
  with pytest.raises(DataError) as error:
    _source("no/such.csv").read(tmp_path)
  assert str(tmp_path / "no/such.csv") in str(error.value)
  with pytest.raises(DataError, match="r.parquet is no Parquet file"):
    _read(tmp_path, b"PAR1 and then nothing", "r.parquet")


def test_a_truncated_parquet_file(tmp_path):
  parquet.write_table(_parquet_table(), tmp_path / "r.parquet")
  content = (tmp_path / "r.parquet").read_bytes()
  with pytest.raises(DataError, match="r.parquet is no Parquet file"):
    _read(tmp_path, content[: len(content) // 2], "r.parquet")


def test_a_missing_column_names_the_nearest(tmp_path):
  expected = "has no column 'movieid'; it has .* Did you mean 'movieId'"
  with pytest.raises(DataError, match=expected):
    _read(tmp_path, GOOD, item_column="movieid")
  parquet.write_table(_parquet_table(), tmp_path / "r.parquet")
  with pytest.raises(DataError, match=expected):
    _source("r.parquet", item_column="movieid").read(tmp_path)


def test_parquet_rows_are_counted_from_one(tmp_path):
  table = _parquet_table().set_column(
    2, "rating", pa.array([1.0, float("nan"), 2.0])
  )
  parquet.write_table(table, tmp_path / "r.parquet")
  with pytest.raises(DataError, match="r.parquet, row 2: column 'rating'"):
    _source("r.parquet").read(tmp_path)


def test_words_among_integer_ids_on_demand(tmp_path):
  content = HEADER + "1,2,3.0,4\n1,B003,2.0,5\n"
  data = _read(tmp_path, content, text_ids=True)
  assert data.items.column("raw_id").to_pylist() == ["2", "B003"]


def test_options_are_passed_on(tmp_path):
  content = HEADER + "1,2,3.0,4000\n1,2,5.0,4000\n2,2,1.0,1000\n2,3,4.0,2000\n"
  data = _read(
    tmp_path,
    content,
    duplicates="last",
    min_rating=2,
    timestamp_unit="ms",
    min_item_count=1,
  )
  assert _rows(data) == [("1", "2", 4, 5.0), ("2", "3", 2, 4.0)]


def test_context_columns(tmp_path):
  content = "u,i,hour,place\na,x,3,home\nb,x,4,\n"
  (tmp_path / "c.csv").write_text(content)
  source = TableFile("c.csv", "u", "i", context_columns=["hour", "place"])
  assert source.context_columns == ("hour", "place")
  data = source.read(tmp_path)
  assert data.column("hour").tolist() == [3, 4]
  assert data.column("place").tolist() == ["home", ""]
  assert data.timestamp is None


def test_names_and_bad_options():
  assert _source("a/b/r.csv").name == "b"
  assert _source("r.csv.gz").name == "r"
  assert hash(_source(column_names=["a"]))
  with pytest.raises(ConfigError, match="needs the path"):
    _source("")
  with pytest.raises(ConfigError, match="delimiter must be one character"):
    _source(delimiter="::")
  with pytest.raises(ConfigError, match="duplicates must be one of"):
    _source(duplicates="drop")
  with pytest.raises(ConfigError, match="context_columns must be a tuple"):
    _source(context_columns="hour")
  with pytest.raises(ConfigError, match="min_user_count"):
    _source(min_user_count=-2)


def test_real_csv_against_the_csv_module(data_dir):
  path = "ml-latest-small/ratings.csv"
  with open(data_dir / path, newline="") as file:
    rows = [
      (int(r["userId"]), int(r["timestamp"]), r["movieId"], float(r["rating"]))
      for r in csv.DictReader(file)
    ]
  rows.sort(key=lambda row: row[:2])
  data = _source(path).read(data_dir)
  assert (data.num_users, data.num_items, len(data)) == (610, 9724, 100_836)
  items = np.array(data.items.column("raw_id").to_pylist())
  assert items[data.item_id - 1].tolist() == [row[2] for row in rows]
  assert data.rating.tolist() == [row[3] for row in rows]
  assert data.timestamp.tolist() == [row[1] for row in rows]


def test_real_parquet(data_dir):
  source = TableFile(
    "ml-1m/pairs_in_ratings_dat_order.parquet", "userID", "movieID"
  )
  data = source.read(data_dir)
  # As the README of MovieLens 1M counts them.
  counts = (len(data), data.num_users, data.num_items)
  assert counts == (1_000_209, 6_040, 3_706)
