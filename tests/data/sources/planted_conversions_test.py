import pathlib

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from recjax.data.prepare import ExampleSource
from recjax.data.sources.planted_conversions import PlantedConversions
from recjax.data.sources.planted_criteo import expected_auc
from recjax.errors import ConfigError

HERE = pathlib.Path()
COLUMNS = [
  "user",
  "item",
  "context",
  "click",
  "conversion",
  "true_ctr",
  "true_cvr",
  "potential_conversion",
]


@pytest.fixture(scope="module")
def planted():
  return PlantedConversions(60_000, 100, 50, click_rate=0.2)


@pytest.fixture(scope="module")
def train(planted):
  return planted.read(HERE).train


def test_columns(planted, train):
  assert planted.label_columns == ("click", "conversion")
  assert planted.mask_columns == (
    "true_ctr",
    "true_cvr",
    "potential_conversion",
  )
  assert train.table.column_names == COLUMNS and train.label == "click"
  assert len(train) == 60_000
  for field, size in (("user", 1000), ("item", 1000), ("context", 10)):
    ids = train.column(field)
    assert ids.dtype == np.int32 and ids.min() == 0 and ids.max() == size - 1
  # The first item's probability is ln 2 / ln 1001.
  share = np.log(2) / np.log(1001)
  error = np.sqrt(share * (1 - share) / 60_000)
  assert abs((train.column("item") == 0).mean() - share) < 4 * error
  assert planted.files(HERE) == () and isinstance(planted, ExampleSource)


def test_a_conversion_needs_a_click_and_potential(train):
  click, potential = train.labels, train.column("potential_conversion")
  np.testing.assert_array_equal(train.column("conversion"), click * potential)
  assert potential[click == 0].sum() > 0


def test_rates(train):
  for column, rate in (
    ("click", 0.2),
    ("true_ctr", 0.2),
    ("potential_conversion", 0.1),
    ("true_cvr", 0.1),
  ):
    # Both the bias and the rows are drawn.
    assert abs(train.column(column).mean() - rate) < 5 * np.sqrt(0.16 / 60_000)


@pytest.mark.parametrize(
  ("chance", "label"),
  [("true_ctr", "click"), ("true_cvr", "potential_conversion")],
)
def test_labels_follow_their_chances(train, chance, label):
  p, y = train.column(chance).astype(np.float64), train.column(label)
  for rows in np.array_split(np.argsort(p), 10):
    error = np.sqrt(np.mean(p[rows] * (1 - p[rows])) / len(rows))
    assert abs(y[rows].mean() - p[rows].mean()) < 4 * error
  measured = metrics.roc_auc_score(y, p)
  z = special.logit(p)
  assert abs(measured - expected_auc(z, z)) < 0.012


def test_click_and_potential_are_independent_given_the_row(train):
  click, potential = train.labels, train.column("potential_conversion")
  rest = (click - train.column("true_ctr")) * (
    potential - train.column("true_cvr")
  )
  assert abs(rest.mean()) < 4 * rest.std() / np.sqrt(len(rest))


def test_logits_by_hand():
  source = PlantedConversions(40, 5, 5, 6, 7, 3, correlation=0.4, rank=2)
  train = source.read(HERE).train
  weights = source._weights
  logits = source.logits(train.table)
  for row, found in zip(train.table.to_pylist(), logits):
    for task, column in enumerate(("true_ctr", "true_cvr")):
      z = source.biases[task]
      for field in ("user", "item", "context"):
        z += weights[field][task, row[field]]
      taste, traits = weights["p"][task, row["user"]], weights["q"][row["item"]]
      z += sum(a * b for a, b in zip(taste, traits))
      assert abs(z - found[task]) < 1e-9
      assert abs(1 / (1 + np.exp(-z)) - row[column]) < 1e-6


@pytest.mark.parametrize("r", [-1, -0.6, 0.0, 0.6, 1])
def test_the_dial(r):
  source = PlantedConversions(
    40_000, 0, 0, 4000, 4000, 4000, correlation=r, click_rate=0.2
  )
  train = source.read(HERE).train
  for field in ("user", "item", "context"):
    measured = np.corrcoef(source._weights[field])[0, 1]
    assert abs(measured - r) <= 5 * (1 - r**2) / np.sqrt(4000) + 1e-9
  z = source.logits(train.table)
  # The most frequent items' weights count more than others'.
  assert abs(np.corrcoef(z.T)[0, 1] - r) < 0.2 * (1 - r**2) + 1e-6
  np.testing.assert_allclose(z.std(axis=0) ** 2, 4 * 0.7**2, rtol=0.25)
  # Selection bias: what is clicked converts more, or less, than all rows.
  clicked = train.labels == 1
  cvr, potential = train.column("true_cvr"), train.column("conversion")[clicked]
  gap = cvr[clicked].mean() - cvr.mean()
  error = np.sqrt(0.09 / clicked.sum())
  assert abs(potential.mean() - cvr[clicked].mean()) < 5 * error
  assert gap > 0.03 if r > 0 else gap < 0.03
  assert gap < -0.03 if r < 0 else gap > -0.03


def test_the_same_seed_gives_the_same_rows():
  one, two, three = (
    PlantedConversions(200, 100, 100, seed=seed).read(HERE)
    for seed in (1, 1, 2)
  )
  assert one.fingerprint == two.fingerprint != three.fingerprint
  users = one.validation.column("user"), one.test.column("user")
  assert not np.array_equal(*users)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"correlation": -1.5}, "correlation must lie"),
    ({"click_rate": 0.0}, "click_rate must lie"),
    ({"conversion_rate": 1.0}, "conversion_rate must lie"),
    ({"num_items": 0}, "num_items must lie"),
    ({"num_test": -1}, "num_test must lie"),
    ({"stddev": -0.1}, "stddev must lie"),
    ({"rank": 0}, "rank must lie"),
  ],
)
def test_bad_settings(options, message):
  with pytest.raises(ConfigError, match=message):
    PlantedConversions(**options)
