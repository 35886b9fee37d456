"""Regression EM: the steps by hand, the likelihood, and the planted truth."""

import pathlib

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.examples import Examples
from recjax.data.propensities.positions import shown_rows
from recjax.data.propensities.regression_em import RegressionEM
from recjax.data.propensities.relevance import LogisticRelevance, RelevanceTable
from recjax.data.sources.planted_positions import PlantedPositions
from recjax.errors import ConfigError

TABLE = RelevanceTable(("item",), 0.0)


def read(**options):
  source = PlantedPositions(num_validation=0, num_test=0, **options)
  return source.read(pathlib.Path()).train


def rows_of(examples, num_positions):
  return shown_rows(
    examples, label="click", column="position", num_positions=num_positions
  )


def test_the_steps_by_hand():
  position = np.array([1, 1, 2, 2, 1, 2])
  item = np.array([0, 0, 0, 1, 1, 1])
  click = np.array([1, 0, 1, 0, 1, 0])
  table = pa.table({"position": position, "item": item, "click": click})
  rows = rows_of(Examples.from_table("rows", table, label="click"), 2)
  steps = RegressionEM(TABLE).steps(rows)
  p = np.array([1.0, (1 / 3) / (2 / 3)])
  g = np.where(item == 0, 0.5, 1.0)  # Of position 1 alone.
  for _ in range(4):
    examined, relevant = np.ones(6), np.ones(6)
    for i in range(6):
      if not click[i]:
        k = p[position[i] - 1]
        none = max(1 - k * g[i], 1e-12)
        examined[i] = k * (1 - g[i]) / none
        relevant[i] = (1 - k) * g[i] / none
    p = np.array([examined[position == k].mean() for k in (1, 2)])
    g = np.array([relevant[item == j].mean() for j in item])
    curve, relevance = next(steps)
    np.testing.assert_allclose(curve, p)
    np.testing.assert_allclose(relevance, g)


def test_no_step_makes_the_clicks_less_likely():
  rows = rows_of(read(num_train=1_500, num_items=40, list_len=5), 5)
  likelihoods = []
  for step, (curve, relevance) in enumerate(RegressionEM(TABLE).steps(rows)):
    chance = curve[rows.position - 1] * relevance
    chance = np.clip(chance, 1e-12, 1 - 1e-12)
    seen = np.where(rows.click == 1, chance, 1 - chance)
    likelihoods.append(np.log(seen).sum())
    if step == 25:
      break
  assert np.all(np.diff(likelihoods) > -1e-6)
  assert likelihoods[-1] > likelihoods[0] + 1


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_planted_propensities_without_swaps(eta):
  train = read(
    num_train=8_000,
    list_len=5,
    num_users=100,
    num_items=100,
    eta=eta,
    correlation=0.8,
  )
  rows = rows_of(train, 5)
  truth = np.arange(1, 6) ** -eta
  regressor = LogisticRelevance(("user", "item"))
  found = RegressionEM(regressor).estimate(rows)
  shown = rows.by_position(np.ones_like(rows.click))
  rates = rows.by_position(rows.click) / shown
  assert found.values[0] == 1.0 and found.stderr is None
  assert np.abs(found.values - truth).max() < 0.04
  assert np.abs(rates / rates[0] - truth).max() > 0.08


def test_an_end_that_is_not_reached_is_told(caplog):
  rows = rows_of(read(num_train=300, num_items=20, list_len=3), 3)
  RegressionEM(TABLE, num_steps=2, tolerance=1e-9).estimate(rows)
  assert "after 2 steps a propensity still moved" in caplog.text


def test_bad_settings_are_told():
  with pytest.raises(ConfigError, match="must be a regression such as"):
    RegressionEM(regressor=3)
  with pytest.raises(ConfigError, match="num_steps must lie"):
    RegressionEM(num_steps=0)
