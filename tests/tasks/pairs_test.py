import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.ragged import Ragged
from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.errors import ConfigError
from recjax.models.neumf import NeuMF
from recjax.tasks.pairs import Pairs, PairScorer, is_touched
from recjax.tasks.ranking import Ranking

NUM_USERS, NUM_ITEMS = 5, 30
RNG = np.random.default_rng(0)
TOUCHED = [
  np.sort(RNG.choice(NUM_ITEMS, n, replace=False)) + 1 for n in (3, 1, 12, 0, 7)
]
# Out of order on purpose: the constants must sort them.
ITEMS = Ragged(
  np.concatenate([RNG.permutation(x) for x in TOUCHED]).astype(np.int32),
  np.cumsum([0, *map(len, TOUCHED)]),
)
RANKING = Ranking(
  NeuMF(4, (8, 4)),
  Pairs.make_fields(NUM_USERS, NUM_ITEMS),
  tables=(("", TableSettings(init_stddev=0.5)),),
)
TASK = Pairs(RANKING, num_negatives=4)


def constants():
  return jax.tree.map(jnp.asarray, TASK.constants(ITEMS))


def test_touched_items_are_found():
  user = np.repeat(np.arange(1, NUM_USERS + 1), NUM_ITEMS)[:, None]
  item = np.tile(np.arange(1, NUM_ITEMS + 1), NUM_USERS)[:, None]
  found = is_touched(
    jnp.asarray(user, jnp.int32), jnp.asarray(item, jnp.int32), constants()
  )
  expected = [i in TOUCHED[u - 1] for u, i in zip(user[:, 0], item[:, 0])]
  np.testing.assert_array_equal(np.asarray(found)[:, 0], expected)


def test_examples_are_positives_and_untouched_negatives():
  user = jnp.asarray(RNG.integers(1, NUM_USERS + 1, 400), jnp.int32)
  item = jnp.asarray(RNG.integers(1, NUM_ITEMS + 1, 400), jnp.int32)
  where = jnp.arange(400) < 390
  part = {"user_id": user, "item_id": item, "where": where}
  out = jax.tree.map(
    np.asarray, TASK.examples(part, constants(), jax.random.key(0))
  )
  by_row = {name: x.reshape(400, 5) for name, x in out.items()}
  np.testing.assert_array_equal(by_row["user_id"], np.tile(user, (5, 1)).T)
  np.testing.assert_array_equal(by_row["item_id"][:, 0], item)
  np.testing.assert_array_equal(by_row["label"], [[1, 0, 0, 0, 0]] * 400)
  np.testing.assert_array_equal(by_row["where"], np.tile(where, (5, 1)).T)
  negative = by_row["item_id"][:, 1:]
  assert negative.min() >= 1 and negative.max() <= NUM_ITEMS
  taken = [
    np.isin(negative[row], TOUCHED[user[row] - 1]).mean() for row in range(400)
  ]
  # By the formula at most (12 / 30)^4 = .026 for the busiest user.
  assert np.mean(taken) < 0.026
  # All other items are drawn alike: the mean share of each is 1 / 18.
  busy = negative[np.asarray(user) == 3].ravel()
  free = np.setdiff1d(np.arange(1, NUM_ITEMS + 1), TOUCHED[2])
  counts = np.bincount(busy, minlength=NUM_ITEMS + 1)[free]
  expected = counts.sum() / len(free)
  assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_loss_is_the_binary_cross_entropy_of_the_scores():
  params, variables = RANKING.init(jax.random.key(1))
  examples = {
    "user_id": jnp.array([1, 2, 3], jnp.int32),
    "item_id": jnp.array([4, 5, 6], jnp.int32),
    "label": jnp.array([1.0, 0.0, 1.0]),
    "where": jnp.array([True, True, False]),
  }
  total, (weight, _) = TASK.loss(
    params, {}, variables, examples, {}, jax.random.key(2)
  )
  scorer = PairScorer(params, RANKING)
  logit = np.asarray(
    scorer.candidate_scores(examples["user_id"], examples["item_id"][:, None])
  )[:, 0].astype(np.float64)
  chance = 1 / (1 + np.exp(-logit))
  expected = -np.log(chance[0]) - np.log(1 - chance[1])
  np.testing.assert_allclose(total, expected, rtol=1e-6)
  assert weight == 2.0


def test_the_catalogue_and_candidates_are_scored_alike():
  params, _ = RANKING.init(jax.random.key(1))
  scorer = PairScorer(params, RANKING)
  users = jnp.array([2, 5], jnp.int32)
  items = jnp.array([3, 1, 30], jnp.int32)
  scores = scorer.scores(users, items)
  own = scorer.candidate_scores(users, jnp.tile(items, (2, 1)))
  np.testing.assert_allclose(scores, own, rtol=1e-6)
  table = np.asarray(params["tables"]["gmf"])
  assert scores.shape == (2, 3) and table.shape[0] % 128 == 0


def test_other_fields_are_refused():
  fields = (CategoricalField("item_id", 4), CategoricalField("user_id", 4))
  with pytest.raises(ConfigError, match="must be 'user_id' and 'item_id'"):
    Pairs(Ranking(NeuMF(), fields))
  with pytest.raises(ConfigError, match="num_negatives must lie in"):
    Pairs(RANKING, num_negatives=0)
