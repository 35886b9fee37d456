"""Draws above a target, against scipy.stats and scores compared one by one."""

import numpy as np
import pytest
import scipy.stats

from recjax.data.ragged import Ragged
from recjax.evaluation.ranking import RankedTargets
from recjax.evaluation.sampled_ranks import (
  SampledRanks,
  draw_probabilities,
  sampled_ranks,
)
from recjax.metrics.ranks import Ranks


def seen(above, tied=0, pool=50, num_draws=5, user_id=None):
  above = np.asarray(above)
  fill = lambda value: np.broadcast_to(np.asarray(value), above.shape)
  return SampledRanks(
    above,
    fill(tied),
    fill(pool),
    np.arange(len(above)) if user_id is None else user_id,
    num_draws,
    True,
  )


@pytest.mark.parametrize("with_replacement", [True, False])
def test_probabilities_are_those_of_scipy(with_replacement):
  g, items = np.arange(8)[None, :], np.arange(31)[:, None]
  found = draw_probabilities(
    g, items, 30, num_draws=7, with_replacement=with_replacement
  )
  if with_replacement:
    expected = scipy.stats.binom.pmf(g, 7, items / 30)
  else:
    expected = scipy.stats.hypergeom.pmf(g, 30, items, 7)
  np.testing.assert_allclose(found, expected, atol=1e-12)
  np.testing.assert_allclose(found.sum(1), 1, rtol=1e-10)


@pytest.mark.parametrize("with_replacement", [True, False])
def test_no_more_items_are_above_than_the_pool_has(with_replacement):
  found = draw_probabilities(
    np.array([[0], [3]]),
    np.array([4, 4, 5]),
    np.array([4, 5, 4]),
    num_draws=3,
    with_replacement=with_replacement,
  )
  # 4 of 4 are above, 4 of 5, and 5 of 4, which can not be.
  assert found[:, 0].tolist() == [0, pytest.approx(1)]
  assert 0 < found[1, 1] < 1
  assert found[:, 2].tolist() == [0, 0]


def test_all_draws_of_the_pool_are_its_rank():
  items = np.arange(13)
  found = draw_probabilities(
    items[None, :], items[:, None], 12, num_draws=12, with_replacement=False
  )
  np.testing.assert_allclose(found, np.eye(13), atol=1e-12)


def test_few_pools_are_their_own_bins():
  place, pools = seen([0, 1, 2], pool=[30, 10, 30]).bins()
  assert pools.tolist() == [10, 30] and place.tolist() == [1, 0, 1]


def test_many_pools_are_binned_narrowly():
  pool = np.arange(1000, 3400)
  place, pools = seen(np.zeros(2400, int), pool=pool).bins()
  assert len(pools) < 40
  for number, middle in enumerate(pools):
    inside = pool[place == number]
    assert inside.min() <= middle <= inside.max()
    assert inside.max() / inside.min() < 1.06


def test_cells_settle_ties_evenly():
  # Queries with 1 draw above; 1 above and 2 tied; 3 above.
  bin_of, above, shares = seen([1, 1, 3], tied=[0, 2, 0]).cells()
  assert bin_of.tolist() == [0, 0, 0] and above.tolist() == [1, 2, 3]
  third = 1 / 3
  expected = [[1, 0, 0], [third, third, third], [0, 0, 1]]
  np.testing.assert_allclose(shares.toarray(), expected)


def test_cells_of_several_bins_are_apart():
  bin_of, above, shares = seen([2, 2, 2], pool=[10, 20, 10]).cells()
  assert bin_of.tolist() == [0, 1] and above.tolist() == [2, 2]
  np.testing.assert_allclose(shares.toarray(), [[1, 0], [0, 1], [1, 0]])


def read(scores, target_scores, drawn, ties, targets=None):
  """Counts draws by comparing scores; a copy of the target ties with it."""
  values = scores[drawn]
  mine = np.asarray(target_scores)[:, None]
  num = len(drawn)
  greater = (values > mine).sum(1)[:, None]
  tied = (values == mine).sum(1)[:, None]
  none = np.zeros_like(greater)
  order = np.array([1, 0, *range(2, num)])  # Groups are in no order.
  group = lambda rows: RankedTargets(
    rows,
    Ranks(greater[rows], tied[rows], none[rows], none[rows], none[rows]),
    np.ones((len(rows), 1), bool),
    np.zeros(len(rows), bool),
  )
  targets = np.arange(1, num + 1) if targets is None else targets
  return sampled_ranks(
    [group(order[:2]), group(order[2:])],
    Ragged(np.asarray(targets), np.arange(num + 1)),
    drawn,
    pool_size=np.full(num, 9),
    user_id=np.arange(num) + 40,
    with_replacement=True,
    ties=ties,
  )


@pytest.mark.parametrize(
  "ties,above,tied",
  [
    ("expected", [1, 0, 2], [0, 1, 1]),
    ("optimistic", [1, 0, 2], [0, 0, 0]),
    ("pessimistic", [1, 1, 3], [0, 0, 0]),
  ],
)
def test_draws_are_read_by_the_tie_rule_without_copies(ties, above, tied):
  # Items 1, 2, 3 are the targets; 4 ties with 3, and 1 with itself.
  scores = np.array([0.0, 5.0, 6.0, 2.0, 2.0, 9.0, 6.0])
  drawn = np.array([[1, 5, 4], [6, 2, 3], [4, 5, 1]])
  found = read(scores, scores[1:4], drawn, ties)
  assert found.above.tolist() == above and found.tied.tolist() == tied
  assert found.num_draws == 3 and found.user_id.tolist() == [40, 41, 42]


def test_several_targets_tell_nothing():
  groups: list = []
  targets = Ragged(np.array([1, 2, 3]), np.array([0, 1, 3]))
  found = sampled_ranks(
    groups,
    targets,
    np.ones((2, 4), np.int32),
    pool_size=np.array([5, 5]),
    user_id=np.array([1, 2]),
    with_replacement=True,
    ties="expected",
  )
  assert found is None
