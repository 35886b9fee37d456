import pathlib

import numpy as np
import pytest

from recjax.data.prepare import ExampleSource
from recjax.data.sources.planted_positions import PlantedPositions
from recjax.errors import ConfigError

HERE = pathlib.Path()
JUDGED = ("list", "true_relevance", "true_propensity", "relevant", "examined")


@pytest.fixture(scope="module")
def planted():
  return PlantedPositions(8_000, 10, 5, list_len=6, eta=0.8)


@pytest.fixture(scope="module")
def train(planted):
  return planted.read(HERE).train


def test_columns_and_lists(planted, train):
  names = set(train.table.column_names)
  assert names == {"user", "item", "position", "click", *JUDGED}
  assert planted.label_columns == ("click",) and planted.mask_columns == JUDGED
  assert len(train) == 48_000 and train.label == "click"
  positions = train.column("position").reshape(8_000, 6)
  assert np.all(positions == np.arange(1, 7)[None, :])
  for name in ("user", "list"):
    values = train.column(name).reshape(8_000, 6)
    assert np.all(values == values[:, :1])
  np.testing.assert_array_equal(
    np.unique(train.column("list")), np.arange(8000)
  )
  assert planted.files(HERE) == () and isinstance(planted, ExampleSource)


def test_clicks_are_examined_and_relevant(train):
  both = train.column("relevant") * train.column("examined")
  np.testing.assert_array_equal(train.labels, both)


def test_relevance_by_hand_and_its_rate(planted, train):
  weights = planted._weights
  user, item = train.column("user"), train.column("item")
  z = planted.bias + weights["user"][user] + weights["item"][item]
  chance = 1 / (1 + np.exp(-z))
  np.testing.assert_allclose(train.column("true_relevance"), chance, rtol=1e-5)
  np.testing.assert_allclose(planted.logits(train.table), z, rtol=1e-12)
  assert abs(chance.mean() - 0.3) < 0.01
  for rows in np.array_split(np.argsort(chance), 10):
    error = np.sqrt(np.mean(chance[rows] * (1 - chance[rows])) / len(rows))
    drawn = train.column("relevant")[rows].mean()
    assert abs(drawn - chance[rows].mean()) < 4 * error


def test_examination_falls_with_the_position(planted, train):
  position, relevant = train.column("position"), train.column("relevant") == 1
  for k in range(1, 7):
    chance = k**-0.8
    at = position == k
    np.testing.assert_allclose(
      train.column("true_propensity")[at], chance, rtol=1e-6
    )
    for rows, column in ((at, "examined"), (at & relevant, "click")):
      error = np.sqrt(chance * (1 - chance) / rows.sum())
      assert abs(train.column(column)[rows].mean() - chance) <= 4 * error
  np.testing.assert_allclose(planted.propensities[2], 3**-0.8)
  assert np.all(PlantedPositions(1, eta=0).propensities == 1)


@pytest.mark.parametrize("r", [-1, 0, 0.5, 1])
def test_the_rankers_dial(r):
  source = PlantedPositions(
    3_000, 0, 0, list_len=8, num_items=5_000, correlation=r, exploration=0
  )
  weights = source._weights
  measured = np.corrcoef(weights["score"], weights["item"])[0, 1]
  assert abs(measured - r) <= 5 * (1 - r**2) / np.sqrt(5_000) + 1e-9
  train = source.read(HERE).train
  scores = weights["score"][train.column("item")].reshape(-1, 8)
  assert np.all(np.diff(scores, axis=1) <= 0)
  good = weights["item"][train.column("item")].reshape(-1, 8)
  # The mean of the greatest of 8 normal numbers is 1.4236.
  assert abs(good[:, 0].mean() - 1.4236 * r) < 0.1
  assert abs(good[:, -1].mean() + 1.4236 * r) < 0.1


def test_clicks_mislead_by_the_rankers_favourites(planted, train):
  weights = planted._weights
  item = train.column("item")
  shown = np.bincount(item, minlength=500)
  clicks = np.bincount(item, train.labels, 500) / shown
  inverse = train.labels / train.column("true_propensity")
  corrected = np.bincount(item, inverse, 500) / shown
  truth = np.bincount(item, train.column("true_relevance"), 500) / shown
  # What no relevance accounts for, and yet moves clicks.
  favour = weights["score"] - 0.3 * weights["item"] / 1.0
  assert np.corrcoef(clicks - truth, favour)[0, 1] > 0.5
  assert abs(np.corrcoef(corrected - truth, favour)[0, 1]) < 4 / np.sqrt(500)


def test_exploration_moves_items(planted):
  deviations = []
  for noise in (0.0, 2.0):
    source = PlantedPositions(3_000, 0, 0, num_items=50, exploration=noise)
    train = source.read(HERE).train
    item, position = train.column("item"), train.column("position")
    found = [position[item == i].std() for i in range(50)]
    deviations.append(np.mean(found))
  assert deviations[1] > 1.5 * deviations[0]


def test_swaps_are_of_a_share_of_lists():
  options = {"list_len": 6, "num_items": 50}
  plain = PlantedPositions(4_000, 10, 5, **options)
  source = PlantedPositions(4_000, 10, 5, swap_share=0.6, **options)
  train, before = source.read(HERE).train, plain.read(HERE).train
  assert source.mask_columns == (*JUDGED, "swap", "swapped")
  assert not {"swap", "swapped"} & set(before.table.column_names)
  swap, swapped = (
    train.column(name).reshape(-1, 6)[:, 0] for name in ("swap", "swapped")
  )
  assert abs((swap > 0).mean() - 0.6) < 4 * np.sqrt(0.24 / 4_000)
  assert abs(swapped[swap > 0].mean() - 0.5) < 4 * np.sqrt(0.25 / 2_400)
  counts = np.bincount(swap[swap > 0], minlength=7)
  assert np.all(counts[:2] == 0) and np.all(np.abs(counts[2:] - 480) < 90)
  expected = before.column("item").reshape(-1, 6).copy()
  for row in np.flatnonzero(swapped):
    k = swap[row] - 1
    expected[row, [0, k]] = expected[row, [k, 0]]
  np.testing.assert_array_equal(train.column("item").reshape(-1, 6), expected)
  chance = 1 / (1 + np.exp(-source.logits(train.table)))
  np.testing.assert_allclose(train.column("true_relevance"), chance, rtol=1e-5)


def test_rows_without_swaps_are_those_of_before():
  """The fingerprint of the rows when there were no swaps yet."""
  found = PlantedPositions(50, 20, 20, seed=1).read(HERE).fingerprint
  assert found.startswith("81f09429087ea9a6")


def test_the_same_seed_gives_the_same_rows():
  one, two, three = (
    PlantedPositions(50, 20, 20, seed=seed).read(HERE) for seed in (1, 1, 2)
  )
  assert one.fingerprint == two.fingerprint != three.fingerprint
  items = one.validation.column("item"), one.test.column("item")
  assert not np.array_equal(*items)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"correlation": 1.01}, "correlation must lie"),
    ({"eta": -0.5}, "eta must lie"),
    ({"list_len": 0}, "list_len must lie"),
    ({"relevance_rate": 0.0}, "relevance_rate must lie"),
    ({"exploration": -1}, "exploration must lie"),
    ({"swap_share": 1.5}, "swap_share must lie"),
    ({"swap_share": 0.5, "list_len": 1}, "lists of 2 items at least"),
    ({"num_validation": -1}, "num_validation must lie"),
  ],
)
def test_bad_settings(options, message):
  with pytest.raises(ConfigError, match=message):
    PlantedPositions(**options)
