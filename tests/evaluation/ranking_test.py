import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from recjax.data.ragged import Ragged
from recjax.errors import ConfigError
from recjax.evaluation import item_blocks, ranking
from recjax.retrieval.scorers import DotProductScorer, PopularityScorer


@struct.dataclass
class DistanceScorer:
  """A scorer that is no dot product: minus the city-block distance."""

  item_vectors: jax.Array

  def scores(self, queries, item_ids):
    vectors = self.item_vectors[item_ids]
    return -jnp.abs(queries[:, None, :] - vectors[None, :, :]).sum(-1)

  def candidate_scores(self, queries, item_ids):
    vectors = self.item_vectors[item_ids]
    return -jnp.abs(queries[:, None, :] - vectors).sum(-1)


@struct.dataclass
class PlainScorer:
  """A dot product without annotations, which ahead-of-time compiling needs."""

  item_vectors: jax.Array

  def scores(self, queries, item_ids):
    return queries @ self.item_vectors[item_ids].T

  def candidate_scores(self, queries, item_ids):
    raise NotImplementedError


def small_integers(seed, *shape):
  """Vectors whose products are exact, so that scores tie in any arithmetic."""
  rng = np.random.default_rng(seed)
  return rng.integers(-1, 2, shape).astype(np.float32)


def take(queries):
  queries = jnp.asarray(queries)
  return lambda rows: queries[rows]


def distinct(rows: Ragged) -> list[list[int]]:
  return [sorted(set(rows[i].tolist())) for i in range(len(rows))]


def check_places(groups, expected):
  found = {}
  for group in groups:
    for i, row in enumerate(group.rows):
      where = group.where[i]
      counts = group.ranks.greater[i][where], group.ranks.tied[i][where]
      found[int(row)] = list(zip(*(c.tolist() for c in counts)))
  assert found == dict(enumerate(expected))


@pytest.mark.parametrize(
  "scorer_class, num_items, num_targets, user_block, item_block",
  [
    (DotProductScorer, 100, 1, 512, 2048),
    (DistanceScorer, 331, 1, 64, 64),
    (DotProductScorer, 331, 30, 64, 128),
    (DistanceScorer, 63, 4, 8, 64),
  ],
)
def test_counts_in_the_catalogue(
  oracle, scorer_class, num_items, num_targets, user_block, item_block
):
  num_users = 90
  users = oracle.random_eval_set(1, num_users, num_items, num_targets)
  vectors = small_integers(2, num_items + 1, 4)
  vectors[0] = 99.0
  queries = small_integers(3, num_users, 4)
  scorer = scorer_class(jnp.asarray(vectors))
  targets, seen = distinct(users.targets), distinct(users.history)
  groups = ranking.rank_in_catalogue(
    scorer,
    take(queries),
    oracle.ragged(targets),
    oracle.ragged(seen),
    num_items=num_items,
    user_block=user_block,
    item_block=item_block,
  )
  if scorer_class is DotProductScorer:
    scores = queries @ vectors.T
  else:
    scores = -np.abs(queries[:, None] - vectors[None]).sum(-1)
  expected = []
  for u in range(num_users):
    out = set(seen[u]) - set(targets[u])
    candidates = [i for i in range(1, num_items + 1) if i not in out]
    expected.append(oracle.places(scores[u], targets[u], candidates))
  check_places(groups, expected)


@pytest.mark.parametrize(
  "num_targets, num_ranked, item_block", [(1, 40, 2048), (9, 150, 64)]
)
def test_counts_among_some_items(oracle, num_targets, num_ranked, item_block):
  num_users, num_items = 90, 331
  users = oracle.random_eval_set(4, num_users, num_items, num_targets)
  vectors = small_integers(5, num_items + 1, 4)
  queries = small_integers(6, num_users, 4)
  rng = np.random.default_rng(7)
  among = np.sort(rng.permutation(num_items)[:num_ranked] + 1)
  targets, seen = distinct(users.targets), distinct(users.history)
  groups = ranking.rank_in_catalogue(
    DotProductScorer(jnp.asarray(vectors)),
    take(queries),
    oracle.ragged(targets),
    oracle.ragged(seen),
    num_items=num_items,
    among=among,
    user_block=64,
    item_block=item_block,
  )
  scores = queries @ vectors.T
  expected, mixed = [], 0
  for u in range(num_users):
    candidates = (set(among) - set(seen[u])) | set(targets[u])
    expected.append(oracle.places(scores[u], targets[u], candidates))
    mixed += bool(set(targets[u]) - set(among))
  assert mixed > 20  # Targets that are not among the items stand beside them.
  check_places(groups, expected)


def test_targets_among_each_other(oracle):
  targets = oracle.ragged([[1, 2, 3, 5]])
  scorer = PopularityScorer(jnp.asarray([9.0, 2.0, 1.0, 2.0, 2.0, 3.0]))
  (group,) = ranking.rank_in_catalogue(
    scorer, take(np.zeros((1, 1))), targets, oracle.ragged([[]]), num_items=5
  )
  ranks = {k: v[0].tolist() for k, v in group.ranks._asdict().items()}
  assert ranks == {
    "greater": [1, 4, 1, 0],
    "tied": [2, 0, 2, 0],
    "greater_targets": [1, 3, 1, 0],
    "tied_targets": [1, 0, 1, 0],
    "tied_before": [0, 0, 1, 0],
  }


