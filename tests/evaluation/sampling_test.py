import itertools

import numpy as np
import pytest
import scipy.stats

from recjax.errors import DataError
from recjax.evaluation.candidates import (
  GivenLists,
  PopularityNegatives,
  UniformNegatives,
)
from recjax.evaluation.sampling import draw_candidates

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
