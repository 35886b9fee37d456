"""'user item' files: ids as in the file, and the line of what is wrong."""

import gzip

import numpy as np
import pytest

from recjax.data.sources.sequence_file import SequenceFile
from recjax.errors import ConfigError, DataError


def _read(tmp_path, content, name="pairs.txt", **options):
  data = content if isinstance(content, bytes) else content.encode()
  (tmp_path / name).write_bytes(data)
  return SequenceFile(name, **options).read(tmp_path)


def _pairs(data):
  return list(zip(data.user_id.tolist(), data.item_id.tolist()))


def test_ids_and_order_are_those_of_the_file(tmp_path):
  data = _read(tmp_path, "2 9\n1 4\n2 3\n1 4\n2 7\n")
  assert _pairs(data) == [(1, 4), (1, 4), (2, 9), (2, 3), (2, 7)]
  assert (data.num_users, data.num_items) == (2, 9)
  assert data.users is None and data.items is None
  assert data.table.column_names == ["user_id", "item_id"]


@pytest.mark.parametrize(
  "content",
  [
    "1 5\n1 6\n3 5",
    "1 5\r\n1 6\r\n3 5\r\n",
    "1\t5\n1\t6\n3\t5\n",
    "\n1 5\n\n1 6\n3 5\n\n",
    "1  5\n 1 6 \n3\t5\n",
  ],
)
def test_white_space(tmp_path, content):
  assert _pairs(_read(tmp_path, content)) == [(1, 5), (1, 6), (3, 5)]


def test_packed(tmp_path):
  content = gzip.compress(b"1 5\n1 6\n")
  assert _pairs(_read(tmp_path, content, "a.txt.gz")) == [(1, 5), (1, 6)]


@pytest.mark.parametrize(
  "content, message",
  [
    ("1 5\n1 6\n2\n", r"line 3: expected 'user item', got 1 field\(s\) in '2'"),
    ("1 5\n1 6 7\n", "line 2: expected 'user item', got 3 field"),
    ("1 5\n1 x6\n", "line 2: expected two integer ids, got '1 x6'"),
    ("1 5\n1 6.5\n", "line 2: expected two integer ids"),
    ("1 5\n\n0 6\n", r"line 3: ids must lie in \[1, .*got '0 6'"),
    ("1 5\n2 6\n3 -6\n", "line 3: ids must lie in"),
    ("1 5\n99999999999 6\n", "line 2: ids must lie in"),
    (b"1 5\n\xff\xfe 6\n", "line 2: expected two integer ids"),
    ("", "is empty"),
    ("\n\n", "not one interaction"),
  ],
)
def test_bad_lines_are_named(tmp_path, content, message):
  with pytest.raises(DataError, match=message):
    _read(tmp_path, content)


def test_the_file_is_named_too(tmp_path):
  with pytest.raises(DataError, match=str(tmp_path / "pairs.txt")):
    _read(tmp_path, "1 5\nbroken\n")


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
  with pytest.raises(DataError) as error:
    SequenceFile("folder/no.txt").files(tmp_path)
  assert str(tmp_path / "folder/no.txt") in str(error.value)
  assert "RECJAX_DATA_DIR" in str(error.value)


def test_a_truncated_gzip_file(tmp_path):
  lines = "".join(f"1 {item}\n" for item in range(1, 5000)).encode()
  with pytest.raises(DataError, match="a.txt.gz can not be read"):
    _read(tmp_path, gzip.compress(lines)[:-500], "a.txt.gz")


def test_k_core(tmp_path):
  data = _read(tmp_path, "1 5\n1 6\n2 5\n2 6\n3 6\n", min_user_count=2)
  assert data.users.column("raw_id").to_pylist() == ["1", "2"]
  assert data.items.column("raw_id").to_pylist() == ["5", "6"]
  assert _pairs(data) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_names():
  assert SequenceFile("bert4rec-beauty/beauty.txt").name == "bert4rec-beauty"
  assert SequenceFile("pairs.txt.gz").name == "pairs"
  assert SequenceFile("/data/pairs.txt").name == "pairs"
  assert SequenceFile("a/b.txt", name="mine").name == "mine"


def test_bad_options():
  with pytest.raises(ConfigError, match="needs the path"):
    SequenceFile("")
  with pytest.raises(ConfigError, match="min_user_count must lie in"):
    SequenceFile("a", min_user_count=-1)


def test_real_file_against_numpy(data_dir):
  path = "sasrec-ml-1m/ml-1m.txt"
  expected = np.loadtxt(data_dir / path, np.int32)
  data = SequenceFile(path).read(data_dir)
  # The file is sorted by user, so its order stays.
  assert np.array_equal(data.user_id, expected[:, 0])
  assert np.array_equal(data.item_id, expected[:, 1])
