import jax.numpy as jnp
import numpy as np
import pytest

from recjax.evaluation.evaluate import evaluate
from recjax.evaluation.protocol import Protocol
from recjax.retrieval.scorers import DotProductScorer, PopularityScorer

NUM_USERS, NUM_ITEMS = 90, 60


def run(users, scorer, queries, protocol, **options):
  return evaluate(
    scorer,
    queries,
    users,
    protocol,
    num_items=NUM_ITEMS,
    popularity=np.ones(NUM_ITEMS + 1, int),
    intervals=False,
    floor=False,
    **options,
  )


@pytest.mark.parametrize("ties", ["expected", "pessimistic"])
def test_every_target_on_its_own(oracle, ties):
  users = oracle.random_eval_set(1, NUM_USERS, NUM_ITEMS, num_targets=4)
  rng = np.random.default_rng(2)
  vectors = rng.integers(-1, 2, (NUM_ITEMS + 1, 3)).astype(np.float32)
  queries = rng.integers(-1, 2, (NUM_USERS, 3)).astype(np.float32)
  protocol = Protocol(
    metrics=("hit_rate", "recall", "ndcg", "mrr"), cutoffs=(7,), ties=ties
  )
  scorer = DotProductScorer(jnp.asarray(vectors))
  result = run(users, scorer, queries, protocol, per_target=True)
  targets = result.targets
  scores, expected = queries @ vectors.T, []
  for u in range(NUM_USERS):
    mine = sorted(users.targets[u].tolist())
    out = set(users.history[u].tolist()) - set(mine)
    candidates = set(range(1, NUM_ITEMS + 1)) - out
    found = oracle.places(scores[u], mine, candidates)
    for place, (item, (above, tied)) in enumerate(zip(mine, found)):
      ranks = np.arange(above + 1, above + tied + 2)
      if ties == "pessimistic":
        # Behind all others that tie, and among targets in their order.
        after = sum(scores[u][other] == scores[u][item] for other in mine)
        before = sum(
          scores[u][other] == scores[u][item] for other in mine[:place]
        )
        ranks = ranks[len(ranks) - after + before :][:1]
      inside = ranks <= 7
      gain = np.where(inside, 1 / np.log2(ranks + 1), 0)
      expected.append((u, item, inside.mean(), gain.mean(), (1 / ranks).mean()))
  user, item, hit, gain, reciprocal = map(np.array, zip(*expected))
  np.testing.assert_array_equal(targets.query, user)
  np.testing.assert_array_equal(targets.item_id, item)
  for key, values in {
    "hit_rate@7": hit,
    "recall@7": hit,
    "ndcg@7": gain,
    "mrr": reciprocal,
  }.items():
    np.testing.assert_allclose(targets.values[key], values, rtol=2e-5)
  # A user's recall is the mean over the user's targets.
  mean = np.bincount(user, hit) / np.bincount(user)
  np.testing.assert_allclose(result.per_user["recall@7"], mean, rtol=1e-5)
  assert result.num_targets.tolist() == np.bincount(user).tolist()


def test_targets_are_kept_only_if_asked_for(oracle):
  users = oracle.random_eval_set(3, NUM_USERS, NUM_ITEMS)
  scorer = PopularityScorer(jnp.arange(NUM_ITEMS + 1.0))
  queries = np.zeros((NUM_USERS, 1), np.float32)
  assert run(users, scorer, queries, Protocol()).targets is None
  some = run(users, scorer, queries, Protocol(max_users=20), per_target=True)
  # Positions are those of the result, not of the whole evaluation set.
  assert some.targets.query.tolist() == list(range(20))
  for key, values in some.per_user.items():
    np.testing.assert_allclose(some.targets.values[key], values, rtol=1e-6)
