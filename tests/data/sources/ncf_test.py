import numpy as np
import pytest

from recjax.data.prepare import prepare
from recjax.data.sources.ncf import NcfFiles
from recjax.errors import ConfigError, DataError


def write(folder, train, test, kind="rating"):
  (folder / "toy").mkdir(exist_ok=True)
  (folder / "toy" / f"x.train.{kind}").write_text(train)
  (folder / "toy" / "x.test.rating").write_text(test)


def rows(interactions):
  return list(zip(interactions.user_id.tolist(), interactions.item_id.tolist()))


def test_the_real_files(data_dir, tmp_path):
  source = NcfFiles()
  data = prepare(source, data_dir, tmp_path)
  assert data.name == "ncf-ml-1m"
  assert (len(data), data.num_users, data.num_items) == (1_000_209, 6040, 3706)
  assert data.timestamp is None and data.rating is None
  split = source.splitter(data_dir)(data)
  assert (len(split.train), len(split.test)) == (994_169, 6040)
  # The test item of a user stands last: user 1 has item 26, see the file.
  assert rows(data)[data.user_offsets[2] - 1] == (1, 26)
  last = data.user_offsets[2:] - 1
  np.testing.assert_array_equal(split.test, last)
  assert source.negatives(data_dir).name == "ml-1m.test.negative"


def test_pairs_and_ratings(tmp_path):
  write(tmp_path, "1\t5\n0\t3\n1\t2\n", "0\t1\t4\t99\n1\t0\t3\t98\n", "pairs")
  data = NcfFiles("toy/x").read(tmp_path)
  assert rows(data) == [(1, 4), (1, 2), (2, 6), (2, 3), (2, 1)]
  assert data.users.column("raw_id").to_pylist() == ["0", "1"]
  assert data.num_items == 6 and data.rating is None
  # Where both files have ratings and times, these are kept.
  write(tmp_path, "1\t5\t4\t20\n0\t3\t2\t30\n1\t2\t5\t10\n", "1\t0\t3\t98\n")
  data = NcfFiles("toy/x", name="toy").read(tmp_path)
  assert rows(data) == [(1, 4), (2, 3), (2, 6), (2, 1)]
  assert data.timestamp.tolist() == [30, 10, 20, 98]
  assert data.rating.tolist() == [2, 5, 4, 3]


@pytest.mark.parametrize(
  ("train", "message"),
  [
    ("0\t1\n0\n", "x.train.rating, line 2: expected 2 values"),
    ("0\t1\n-1\t2\n", "line 2: -1 in column 'user_id'; it must be 0 or more"),
    ("0\t1\n0\t\n", "line 2: None in column 'item_id'; it must be 0 or more"),
    ("0\t1\n0\tx\n", "line 2: 'x' in column 'item_id' is no int64 integer"),
    ("0\t1\t2\n", "line 1: expected user and item, or .* got 3 value"),
  ],
)
def test_a_bad_line_is_named(tmp_path, train, message):
  write(tmp_path, train, "0\t1\t4\t99\n")
  with pytest.raises(DataError, match=message):
    NcfFiles("toy/x").read(tmp_path)


def test_missing_files(tmp_path):
  with pytest.raises(DataError, match="no file 'ncf-ml-1m/ml-1m.train.pairs'"):
    NcfFiles().files(tmp_path)
  with pytest.raises(
    DataError, match="no file 'ncf-ml-1m/ml-1m.test.negative'"
  ):
    NcfFiles().negatives(tmp_path)
  with pytest.raises(ConfigError, match="must name the files"):
    NcfFiles("")