@pytest.mark.parametrize(
  "scorer_class, dim",
  [(DotProductScorer, 7), (DotProductScorer, 50), (DistanceScorer, 16)],
)
def test_equal_items_tie_exactly_wherever_they_stand(oracle, scorer_class, dim):
  # Items 1..num_items come in groups of ten equal vectors, scattered.
  rng = np.random.default_rng(dim)
  num_items, num_users = 1000, 130
  kind = rng.permutation(np.arange(num_items) % 100)
  vectors = rng.normal(size=(100, dim)).astype(np.float32)[kind]
  vectors = np.concatenate([np.zeros((1, dim), np.float32), vectors])
  queries = rng.normal(size=(num_users, dim)).astype(np.float32)
  targets = rng.integers(1, num_items + 1, (num_users, 1)).tolist()
  groups = ranking.rank_in_catalogue(
    scorer_class(jnp.asarray(vectors)),
    take(queries),
    oracle.ragged(targets),
    oracle.ragged([[]] * num_users),
    num_items=num_items,
    user_block=64,
    item_block=192,
  )
  for group in groups:
    np.testing.assert_array_equal(group.ranks.tied, 9)
    np.testing.assert_array_equal(group.ranks.greater % 10, 0)


@pytest.mark.parametrize("num_targets", [1, 5])
def test_counts_among_candidates(oracle, num_targets):
  rng = np.random.default_rng(4)
  num_items, num_users = 40, 70
  users = oracle.random_eval_set(5, num_users, num_items, num_targets)
  targets = distinct(users.targets)
  # With repeats, copies of targets, and padding.
  candidates = rng.integers(0, num_items + 1, (num_users, 30)).astype(np.int32)
  vectors, queries = small_integers(6, num_items + 1, 4), rng.random((70, 4))
  queries = np.round(queries).astype(np.float32)
  groups = ranking.rank_among_candidates(
    DotProductScorer(jnp.asarray(vectors)),
    take(queries),
    oracle.ragged(targets),
    candidates,
    user_block=32,
  )
  scores = queries @ vectors.T
  expected = []
  for u in range(num_users):
    row = []
    for target in targets[u]:
      others = [c for c in candidates[u] if c > 0]
      others += [t for t in targets[u] if t != target]
      above = sum(scores[u, c] > scores[u, target] for c in others)
      tied = sum(scores[u, c] == scores[u, target] for c in others)
      row.append((int(above), int(tied)))
    expected.append(row)
  check_places(groups, expected)


def test_scores_that_are_no_numbers_are_reported(oracle):
  vectors = np.ones((6, 2), np.float32)
  vectors[3] = np.nan
  targets = oracle.ragged([[3], [2], [1]])
  scorer = DotProductScorer(jnp.asarray(vectors))
  seen, queries = oracle.ragged([[]] * 3), take(np.ones((3, 2), np.float32))
  (group,) = ranking.rank_in_catalogue(
    scorer, queries, targets, seen, num_items=5
  )
  assert group.nan.tolist() == [True, False, False]
  (group,) = ranking.rank_among_candidates(
    scorer, queries, targets, np.full((3, 2), 4, np.int32)
  )
  assert group.nan.tolist() == [True, False, False]


def test_new_weights_compile_nothing(oracle):
  users = oracle.random_eval_set(7, 20, 50)
  targets = oracle.ragged(distinct(users.targets))
  run = lambda seed: ranking.rank_in_catalogue(
    DotProductScorer(jnp.asarray(small_integers(seed, 51, 3))),
    take(small_integers(seed, 20, 3)),
    targets,
    oracle.ragged(distinct(users.history)),
    num_items=50,
  )
  run(0)
  before = ranking._count_in_blocks._cache_size()
  run(1)
  assert ranking._count_in_blocks._cache_size() == before


def test_memory_does_not_grow_with_the_catalogue(oracle):
  def temporary_bytes(num_items):
    targets = oracle.ragged([[1]] * 64)
    own = np.ones((64, 1), np.int32)
    place, _ = item_blocks.lay_out(None, num_items, 512)
    plan = item_blocks.make_plan(own, targets, place, 512, 128)
    compiled = ranking._count_in_blocks.lower(
      PlainScorer(jnp.ones((num_items + 1, 8))),
      jnp.ones((64, 8)),
      own > 0,
      plan,
      np.int32(num_items),
      kind=(PlainScorer,),
    ).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  small, large = temporary_bytes(5_000), temporary_bytes(50_000)
  assert large <= small + 4096
  # A block of scores, and not one of the whole catalogue.
  assert large < 64 * 50_000 * 4 / 4


def test_too_wide_blocks_are_refused(oracle):
  one = oracle.ragged([[1]])
  with pytest.raises(ConfigError, match="item_block must lie in"):
    ranking.rank_in_catalogue(
      PopularityScorer(jnp.ones(3)),
      take(np.zeros((1, 1))),
      one,
      one,
      num_items=2,
      item_block=1 << 15,
    )
