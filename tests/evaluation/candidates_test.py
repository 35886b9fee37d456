import pathlib

import numpy as np
import pytest

from recjax.errors import ConfigError, DataError
from recjax.evaluation.candidates import (
  AllItems,
  GivenLists,
  PopularityNegatives,
  UniformNegatives,
  read_negative_file,
)
from recjax.evaluation.sampling import draw_candidates


def test_wrong_options_are_named():
  with pytest.raises(ConfigError, match="Did you mean 'history'"):
    UniformNegatives(exclude="histroy")
  with pytest.raises(ConfigError, match="num must lie in"):
    PopularityNegatives(num=0)
  with pytest.raises(ConfigError, match="counts_from"):
    PopularityNegatives(counts_from="test")
  with pytest.raises(ConfigError, match="either a path or lists"):
    GivenLists()


def test_all_items():
  assert AllItems() == AllItems(among="all")
  assert AllItems().describe() == "full catalogue"
  unseen = AllItems(among="unseen")
  assert unseen.to_dict() == {"kind": "all_items", "among": "unseen"}
  assert unseen.describe() == "all items without a training event"
  with pytest.raises(ConfigError, match="Did you mean 'unseen'"):
    AllItems(among="unseeen")


def write(path: pathlib.Path, text: str) -> str:
  path.write_text(text)
  return str(path)


def test_negative_file(oracle, tmp_path):
  path = write(tmp_path / "a.negative", "(0,5)\t1\t2\n(2,3)\t3\t0\n")
  lists, positives = read_negative_file(pathlib.Path(path))
  assert [lists[u].tolist() for u in range(4)] == [[], [2, 3], [], [4, 1]]
  assert positives.tolist() == [0, 6, 0, 4]
  spec = GivenLists(path)
  users = oracle.eval_set([[9], [9]], [[6], [4]], user_id=[1, 3])
  # The positive of the second line stands among its own negatives.
  np.testing.assert_array_equal(
    draw_candidates(spec, users, 9), [[2, 3], [1, 0]]
  )
  other = oracle.eval_set([[9], [9]], [[6], [5]], user_id=[1, 3])
  with pytest.raises(DataError, match="user 3 is for item 4"):
    draw_candidates(spec, other, 9)


@pytest.mark.parametrize(
  "text, message",
  [
    ("(0,5)\t1\nno\t2\n", "line 2: expected"),
    ("(0,5)\t1\tx\n", "line 1"),
    ("(0,5)\t1\n(0,6)\t2\n", "two lines"),
    ("(0,5)\t1\n\n(1,6)\t2\n", "line 2"),
    ("", "is empty"),
  ],
)
def test_broken_negative_file(tmp_path, text, message):
  path = write(tmp_path / "a.negative", text)
  with pytest.raises(DataError, match=message):
    read_negative_file(pathlib.Path(path))


def test_missing_negative_file(tmp_path):
  with pytest.raises(DataError, match="no such file"):
    GivenLists(str(tmp_path / "b.negative")).content  # noqa: B018


def test_given_lists_are_equal_by_content(oracle, tmp_path):
  text = "(0,5)\t1\t2\n"
  a = GivenLists(write(tmp_path / "a", text))
  b = GivenLists(write(tmp_path / "b", text))
  c = GivenLists(write(tmp_path / "c", "(0,5)\t1\t3\n"))
  assert a == b and hash(a) == hash(b) and a.to_dict() == b.to_dict()
  assert a != c and a.to_dict() != c.to_dict()


def test_the_lists_of_ncf(data_dir):
  path = data_dir / "ncf-ml-1m" / "ml-1m.test.negative"
  lists, positives = read_negative_file(path)
  assert len(lists) == 6041 and (lists.lengths[1:] == 99).all()
  among = [positives[u] in lists[u] for u in range(1, 6041)]
  # As counted in the file itself.
  assert sum(among) == 156
