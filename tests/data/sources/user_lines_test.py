import pytest

from recjax.data.prepare import prepare
from recjax.data.sources.user_lines import UserLines
from recjax.errors import ConfigError, DataError

TRAIN, TEST = "toy/train.txt", "toy/test.txt"


@pytest.fixture
def write(tmp_path):
  (tmp_path / "toy").mkdir()

  def write(**texts):
    for name, text in texts.items():
      (tmp_path / "toy" / f"{name}.txt").write_text(text)
    return tmp_path

  return write


def pairs(data):
  return list(zip(data.user_id.tolist(), data.item_id.tolist()))


def test_gowalla(data_dir, tmp_path):
  source = UserLines(
    "gowalla/train.txt",
    "gowalla/test.txt",
    "gowalla/user_list.txt",
    "gowalla/item_list.txt",
  )
  data = prepare(source, data_dir, tmp_path)
  assert (data.name, data.num_users, data.num_items) == (
    "gowalla",
    29_858,
    40_981,
  )
  split = source.splitter(data_dir)(data)
  assert (len(split.train), len(split.test)) == (810_128, 217_242)
  assert len(data) == 810_128 + 217_242 and not len(split.validation)
  assert not split.leakage.finding("two_parts", "all").count
  # The first user, from the files: training items 0 to 126.
  first = data.user_offsets[2]
  rows = split.train[split.train < first]
  assert data.item_id[rows].tolist() == list(range(1, 128))
  rows = split.test[split.test < first]
  assert data.item_id[rows][:3].tolist() == [7581, 3731, 5984]
  assert data.users.column("original_id")[0].as_py() == "343"
  assert data.items.column("original_id")[1].as_py() == "9190"


def test_lines(write):
  folder = write(train="0 3 1\n2 0\n1\n\n", test="2 2\n0 5 0\n")
  data = UserLines(TRAIN, TEST).read(folder)
  assert pairs(data) == [(1, 4), (1, 2), (1, 6), (1, 1), (3, 1), (3, 3)]
  assert (data.name, data.num_users, data.num_items) == ("toy", 3, 6)
  assert data.users.column_names == ["raw_id"]
  assert data.items.column("raw_id").to_pylist() == list("012345")
  split = UserLines(TRAIN, TEST).splitter(folder)(data)
  assert split.train.tolist() == [0, 1, 4] and split.test.tolist() == [2, 3, 5]
  alone = UserLines(TRAIN, name="other").read(folder)
  assert pairs(alone) == [(1, 4), (1, 2), (3, 1)] and alone.name == "other"


def test_original_ids(write):
  folder = write(
    train="0 1\n1 0\n",
    users="org_id remap_id\nann 1\nbob 0\n",
    items="org_id remap_id\n70 0\n\n80 1\n",
  )
  source = UserLines(TRAIN, "", "toy/users.txt", "toy/items.txt")
  data = source.read(folder)
  assert data.users.column("original_id").to_pylist() == ["bob", "ann"]
  assert data.items.column("original_id").to_pylist() == ["70", "80"]
  assert len(source.files(folder)) == 3
  write(users="org_id remap_id\nann 1\n")
  with pytest.raises(DataError, match="does not list the id 0"):
    source.read(folder)
  write(users="org_id remap_id\nann 1 2\n")
  with pytest.raises(DataError, match="users.txt, line 2: expected"):
    source.read(folder)


@pytest.mark.parametrize(
  ("train", "message"),
  [
    ("0 1\n1 x\n", r"train.txt, line 2: ids must be integers .* got 'x'"),
    ("0 1\n\n1 -2\n", "line 3: ids must be integers .* got '-2'"),
    ("0 99999999999\n", "line 1: ids must be .* got '99999999999'"),
    ("0 1.5\n", "line 1: ids must be integers"),
    ("0\n1\n", "not one interaction"),
    ("", "not one interaction"),
  ],
)
def test_a_bad_line_is_named(write, train, message):
  with pytest.raises(DataError, match=message):
    UserLines(TRAIN).read(write(train=train))


def test_wrong_settings(tmp_path):
  with pytest.raises(ConfigError, match="UserLines.train must name a file"):
    UserLines("")
  with pytest.raises(DataError, match="no file 'toy/train.txt'.*data_dir"):
    UserLines(TRAIN).files(tmp_path)
  with pytest.raises(ConfigError, match="GivenFiles.test must name a file"):
    UserLines(TRAIN).splitter(tmp_path)
