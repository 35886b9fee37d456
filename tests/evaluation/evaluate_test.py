import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.errors import DataError
from recjax.evaluation.evaluate import evaluate
from recjax.evaluation.protocol import (
  METRICS,
  AllItems,
  GivenLists,
  Protocol,
  UniformNegatives,
  bert4rec_paper_protocol,
  sasrec_paper_protocol,
  tfrs_protocol,
)
from recjax.retrieval.scorers import DotProductScorer, PopularityScorer

NUM_ITEMS, NUM_USERS = 60, 150


def constant() -> PopularityScorer:
  return PopularityScorer(jnp.ones(NUM_ITEMS + 1))


def run(users, protocol, *, scorer=None, queries=None, **options):
  options = {"intervals": False, "floor": False} | options
  queries = (
    np.zeros((len(users), 1), np.float32) if queries is None else queries
  )
  return evaluate(
    constant() if scorer is None else scorer,
    queries,
    users,
    protocol,
    num_items=NUM_ITEMS,
    popularity=np.bincount(users.history.values, minlength=NUM_ITEMS + 1),
    **options,
  )


def integer_model(seed=0):
  """Vectors and queries of small integers: exact scores with heavy ties."""
  rng = np.random.default_rng(seed)
  vectors = rng.integers(-1, 2, (NUM_ITEMS + 1, 3)).astype(np.float32)
  queries = rng.integers(-1, 2, (NUM_USERS, 3)).astype(np.float32)
  return vectors, queries


def dcg(places) -> float:
  return sum(1 / math.log2(place + 1) for place in places)


@pytest.mark.parametrize("exclude_seen", ["history", "train", "none"])
def test_one_target_by_hand(oracle, exclude_seen):
  users = oracle.random_eval_set(1, NUM_USERS, NUM_ITEMS)
  vectors, queries = integer_model()
  protocol = Protocol(exclude_seen=exclude_seen, ties="pessimistic")
  scorer = DotProductScorer(jnp.asarray(vectors))
  result = run(users, protocol, scorer=scorer, queries=queries, user_block=64)
  scores = queries @ vectors.T
  ranks = []
  for u in range(NUM_USERS):
    seen = {"history": users.history, "train": users.train_items}
    out = seen[exclude_seen][u].tolist() if exclude_seen in seen else []
    target = users.targets[u][0]
    candidates = set(range(1, NUM_ITEMS + 1)) - set(out) | {target}
    ((above, tied),) = oracle.places(scores[u], [target], candidates)
    ranks.append(above + tied + 1)
  ranks = np.array(ranks)
  expected = {
    "hit_rate@10": ranks <= 10,
    "ndcg@10": np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0),
    "mrr": 1 / ranks,
  }
  assert set(result.per_user) == set(expected)
  for key, values in expected.items():
    np.testing.assert_allclose(result.per_user[key], values, rtol=1e-5)
    assert result.metrics[key] == pytest.approx(values.mean(), rel=1e-5)
  np.testing.assert_array_equal(result.user_id, users.user_id)
  assert result.num_users == NUM_USERS and result.wall_secs > 0


def test_several_targets_by_sorting(oracle):
  users = oracle.random_eval_set(2, NUM_USERS, NUM_ITEMS, num_targets=4)
  rng = np.random.default_rng(3)
  vectors = rng.normal(size=(NUM_ITEMS + 1, 8)).astype(np.float32)
  queries = rng.normal(size=(NUM_USERS, 8)).astype(np.float32)
  protocol = Protocol(
    metrics=METRICS, cutoffs=(3, 10), recall_denominator="min_k_targets"
  )
  scorer = DotProductScorer(jnp.asarray(vectors))
  result = run(users, protocol, scorer=scorer, queries=queries)
  scores = queries @ vectors.T
  for u in range(NUM_USERS):
    targets = set(users.targets[u].tolist())
    out = set(users.history[u].tolist()) - targets
    order = [i for i in np.argsort(-scores[u]) if i > 0 and i not in out]
    places = sorted(order.index(t) + 1 for t in targets)
    for k in (3, 10):
      hits = [place for place in places if place <= k]
      best = min(k, len(targets))
      precisions = [(n + 1) / place for n, place in enumerate(hits)]
      expected = {
        "hit_rate": float(bool(hits)),
        "recall": len(hits) / best,
        "precision": len(hits) / k,
        "ndcg": dcg(hits) / dcg(range(1, best + 1)),
        "map": sum(precisions) / best,
      }
      for name, value in expected.items():
        actual = result.per_user[f"{name}@{k}"][u]
        assert actual == pytest.approx(value, rel=1e-5, abs=1e-7)
    assert result.per_user["mrr"][u] == pytest.approx(1 / places[0])


