"""Lists against sorting all scores, and against the ranks of the protocol."""

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.evaluation.candidates import AllItems, UniformNegatives
from recjax.evaluation.evaluate import evaluate
from recjax.evaluation.protocol import Protocol
from recjax.retrieval.scorers import DotProductScorer

NUM_ITEMS, NUM_USERS = 60, 150


def model():
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(NUM_ITEMS + 1, 6)).astype(np.float32)
  queries = rng.normal(size=(NUM_USERS, 6)).astype(np.float32)
  return vectors, queries


def run(users, protocol, k, popularity=None, **options):
  vectors, queries = model()
  if popularity is None:
    popularity = np.bincount(users.train_items.values, minlength=NUM_ITEMS + 1)
  result = evaluate(
    DotProductScorer(jnp.asarray(vectors)),
    queries,
    users,
    protocol,
    num_items=NUM_ITEMS,
    popularity=popularity,
    floor=False,
    intervals=False,
    list_length=k,
    **options,
  )
  return result, queries @ vectors.T, popularity


def best(scores, out, k):
  left = [i for i in range(1, NUM_ITEMS + 1) if i not in out]
  found = sorted(left, key=lambda i: (-scores[i], i))[:k]
  return found + [0] * (k - len(found))


@pytest.mark.parametrize("exclude_seen", ["history", "train", "none"])
def test_lists_by_sorting(oracle, exclude_seen):
  users = oracle.random_eval_set(1, NUM_USERS, NUM_ITEMS, num_targets=3)
  protocol = Protocol(exclude_seen=exclude_seen)
  result, scores, popularity = run(users, protocol, 7, user_block=64)
  for u in range(NUM_USERS):
    seen = {"history": users.history, "train": users.train_items}
    out = seen[exclude_seen][u].tolist() if exclude_seen in seen else []
    out = set(out) - set(users.targets[u].tolist())
    assert result.lists.items[u].tolist() == best(scores[u], out, 7)
    assert result.lists.popular[u].tolist() == best(popularity, out, 7)
  assert result.lists.catalogue.tolist() == [False] + [True] * NUM_ITEMS


def test_hits_of_lists_are_those_of_the_protocol(oracle):
  users = oracle.random_eval_set(2, NUM_USERS, NUM_ITEMS, num_targets=3)
  result, _, _ = run(users, Protocol(cutoffs=(10,)), 10)
  hits = [
    bool(set(row.tolist()) & set(users.targets[u].tolist()))
    for u, row in enumerate(result.lists.items)
  ]
  np.testing.assert_array_equal(result.per_user["hit_rate@10"], hits)


def test_drawn_candidates_do_not_shorten_a_list(oracle):
  users = oracle.random_eval_set(3, NUM_USERS, NUM_ITEMS)
  whole, _, _ = run(users, Protocol(), 10)
  drawn, _, _ = run(users, Protocol(candidates=UniformNegatives(num=5)), 10)
  np.testing.assert_array_equal(drawn.lists.items, whole.lists.items)


def test_only_the_judged_get_lists(oracle):
  users = oracle.random_eval_set(4, NUM_USERS, NUM_ITEMS)
  whole, _, _ = run(users, Protocol(), 5)
  some, _, _ = run(users, Protocol(max_users=40), 5)
  assert some.lists.items.shape == (40, 5)
  rows = np.searchsorted(users.user_id, some.user_id)
  np.testing.assert_array_equal(some.lists.items, whole.lists.items[rows])


def test_lists_of_new_items_alone(oracle):
  users = oracle.random_eval_set(5, NUM_USERS, NUM_ITEMS)
  counts = np.arange(NUM_ITEMS + 1) % 4  # A quarter of the items is new.
  protocol = Protocol(candidates=AllItems(among="unseen"))
  result, scores, _ = run(users, protocol, 4, popularity=counts)
  new = [i for i in range(1, NUM_ITEMS + 1) if counts[i] == 0]
  for u in range(NUM_USERS):
    out = set(users.history[u].tolist()) - set(users.targets[u].tolist())
    out |= set(range(1, NUM_ITEMS + 1)) - set(new)
    assert result.lists.items[u].tolist() == best(scores[u], out, 4)
  assert np.flatnonzero(result.lists.catalogue).tolist() == new
  with pytest.raises(ConfigError, match=r"ListReport.k must lie in \[1, 15\]"):
    run(users, protocol, 16, popularity=counts)


def test_a_user_who_has_seen_all_gets_a_short_list(oracle):
  everything = list(range(1, NUM_ITEMS + 1))
  users = oracle.eval_set([everything[:-2], [3]], [[1], [2]])
  result, _, _ = run(users, Protocol(), 6)
  assert set(result.lists.items[0].tolist()) == {1, 59, 60, 0}
  assert (result.lists.items[1] > 0).all()


def test_none_are_made_unless_asked_for(oracle):
  users = oracle.random_eval_set(6, NUM_USERS, NUM_ITEMS)
  result, _, _ = run(users, Protocol(), 0)
  assert result.lists is None
