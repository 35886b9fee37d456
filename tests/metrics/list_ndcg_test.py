"""NDCG of lists against scikit-learn, and over all orders of ties."""

import itertools

import numpy as np
from sklearn.metrics import ndcg_score

from recjax.metrics.list_ndcg import list_ndcgs


def test_lists_are_those_of_scikit_learn():
  rng = np.random.default_rng(0)
  group = rng.integers(-5, 15, 400)
  label = np.where(rng.random(400) < 0.5, rng.integers(0, 4, 400), 0.0)
  score = np.round(rng.normal(size=400), 1)
  label[group == 3] = 0.0
  found = list_ndcgs(score, label, group)
  assert found.num_left_out == 1 and 3 not in found.group
  assert len(found.group) == len(np.unique(group)) - 1
  for value, number in zip(found.value, found.group):
    rows = group == number
    # Its mean over ties is that of the tied labels.
    expected = ndcg_score([label[rows]], [score[rows]])
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_ties_are_the_mean_of_all_orders():
  score = np.array([1.0, 1, 1, 0])
  label = np.array([0.0, 2, 1, 3])
  discount = 1 / np.log2(np.arange(2, 6))
  orders = itertools.permutations([0, 1, 2])
  gains = np.mean([discount @ label[[*order, 3]] for order in orders])
  best = discount @ np.sort(label)[::-1]
  found = list_ndcgs(score, label, np.full(4, 7))
  np.testing.assert_allclose(found.value, [gains / best], rtol=1e-12)


def test_the_best_order_is_one_and_rows_may_be_in_any_order():
  rng = np.random.default_rng(1)
  group, label = rng.integers(0, 9, 80), rng.random(80)
  found = list_ndcgs(label, label, group)
  np.testing.assert_allclose(found.value, 1.0)
  score = rng.random(80)
  order = rng.permutation(80)
  np.testing.assert_allclose(
    list_ndcgs(score, label, group).value,
    list_ndcgs(score[order], label[order], group[order]).value,
  )
