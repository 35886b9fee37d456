import numpy as np
import pytest

from recjax.data.cold_items import ColdItems
from recjax.data.eval_set import make_eval_set
from recjax.data.interactions import Interactions
from recjax.data.sources.movielens import MovieLens100K
from recjax.errors import ConfigError, DataError


@pytest.fixture
def data():
  # 40 items; item i has i events, so that those up to 4 are rare.
  rng = np.random.default_rng(0)
  item_id = np.repeat(np.arange(1, 41), np.arange(1, 41))
  return Interactions.from_columns(
    "toy",
    {"user_id": rng.integers(1, 30, len(item_id)), "item_id": item_id},
  )


def items_of(data, rows):
  return set(data.item_id[rows].tolist())


def test_items_are_held_out_whole(data):
  split = ColdItems(test=0.25, validation=0.1)(data)
  train, validation, test = (
    items_of(data, rows) for rows in (split.train, split.validation, split.test)
  )
  assert (len(test), len(validation), len(train)) == (10, 4, 26)
  assert not (train & validation or train & test or validation & test)
  total = len(split.train) + len(split.validation) + len(split.test)
  assert total == len(data)
  assert split.name == (
    "cold_items(validation=0.1, test=0.25, min_events=1, seed=0)"
  )
  cold = split.leakage.finding("cold_items", "test")
  assert cold.count == cold.total == len(split.test)


def test_rare_items_are_never_held_out(data):
  for seed in range(20):
    split = ColdItems(test=0.5, validation=0.4, min_events=5, seed=seed)(data)
    train = items_of(data, split.train)
    assert {1, 2, 3, 4} <= train
    # 36 items have 5 events: 18 for test, 14 for validation, 4 are left.
    assert len(items_of(data, split.test)) == 18 and len(train) == 8


def test_the_seed_draws_and_validation_does_not(data):
  test = lambda **options: items_of(data, ColdItems(**options)(data).test)
  assert test() == test(validation=0.3) == test(validation=0.0)
  assert test(seed=1) != test()
  assert len(ColdItems(validation=0.0)(data).validation) == 0
  # Over many seeds every item has its turn.
  assert set().union(*(test(seed=seed) for seed in range(150))) == set(
    range(1, 41)
  )


def test_histories(data):
  split = ColdItems(test=0.2, validation=0.2)(data)
  users = make_eval_set(data, split, "test")
  known = items_of(data, split.train) | items_of(data, split.validation)
  assert set(users.history.values.tolist()) <= known
  assert set(users.targets.values.tolist()) == items_of(data, split.test)


def test_wrong_settings(data):
  with pytest.raises(ConfigError, match="test must be above 0 and"):
    ColdItems(test=0.0)
  with pytest.raises(ConfigError, match="below 1; got 0.7 and 0.3"):
    ColdItems(test=0.7, validation=0.3)
  with pytest.raises(ConfigError, match="ColdItems.min_events must lie in"):
    ColdItems(min_events=0)
  with pytest.raises(DataError, match="has 99 events; .* has 40"):
    ColdItems(min_events=99)(data)
  with pytest.raises(DataError, match="test set of 'toy' is empty"):
    ColdItems(test=0.001)(data)


def test_movielens(data_dir):
  data = MovieLens100K().read(data_dir)
  split = ColdItems()(data)
  assert len(items_of(data, split.test)) == 168
  assert len(items_of(data, split.validation)) == 84
