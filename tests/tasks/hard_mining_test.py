import numpy as np
import pytest

from recjax.data.ragged import Ragged
from recjax.errors import ConfigError, DataError
from recjax.tasks.hard_mining import mine_hard_negatives

NUM_USERS, NUM_ITEMS, DIM = 23, 40, 4
_rng = np.random.default_rng(0)
USERS = _rng.normal(size=(NUM_USERS, DIM)).astype(np.float32)
ITEMS = _rng.normal(size=(NUM_ITEMS + 1, DIM)).astype(np.float32)
# From no training item at all to nearly the whole catalogue, one of them twice.
LENGTHS = _rng.permutation(np.r_[0, 38, 40, _rng.integers(1, 12, 20)])
ROWS = [
  _rng.permutation(NUM_ITEMS)[:length].astype(np.int32) + 1
  for length in LENGTHS
]
ROWS[4] = np.r_[ROWS[4], ROWS[4]]
TRAIN = Ragged(
  np.concatenate(ROWS), np.cumsum([0, *map(len, ROWS)]).astype(np.int64)
)


class Search:
  """Brute force, with a record of what it was asked."""

  def __init__(self):
    self.asked = []

  def __call__(self, queries, k):
    assert 1 <= k <= NUM_ITEMS
    self.asked.append((queries.shape, k))
    scores = queries @ ITEMS[1:].T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), (order + 1).astype(np.int32)


def expected(user, pool, skip_top):
  order = np.argsort(-(ITEMS[1:] @ USERS[user]), kind="stable") + 1
  left = [i for i in order if i not in set(ROWS[user].tolist())]
  left = left[skip_top:][:pool]
  return left + [0] * (pool - len(left))


@pytest.mark.parametrize("pool,skip_top", [(5, 0), (5, 3), (1, 0), (60, 2)])
@pytest.mark.parametrize("block", [1, 4, 1000])
def test_mined_are_the_nearest_that_are_not_in_training(pool, skip_top, block):
  search = Search()
  mined = mine_hard_negatives(
    search,
    USERS,
    TRAIN,
    pool=pool,
    num_items=NUM_ITEMS,
    skip_top=skip_top,
    block=block,
  )
  assert mined.dtype == np.int32 and mined.shape == (NUM_USERS, pool)
  for user in range(NUM_USERS):
    assert mined[user].tolist() == expected(user, pool, skip_top)
  assert len(search.asked) == -(-NUM_USERS // block)


def test_few_shapes_are_asked_for():
  search = Search()
  mine_hard_negatives(
    search, USERS, TRAIN, pool=3, num_items=NUM_ITEMS, block=4
  )
  assert {shape for shape, _ in search.asked} == {(4, DIM)}
  assert {k for _, k in search.asked} <= {4, 8, 16, 32, NUM_ITEMS}
  # Those with few training items do not pay for the one with most of them.
  assert search.asked[0][1] < search.asked[-1][1]


def test_places_that_the_index_leaves_empty_stay_empty():
  def search(queries, k):
    ids = np.zeros((len(queries), k), np.int32)
    ids[:, 0] = 7
    return np.zeros(ids.shape), ids

  none = Ragged(np.zeros(0, np.int32), np.zeros(3, np.int64))
  mined = mine_hard_negatives(
    search, USERS[:2], none, pool=3, num_items=NUM_ITEMS
  )
  assert mined.tolist() == [[7, 0, 0], [7, 0, 0]]


def test_mining_needs_a_vector_for_each_user():
  with pytest.raises(DataError, match="got 3 vectors and the training items"):
    mine_hard_negatives(Search(), USERS[:3], TRAIN, pool=3, num_items=NUM_ITEMS)
  with pytest.raises(ConfigError, match="pool must lie in"):
    mine_hard_negatives(Search(), USERS, TRAIN, pool=0, num_items=NUM_ITEMS)
