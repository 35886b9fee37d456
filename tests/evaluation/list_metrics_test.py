"""Metrics of lists, against the formulas and against full rankings."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.evaluation.evaluate import evaluate
from recjax.evaluation.list_metrics import list_metrics, list_recall
from recjax.evaluation.protocol import Protocol
from recjax.retrieval.scorers import DotProductScorer

ALL = ("hit_rate", "recall", "precision", "ndcg", "mrr", "map", "mrr@3")


def eval_set_of(targets):
  rows = np.repeat(np.arange(len(targets)), [len(t) for t in targets])
  ragged = lambda lists: Ragged.from_pairs(
    rows, np.concatenate(lists).astype(np.int32), len(lists)
  )
  users = np.arange(1, len(targets) + 1)
  none = Ragged(np.zeros(0, np.int32), np.zeros(len(targets) + 1, np.int64))
  return EvalSet(users, none, ragged(targets), none)


def test_a_single_target():
  lists = np.array([[4, 2, 9], [4, 2, 9], [4, 2, 0]], np.int32)
  found = list_metrics(
    lists, eval_set_of([[2], [7], [4]]), Protocol(metrics=ALL, cutoffs=(1, 3))
  )
  np.testing.assert_allclose(found["hit_rate@1"], [0, 0, 1])
  np.testing.assert_allclose(found["hit_rate@3"], [1, 0, 1])
  np.testing.assert_allclose(found["ndcg@3"], [1 / np.log2(3), 0, 1], 1e-6)
  np.testing.assert_array_equal(found["mrr"], [1 / 2, 0, 1])
  np.testing.assert_allclose(found["precision@3"], [1 / 3, 0, 1 / 3], 1e-6)


def test_several_targets_some_of_them_not_found():
  # Targets at places 1 and 3 of the list; two more are in no list.
  lists = np.array([[5, 1, 8, 2]], np.int32)
  found = list_metrics(
    lists,
    eval_set_of([[8, 30, 5, 40]]),
    Protocol(metrics=ALL, cutoffs=(2, 4)),
  )
  ideal = sum(1 / np.log2(place + 1) for place in (1, 2, 3, 4))
  dcg = 1 + 1 / np.log2(4)
  assert found["ndcg@4"][0] == pytest.approx(dcg / ideal, rel=1e-6)
  assert found["recall@4"][0] == pytest.approx(2 / 4)
  assert found["recall@2"][0] == pytest.approx(1 / 4)
  assert found["map@4"][0] == pytest.approx((1 / 1 + 2 / 3) / 4)
  assert found["mrr"][0] == 1


def test_whole_lists_give_what_a_full_ranking_gives():
  rng = np.random.default_rng(0)
  num_users, num_items = 40, 90
  vectors = rng.normal(size=(num_items + 1, 6)).astype(np.float32)
  queries = rng.normal(size=(num_users, 6)).astype(np.float32)
  targets = [
    rng.choice(num_items, rng.integers(1, 5), replace=False) + 1
    for _ in range(num_users)
  ]
  users = eval_set_of(targets)
  protocol = Protocol(metrics=ALL, cutoffs=(5, 20), exclude_seen="none")
  expected = evaluate(
    DotProductScorer(jnp.asarray(vectors)),
    queries,
    users,
    protocol,
    num_items=num_items,
    popularity=np.ones(num_items + 1),
    intervals=False,
    floor=False,
    progress=False,
  ).per_user
  lists = np.argsort(-(queries @ vectors[1:].T), 1).astype(np.int32) + 1
  found = list_metrics(lists, users, protocol)
  assert found.keys() == expected.keys()
  for key in expected:
    np.testing.assert_allclose(found[key], expected[key], 1e-5, err_msg=key)
  # A list of 20 tells the same at every cut-off up to 20.
  at_most_20 = dataclasses.replace(protocol, metrics=("recall", "ndcg"))
  for key, values in list_metrics(lists[:, :20], users, at_most_20).items():
    np.testing.assert_allclose(values, expected[key], 1e-5, err_msg=key)


def test_a_target_that_is_listed_twice_counts_once():
  lists = np.array([[3, 7]], np.int32)
  protocol = Protocol(metrics=("recall",), cutoffs=(2,))
  found = list_metrics(lists, eval_set_of([[7, 7, 1]]), protocol)
  assert found["recall@2"][0] == pytest.approx(1 / 2)


def test_lists_of_nothing():
  lists = np.zeros((2, 3), np.int32)
  found = list_metrics(lists, eval_set_of([[1], [2]]), Protocol(metrics=ALL))
  for key, values in found.items():
    np.testing.assert_array_equal(values, 0, err_msg=key)


def test_list_recall():
  right = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 0, 0]], np.int32)
  found = np.array([[4, 9, 1, 7], [6, 5, 0, 0], [1, 2, 3, 4]], np.int32)
  # Half of the first, all of the second; the third has nothing to be found.
  assert list_recall(found, right) == pytest.approx((2 / 4 + 2 / 2) / 2)
  assert list_recall(right, right) == 1
  assert list_recall(right[2:], right[2:]) == 0
  # Items of one row are none of another.
  swapped = np.array([[1, 2], [3, 4]], np.int32)
  assert list_recall(swapped[::-1], swapped) == 0