def test_a_constant_scorer_scores_chance(oracle):
  # Ten seen items each, never the target: 50 candidates are left.
  histories = [list(range(1, 11))] * NUM_USERS
  users = oracle.eval_set(histories, [[11 + u % 50] for u in range(NUM_USERS)])
  chance = run(users, Protocol(cutoffs=(1, 10))).metrics
  assert chance["hit_rate@1"] == pytest.approx(1 / 50)
  assert chance["hit_rate@10"] == pytest.approx(10 / 50)
  assert chance["ndcg@10"] == pytest.approx(dcg(range(1, 11)) / 50)
  assert chance["mrr"] == pytest.approx(np.mean(1 / np.arange(1, 51)))
  best = run(users, Protocol(ties="optimistic")).metrics
  assert best == {"hit_rate@10": 1, "ndcg@10": 1, "mrr": 1}
  worst = run(users, Protocol(ties="pessimistic")).metrics
  assert worst == pytest.approx({"hit_rate@10": 0, "ndcg@10": 0, "mrr": 1 / 50})


def test_a_constant_scorer_scores_chance_among_samples(oracle):
  users = oracle.eval_set([[1]] * NUM_USERS, [[2]] * NUM_USERS)
  spec = UniformNegatives(num=39)
  sampled = run(users, Protocol(candidates=spec)).metrics
  assert sampled["hit_rate@10"] == pytest.approx(10 / 40)
  sasrec = run(users, sasrec_paper_protocol()).metrics
  assert sasrec["hit_rate@10"] == 1.0
  lists = oracle.ragged([[], *[[2, 3, 4, 4, 5]] * NUM_USERS])
  given = Protocol(candidates=GivenLists(lists=lists), cutoffs=(1,))
  assert run(users, given).metrics["hit_rate@1"] == pytest.approx(1 / 4)


def test_drawn_copies_of_the_target_tie_with_it(oracle):
  # Of three items one is excluded, so that many draws hit the target.
  users = oracle.eval_set([[1]] * 400, [[2]] * 400)
  protocol = sasrec_paper_protocol(
    candidates=UniformNegatives(num=8, exclude="train"), cutoffs=(1,)
  )
  low = jnp.asarray([0.0, 0.0, 2.0, 1.0])
  judge = lambda ties: evaluate(
    PopularityScorer(low),
    np.zeros((400, 1), np.float32),
    users,
    dataclasses.replace(protocol, ties=ties),
    num_items=3,
    popularity=np.ones(4, int),
    intervals=False,
    floor=False,
  ).metrics["mrr"]
  assert judge("optimistic") == 1.0
  # The rank past all copies: 1 + Binomial(8, 1/2) of them.
  exact = sum(math.comb(8, n) / 2**8 / (n + 1) for n in range(9))
  assert judge("pessimistic") == pytest.approx(exact, abs=0.05)


def test_floor_is_popularity_under_the_same_protocol(oracle):
  users = oracle.random_eval_set(4, NUM_USERS, NUM_ITEMS)
  counts = np.bincount(users.history.values, minlength=NUM_ITEMS + 1)
  popular = PopularityScorer(jnp.asarray(counts, jnp.float32))
  for protocol in (Protocol(), Protocol(candidates=UniformNegatives(num=39))):
    with_floor = run(users, protocol, floor=True)
    assert with_floor.floor == run(users, protocol, scorer=popular).metrics
    assert with_floor.floor != with_floor.metrics


