import itertools
import pathlib

import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError, DataError
from recjax.evaluation.candidates import (
  GivenLists,
  PopularityNegatives,
  UniformNegatives,
  draw_candidates,
  read_negative_file,
)

EXCLUDES = ("none", "train", "history", "history_and_targets")


def same_users(oracle, num, train, history, target):
  return oracle.eval_set([history] * num, [[target]] * num, [train] * num)


@pytest.mark.parametrize("exclude", EXCLUDES)
@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("kind", [UniformNegatives, PopularityNegatives])
def test_excluded_items_are_never_drawn(oracle, kind, replace, exclude):
  num_items, num_users = 30, 300
  users = oracle.random_eval_set(0, num_users, num_items, num_targets=2)
  spec = kind(num=8, with_replacement=replace, exclude=exclude, seed=1)
  counts = np.arange(num_items + 1)
  drawn = draw_candidates(spec, users, num_items, counts)
  assert drawn.shape == (num_users, 8) and drawn.dtype == np.int32
  assert drawn.min() >= 1 and drawn.max() <= num_items
  sources = {
    "none": [],
    "train": [users.train_items],
    "history": [users.history],
    "history_and_targets": [users.history, users.targets],
  }[exclude]
  hits = 0
  for u in range(num_users):
    out = set().union(*(part[u].tolist() for part in sources))
    assert not out & set(drawn[u].tolist())
    hits += bool(set(users.targets[u].tolist()) & set(drawn[u].tolist()))
    if not replace:
      assert len(set(drawn[u].tolist())) == 8
  assert (hits > 0) == (exclude != "history_and_targets")
  np.testing.assert_array_equal(
    drawn, draw_candidates(spec, users, num_items, counts)
  )


def test_uniform_draws_are_uniform(oracle):
  users = same_users(oracle, 500, [2, 5, 5, 9], [2], 1)
  spec = UniformNegatives(num=40, exclude="train")
  drawn = draw_candidates(spec, users, 10)
  counts = np.bincount(drawn.ravel(), minlength=11)
  assert not counts[[0, 2, 5, 9]].any()
  left = np.delete(counts, [0, 2, 5, 9])
  assert scipy.stats.chisquare(left).pvalue > 1e-3


def test_popularity_draws_are_proportional(oracle):
  users = same_users(oracle, 500, [2], [2], 1)
  spec = PopularityNegatives(num=40, exclude="train", with_replacement=True)
  weights = np.array([7, 1, 50, 0, 3, 9])
  drawn = draw_candidates(spec, users, 5, weights)
  counts = np.bincount(drawn.ravel(), minlength=6)
  assert not counts[[0, 2, 3]].any()
  expected = counts.sum() * np.array([1, 3, 9]) / 13
  assert scipy.stats.chisquare(counts[[1, 4, 5]], expected).pvalue > 1e-3


@pytest.mark.parametrize("heavy", [6, 10**7])
def test_without_replacement_is_successive_sampling(oracle, heavy):
  # A weight of ten million takes nearly every draw: the slow path.
  weights = {1: heavy, 2: 4, 3: 2, 4: 1}
  exact = {}
  for order in itertools.permutations(weights, 3):
    chance, left = 1.0, sum(weights.values())
    for item in order:
      chance *= weights[item] / left
      left -= weights[item]
    exact[order] = chance
  num = 4000
  users = same_users(oracle, num, [5], [5], 6)
  spec = PopularityNegatives(num=3, seed=3)
  counts = np.array([0, *weights.values(), 1000, 1000])
  drawn = draw_candidates(spec, users, 6, counts)
  orders, seen = np.unique(drawn, axis=0, return_counts=True)
  found = dict(zip(map(tuple, orders.tolist()), seen))
  likely = [order for order in exact if exact[order] * num > 5]
  rest = 1 - sum(exact[o] for o in likely)
  observed = [found.get(o, 0) for o in likely]
  observed.append(num - sum(observed))
  expected = [*(exact[o] * num for o in likely), rest * num]
  if rest * num < 1:
    assert observed.pop() <= 3
    expected.pop()
    expected = np.array(expected) * sum(observed) / sum(expected)
  assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_too_few_items_to_draw_from(oracle):
  users = oracle.eval_set([[1, 2], [1, 2, 3]], [[4], [4]], user_id=[7, 9])
  spec = PopularityNegatives(num=2)
  with pytest.raises(DataError, match="user 9 leaves 1 items to draw 2"):
    draw_candidates(spec, users, 5, np.ones(6, int))
  everything = oracle.eval_set([[1, 2, 3]], [[4]])
  with pytest.raises(DataError, match="leaves 0 items"):
    draw_candidates(UniformNegatives(num=2), everything, 4)
  with pytest.raises(DataError, match="need item counts"):
    draw_candidates(spec, users, 5)


def test_wrong_options_are_named():
  with pytest.raises(ConfigError, match="Did you mean 'history'"):
    UniformNegatives(exclude="histroy")
  with pytest.raises(ConfigError, match="num must lie in"):
    PopularityNegatives(num=0)
  with pytest.raises(ConfigError, match="counts_from"):
    PopularityNegatives(counts_from="test")
  with pytest.raises(ConfigError, match="either a path or lists"):
    GivenLists()


def test_given_lists_merge_repeats_and_positives(oracle):
  lists = oracle.ragged([[], [3, 1, 3, 2], [], [5, 4]])
  users = oracle.eval_set([[9], [9]], [[2], [6]], user_id=[1, 3])
  drawn = draw_candidates(GivenLists(lists=lists), users, 9)
  np.testing.assert_array_equal(drawn, [[1, 3], [4, 5]])
  absent = oracle.eval_set([[9], [9]], [[2], [6]], user_id=[1, 2])
  with pytest.raises(DataError, match="no given list for user 2"):
    draw_candidates(GivenLists(lists=lists), absent, 9)
  with pytest.raises(DataError, match="the catalogue has 1 to 4"):
    draw_candidates(GivenLists(lists=lists), users, 4)


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
