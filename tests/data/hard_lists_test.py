import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from recjax.data.hard_lists import HardListFile
from recjax.data.interactions import Interactions
from recjax.errors import ConfigError, DataError


@pytest.fixture
def interactions():
  return Interactions.from_columns(
    "x",
    {"user_id": np.array([1, 2, 3]), "item_id": np.array([1, 2, 4])},
    users=pa.table({"raw_id": ["a", "b", "c"]}),
    items=pa.table({"raw_id": ["i10", "i20", "i30", "i40"]}),
  )


ROWS = {
  "user_id": ["c", "a", "c", "c"],
  "item_id": ["i10", "i40", "i20", "i30"],
}
LISTS = [[0, 0], [4, 0], [0, 0], [2, 3]]


def test_lists_of_raw_ids_from_parquet_and_csv(tmp_path, interactions):
  parquet.write_table(pa.table(ROWS), tmp_path / "shown.parquet")
  lines = [f"{u},{i}\n" for u, i in zip(*ROWS.values(), strict=True)]
  (tmp_path / "shown.csv").write_text("user_id,item_id\n" + "".join(lines))
  for name in ("shown.parquet", "shown.csv"):
    lists = HardListFile(name, max_len=2).read(tmp_path, interactions)
    np.testing.assert_array_equal(lists, LISTS)


def test_lists_of_integers_where_there_are_no_raw_ids(tmp_path):
  plain = Interactions.from_columns(
    "x", {"user_id": np.array([1, 2]), "item_id": np.array([1, 2])}
  )
  (tmp_path / "shown.csv").write_text("u,i\n2,1\n")
  lists = HardListFile("shown.csv", "u", "i", 1).read(tmp_path, plain)
  np.testing.assert_array_equal(lists, [[0], [0], [1]])
  (tmp_path / "shown.csv").write_text("u,i\n2,3\n")
  with pytest.raises(DataError, match=r"row 0 names the item 3.*\[1, 2\]"):
    HardListFile("shown.csv", "u", "i", 1).read(tmp_path, plain)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("user_id,item_id\nb,i11\n", "row 0 names the item 'i11'.*'i10'"),
    ("user_id,item_id\na,i10\nd,i10\n", "row 1 names the user 'd'"),
    ("user,item_id\na,i10\n", "no column 'user_id'.*user, item_id"),
    ("user_id,item_id\na,\n", "row 0 names"),
  ],
)
def test_what_is_wrong_with_a_file(tmp_path, interactions, text, message):
  (tmp_path / "shown.csv").write_text(text)
  with pytest.raises(DataError, match=message):
    HardListFile("shown.csv").read(tmp_path, interactions)


def test_a_missing_file_and_bad_settings(tmp_path, interactions):
  with pytest.raises(DataError, match="no lists of hard negatives"):
    HardListFile("none.csv").read(tmp_path, interactions)
  with pytest.raises(ConfigError, match="path"):
    HardListFile("")
  with pytest.raises(ConfigError, match="max_len"):
    HardListFile("x", max_len=0)