def test_intervals_hold_the_means(oracle):
  users = oracle.random_eval_set(5, NUM_USERS, NUM_ITEMS)
  vectors, queries = integer_model(5)
  scorer = DotProductScorer(jnp.asarray(vectors))
  judge = lambda: run(
    users, Protocol(), scorer=scorer, queries=queries, intervals=True
  )
  result = judge()
  assert set(result.intervals) == set(result.metrics)
  for key, (low, high) in result.intervals.items():
    assert low < result.metrics[key] < high
  assert judge().intervals == result.intervals


def test_queries_by_function_and_blocks_of_any_size(oracle):
  users = oracle.random_eval_set(6, NUM_USERS, NUM_ITEMS)
  vectors, queries = integer_model(6)
  scorer = DotProductScorer(jnp.asarray(vectors))
  asked = []

  def ask(rows):
    asked.append(len(rows))
    return jnp.asarray(queries[rows])

  judge = lambda **kw: run(users, Protocol(), scorer=scorer, **kw).per_user
  whole = judge(queries=queries)
  blocks = judge(queries=ask, user_block=32, item_block=64)
  for key, values in whole.items():
    np.testing.assert_array_equal(values, blocks[key])
  assert set(asked) == {32}


def test_at_most_max_users(oracle):
  users = oracle.random_eval_set(7, NUM_USERS, NUM_ITEMS)
  vectors, queries = integer_model(7)
  scorer = DotProductScorer(jnp.asarray(vectors))
  judge = lambda **kw: run(
    users, Protocol(**kw), scorer=scorer, queries=queries
  )
  everybody, some = judge(), judge(max_users=40)
  assert some.num_users == 40 and (np.diff(some.user_id) > 0).all()
  index = np.searchsorted(everybody.user_id, some.user_id)
  for key, values in some.per_user.items():
    np.testing.assert_array_equal(values, everybody.per_user[key][index])
  again, other = judge(max_users=40), judge(max_users=40, user_seed=1)
  np.testing.assert_array_equal(some.user_id, again.user_id)
  assert some.user_id.tolist() != other.user_id.tolist()
  assert judge(max_users=NUM_USERS).num_users == NUM_USERS


def of_events(users):
  """One query a target, with what else is known of its user."""
  query = users.targets.row_ids
  alone = Ragged(users.targets.values, np.arange(len(query) + 1))
  return EvalSet(
    users.user_id[query],
    users.history.take(query),
    alone,
    users.train_items.take(query),
  )


def test_one_query_an_event(oracle):
  events = of_events(oracle.random_eval_set(9, NUM_USERS, NUM_ITEMS, 4))
  rng = np.random.default_rng(9)
  vectors = rng.normal(size=(NUM_ITEMS + 1, 8)).astype(np.float32)
  queries = rng.normal(size=(len(events), 8)).astype(np.float32)
  protocol = tfrs_protocol(cutoffs=(3, 10), exclude_seen="history")
  scorer = DotProductScorer(jnp.asarray(vectors))
  result = run(
    events, protocol, scorer=scorer, queries=queries, intervals=True, floor=True
  )
  scores, ranks = queries @ vectors.T, []
  for q in range(len(events)):
    (target,) = events.targets[q]
    out = events.history[q].tolist()
    # Other targets of the user stay, and the target itself in any case.
    candidates = set(range(1, NUM_ITEMS + 1)) - set(out) | {target}
    ((above, _),) = oracle.places(scores[q], [target], candidates)
    ranks.append(above + 1)
  for k in (3, 10):
    hits = np.array(ranks) <= k
    np.testing.assert_array_equal(result.per_user[f"hit_rate@{k}"], hits)
    assert result.metrics[f"hit_rate@{k}"] == pytest.approx(hits.mean())
    low, high = result.intervals[f"hit_rate@{k}"]
    assert low < hits.mean() < high
  np.testing.assert_array_equal(result.user_id, events.user_id)
  assert len(events) > result.num_users == NUM_USERS
  assert set(result.floor) == set(result.metrics)
  some = run(
    events,
    dataclasses.replace(protocol, max_users=50),
    scorer=scorer,
    queries=queries,
  )
  assert len(some.user_id) == 50


