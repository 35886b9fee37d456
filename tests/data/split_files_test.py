import numpy as np
import pyarrow as pa
import pytest

from recjax.data.interactions import Interactions
from recjax.data.split_files import digest, read_parts
from recjax.errors import DataError


def toy(name, columns, **more):
  """Interactions of lists."""
  columns = {key: np.array(values) for key, values in columns.items()}
  return Interactions.from_columns(name, columns, **more)


def ids(*texts):
  return pa.table({"raw_id": pa.array(texts, pa.string())})


@pytest.fixture
def data():
  # User 1: 1 2 1 3; user 2: 1 2 4; user 3: 3.
  return toy(
    "toy",
    {
      "user_id": [1, 1, 1, 1, 2, 2, 2, 3],
      "item_id": [1, 2, 1, 3, 1, 2, 4, 3],
    },
  )


@pytest.fixture
def write(tmp_path):
  def write(**texts):
    paths = {}
    for part, text in texts.items():
      paths[part] = tmp_path / f"{part}.txt"
      paths[part].write_text(text)
    return paths

  return write


def listed(rows):
  return {part: found.tolist() for part, found in rows.items()}


def test_pairs(data, write):
  paths = write(
    train="2 1\n1 1\n\n1 2\n3 3\n", validation="1 1\n2 2\n", test="2 4\t5.0\n"
  )
  # User 1 took item 1 twice: the first is trained on, the second validates.
  assert listed(read_parts(data, paths, "pairs")) == {
    "train": [0, 1, 4, 7],
    "validation": [2, 5],
    "test": [6],
  }


def test_a_mention_too_many_stands_in_two_parts(data, write):
  paths = write(train="1 2\n2 1\n", test="1 2\n")
  rows = read_parts(data, paths, "pairs")
  assert rows["train"].tolist() == [1, 4] and rows["test"].tolist() == [1]
  with pytest.raises(DataError, match="more often than 'toy'"):
    read_parts(data, write(test="1 2\n1 2\n"), "pairs")


def test_the_rest_is_trained_on(data, write):
  rows = read_parts(data, write(validation="1 2", test="1 3"), "pairs")
  assert rows["train"].tolist() == [0, 2, 4, 5, 6, 7]


def test_user_lines(data, write):
  paths = write(train="1 3 1 2 1\n2\n3 3\n", test="2 4 1\n")
  rows = read_parts(data, paths, "user_lines")
  assert rows["train"].tolist() == [0, 1, 2, 3, 7]
  assert rows["test"].tolist() == [4, 6]


def test_raw_ids(write):
  data = toy(
    "raw",
    {"user_id": [1, 1, 2], "item_id": [1, 2, 1]},
    users=ids("ann", "0"),
    items=ids("B00X", "17"),
  )
  rows = read_parts(data, write(test="ann 17\n0 B00X"), "pairs")
  assert rows["test"].tolist() == [1, 2]
  with pytest.raises(DataError, match="line 2: item '18' is not among the raw"):
    read_parts(data, write(test="ann 17\n0 18"), "pairs")


def test_row_numbers(data, tmp_path):
  np.save(tmp_path / "test.npy", np.array([6, 3], np.int32))
  paths = {"test": tmp_path / "test.npy"}
  rows = read_parts(data, paths, "rows")
  assert rows["test"].tolist() == [3, 6]
  assert rows["train"].tolist() == [0, 1, 2, 4, 5, 7]
  for bad, text in (
    ([8], r"\[0, 8\); found 8"),
    ([1, 1], "a row twice"),
    ([0.5], "integers; got float64"),
  ):
    np.save(tmp_path / "test.npy", np.array(bad))
    with pytest.raises(DataError, match=text):
      read_parts(data, paths, "rows")
  (tmp_path / "test.npy").write_text("3 6")
  with pytest.raises(DataError, match=r"no \.npy file"):
    read_parts(data, paths, "rows")


@pytest.mark.parametrize(
  "text, message",
  [
    ("1 1\n5\n", "line 2: expected 'user item', got '5'"),
    ("1 1\n\n1 x\n", "item ids must be integers"),
    ("1 1\n9 1\n", "line 2: user '9' is outside of the 3 users"),
    ("0 1\n", "line 1: user '0' is outside"),
    ("1 1\n3 1\n", "line 2: user 3 and item 1 do not meet in 'toy'; 1 such"),
    ("\n", "test is empty"),
  ],
)
def test_bad_lines(data, write, text, message):
  with pytest.raises(DataError, match=message):
    read_parts(data, write(test=text), "pairs")


def test_missing_file(data, tmp_path):
  with pytest.raises(DataError, match="nowhere.txt can not be read"):
    read_parts(data, {"test": tmp_path / "nowhere.txt"}, "pairs")


def gsasrec(folder, **parts):
  paths = {}
  for part, (shown, wanted) in parts.items():
    paths[part] = folder / part
    paths[part].mkdir(exist_ok=True)
    (paths[part] / "input.txt").write_text(shown)
    if wanted is not None:
      (paths[part] / "output.txt").write_text(wanted)
  return paths


def test_gsasrec_folders(tmp_path):
  data = toy(
    "g",
    {
      "user_id": np.repeat([1, 2, 3], [4, 5, 4]),
      "item_id": [1, 2, 3, 4, 1, 2, 5, 6, 7, 9, 8, 7, 6],
    },
  )
  # Only user 2 validates, found by its items; so its training ends earlier.
  paths = gsasrec(
    tmp_path,
    train=("1 2\n1 2\n9 8\n", None),
    validation=("1 2 5\n", "6\n"),
    test=("1 2 3\n1 2 5 6\n9 8 7\n", "4\n7\n6\n"),
  )
  assert listed(read_parts(data, paths, "gsasrec")) == {
    "train": [0, 1, 4, 5, 9, 10],
    "validation": [7],
    "test": [3, 8, 12],
    "context": [2, 6, 11],
  }
  for shown, wanted, text in (
    ("1 2 4\n", "6\n", "line 1: no user starts with these 4 items"),
    ("1 2 5\n", "", "an item for each line"),
    ("1\n", "3\n", "no user starts"),
  ):
    gsasrec(tmp_path, validation=(shown, wanted))
    with pytest.raises(DataError, match=text):
      read_parts(data, paths, "gsasrec")


def test_gsasrec_lines_that_fit_several_users(tmp_path):
  data = toy(
    "twins",
    {"user_id": [1, 1, 1, 2, 2, 2], "item_id": [1, 2, 3, 1, 2, 3]},
  )
  # Line k is user k's where it can be.
  paths = gsasrec(tmp_path, train=("1\n1\n", None), test=("1\n1\n", "2\n2\n"))
  assert read_parts(data, paths, "gsasrec")["test"].tolist() == [1, 4]
  gsasrec(tmp_path, test=("1\n1\n1\n", "2\n2\n2\n"))
  with pytest.raises(DataError, match="more often|several users start"):
    read_parts(data, paths, "gsasrec")


def test_digest_follows_content(tmp_path):
  paths = gsasrec(tmp_path, train=("1\n", None), test=("1\n", "2\n"))
  before = digest(paths)
  assert digest(dict(reversed(paths.items()))) == before
  (tmp_path / "test" / "output.txt").write_text("3\n")
  assert digest(paths) != before
