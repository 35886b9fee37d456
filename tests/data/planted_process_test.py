import itertools

import numpy as np
import pytest

from recjax.data.planted_process import PlantedProcess
from recjax.data.ragged import Ragged
from recjax.errors import ConfigError, DataError

TINY = PlantedProcess(
  num_items=7,
  num_clusters=3,
  num_user_types=3,
  zipf_exponent=0.8,
  concentration=2.0,
  type_share=0.6,
  lag_share=0.4,
  noise=0.1,
  seed=3,
)


def ragged(rows) -> Ragged:
  lengths = [len(row) for row in rows]
  values = np.concatenate([np.asarray(row, np.int32) for row in rows])
  return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))


def next_given_type(process, history, kind):
  """p(i | h, z) straight from the formula of the module's docstring."""
  a, b = 0, 0
  for item in history:
    a, b = process.cluster_of_item[item], a
  chance = np.zeros(process.num_items + 1)
  for item in range(1, process.num_items + 1):
    c = process.cluster_of_item[item]
    mixed = (1 - process.lag_share) * process.successors[kind, a, c - 1]
    mixed += process.lag_share * process.lagged_successors[b, c - 1]
    cluster = process.noise / process.num_clusters + (1 - process.noise) * mixed
    if item not in history:
      chance[item] = cluster * process.item_weight[item]
  return chance / chance.sum()


def brute_force(process, history):
  """p(i | h) by summing joint probabilities over the types."""
  joint = np.zeros(process.num_items + 1)
  posterior = np.zeros(process.num_user_types)
  for kind in range(process.num_user_types):
    likelihood = 1 / process.num_user_types
    for step, item in enumerate(history):
      likelihood *= next_given_type(process, history[:step], kind)[item]
    posterior[kind] = likelihood
    joint += likelihood * next_given_type(process, history, kind)
  return joint / joint.sum(), posterior / posterior.sum()


def test_predictive_equals_brute_force_posterior():
  rows = [[], [3], [5, 1], [1, 5], [2, 7, 4], [6, 5, 4, 3, 2, 1]]
  predicted = TINY.predictive(ragged(rows))
  types = TINY.type_posterior(ragged(rows))
  for row, chance, posterior in zip(rows, predicted, types):
    expected, expected_posterior = brute_force(TINY, row)
    np.testing.assert_allclose(chance, expected, rtol=1e-12)
    np.testing.assert_allclose(posterior, expected_posterior, rtol=1e-12)


def test_predictive_is_one_distribution_over_whole_sequences():
  # All orders of all items: the chain rule must give them 1 in all.
  process = PlantedProcess(
    num_items=5, num_clusters=2, num_user_types=2, type_share=0.7, seed=1
  )
  orders = list(itertools.permutations(range(1, 6)))
  total = np.ones(len(orders))
  for step in range(5):
    chance = process.predictive(ragged([order[:step] for order in orders]))
    total *= chance[np.arange(len(orders)), [order[step] for order in orders]]
  np.testing.assert_allclose(total.sum(), 1.0, rtol=1e-12)


def test_predictive_is_the_same_in_blocks(monkeypatch):
  histories = TINY.sample(50, mean_len=4.0, min_len=1)
  histories = histories.take(np.flatnonzero(histories.lengths < 7))
  whole = TINY.predictive(histories)
  monkeypatch.setattr("recjax.data.planted_process._PREDICT_FLOATS", 24)
  np.testing.assert_array_equal(TINY.predictive(histories), whole)


def test_drawn_items_are_as_frequent_as_predicted():
  num = 40_000
  drawn = TINY.sample(num, mean_len=4.0, min_len=4, seed=5)
  assert (drawn.lengths == 4).all()
  rows = drawn.values.reshape(num, 4)
  assert all(len(set(row)) == 4 for row in rows[:500])
  for step in range(4):
    # Every user's own prediction, summed, against what was drawn: the number
    # of draws of an item has at most the variance sum of p (1 - p).
    chance = TINY.predictive(ragged(rows[:, :step]))
    counts = np.bincount(rows[:, step], minlength=8)
    spread = np.sqrt((chance * (1 - chance)).sum(axis=0)) + 1e-9
    assert np.abs((counts - chance.sum(axis=0)) / spread).max() < 4.5
  # And conditionally: among those who began 1, 2 or so, what came third.
  starts, counts = np.unique(rows[:, :2], axis=0, return_counts=True)
  for start in starts[np.argsort(-counts)[:5]]:
    mine = rows[(rows[:, :2] == start).all(axis=1), 2]
    chance = TINY.predictive(ragged([start]))[0]
    got = np.bincount(mine, minlength=8)
    spread = np.sqrt(len(mine) * chance * (1 - chance)) + 1e-9
    assert np.abs((got - len(mine) * chance) / spread).max() < 4.5


def test_items_are_dealt_out_evenly_and_zipf_holds_inside():
  process = PlantedProcess(num_items=23, num_clusters=5, zipf_exponent=1.5)
  assert process.cluster_of_item[0] == 0
  sizes = np.bincount(process.cluster_of_item[1:], minlength=6)
  assert sorted(sizes[1:]) == [4, 4, 5, 5, 5]
  for cluster in range(1, 6):
    members = process.cluster_of_item == cluster
    weights = np.sort(process.item_weight[members])[::-1]
    zipf = np.arange(1, len(weights) + 1) ** -1.5
    np.testing.assert_allclose(weights, zipf / zipf.sum())


def test_a_users_last_item_can_be_the_last_there_is():
  drawn = TINY.sample(300, mean_len=7.0, min_len=7)
  assert all(sorted(drawn[row]) == list(range(1, 8)) for row in range(300))


def test_seeds_decide():
  first = TINY.sample(100, mean_len=4.0, min_len=2, seed=1)
  again = TINY.sample(100, mean_len=4.0, min_len=2, seed=1)
  other = TINY.sample(100, mean_len=4.0, min_len=2, seed=2)
  np.testing.assert_array_equal(first.values, again.values)
  np.testing.assert_array_equal(first.offsets, again.offsets)
  assert first.values.tolist() != other.values.tolist()
  # More users are appended: those there were stay in whole blocks.
  lengths = TINY.sample(10_000, mean_len=5.0, min_len=2).lengths
  assert lengths.min() == 2 and lengths.max() == 7


@pytest.mark.parametrize(
  "settings, text",
  [
    ({"num_items": 0}, "num_items"),
    ({"num_items": 5, "num_clusters": 6}, "num_clusters"),
    ({"type_share": 1.5}, "type_share must lie in"),
    ({"noise": 0.0}, "noise"),
  ],
)
def test_wrong_settings_are_refused(settings, text):
  with pytest.raises(ConfigError, match=text):
    PlantedProcess(**settings)


@pytest.mark.parametrize(
  "row, text",
  [
    ([8], "1..7"),
    ([0, 1], "1..7"),
    ([2, 3, 2], "twice"),
    ([1, 2, 3, 4, 5, 6, 7], "every item"),
  ],
)
def test_foreign_histories_are_refused(row, text):
  with pytest.raises(DataError, match=text):
    TINY.predictive(ragged([row]))