def test_an_evaluation_set_of_the_other_kind_is_refused(oracle):
  users = oracle.random_eval_set(9, NUM_USERS, NUM_ITEMS, 4)
  with pytest.raises(DataError, match="per='event'"):
    run(users, tfrs_protocol())
  with pytest.raises(DataError, match="has several queries"):
    run(of_events(users), Protocol())


def test_new_items_are_ranked_among_new_items(oracle):
  cold = np.arange(1, NUM_ITEMS + 1, 4)
  users = oracle.random_eval_set(10, NUM_USERS, NUM_ITEMS)
  rng = np.random.default_rng(10)
  targets = oracle.ragged(rng.choice(cold, (NUM_USERS, 1)).tolist())
  users = dataclasses.replace(users, targets=targets)
  vectors = rng.normal(size=(NUM_ITEMS + 1, 8)).astype(np.float32)
  queries = rng.normal(size=(NUM_USERS, 8)).astype(np.float32)
  popularity = np.ones(NUM_ITEMS + 1, int)
  popularity[cold] = 0
  judge = lambda counts, **options: evaluate(
    DotProductScorer(jnp.asarray(vectors)),
    queries,
    users,
    Protocol(candidates=AllItems("unseen"), metrics=("mrr",)),
    num_items=NUM_ITEMS,
    popularity=counts,
    intervals=False,
    **options,
  )
  result = judge(popularity, item_block=64)
  scores = queries @ vectors.T
  for u in range(NUM_USERS):
    target = users.targets[u][0]
    candidates = set(cold) - set(users.history[u].tolist()) | {target}
    ((above, _),) = oracle.places(scores[u], [target], candidates)
    assert result.per_user["mrr"][u] == pytest.approx(1 / (above + 1))
    assert result.num_candidates[u] == len(candidates)
  # To popularity all of them are alike.
  harmonic = lambda n: sum(1 / j for j in range(1, n + 1)) / n
  floor = np.mean([harmonic(n) for n in result.num_candidates])
  assert result.floor["mrr"] == pytest.approx(floor, rel=1e-5)
  with pytest.raises(DataError, match="ColdItems"):
    judge(np.ones(NUM_ITEMS + 1, int), floor=False)


def test_popularity_negatives_need_their_counts(oracle):
  users = oracle.random_eval_set(8, NUM_USERS, NUM_ITEMS)
  protocol = bert4rec_paper_protocol()
  protocol = dataclasses.replace(
    protocol, candidates=dataclasses.replace(protocol.candidates, num=10)
  )
  counts = np.ones(NUM_ITEMS + 1, int)
  assert run(users, protocol, all_popularity=counts).num_users == NUM_USERS
  with pytest.raises(DataError, match="counts from 'all'"):
    run(users, protocol)


def test_bad_evaluation_sets_are_named(oracle):
  with pytest.raises(DataError, match="evaluation set is empty"):
    run(oracle.eval_set([], []), Protocol())
  beyond = oracle.eval_set([[1], [1]], [[3], [61]], user_id=[4, 8])
  with pytest.raises(DataError, match="target 61 of user 8 is not in"):
    run(beyond, Protocol())
  none = oracle.eval_set([[1], [1]], [[3], []], user_id=[4, 8])
  with pytest.raises(DataError, match="user 8 has no target"):
    run(none, Protocol())
  users = oracle.eval_set([[1]], [[2]], user_id=[4])
  broken = PopularityScorer(jnp.full(NUM_ITEMS + 1, jnp.nan))
  with pytest.raises(DataError, match="user 4: the model has diverged"):
    run(users, Protocol(), scorer=broken)
  with pytest.raises(DataError, match="must hold num_items"):
    evaluate(
      broken,
      np.zeros((1, 1), np.float32),
      users,
      Protocol(),
      num_items=NUM_ITEMS,
      popularity=np.ones(3, int),
    )
