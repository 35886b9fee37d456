"""Regressions of relevance, against scikit-learn and means."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from recjax.data.examples import Examples
from recjax.data.propensities.relevance import (
  LogisticRelevance,
  RelevanceRegressor,
  RelevanceTable,
)
from recjax.errors import ConfigError, DataError

NUM = 400
RNG = np.random.default_rng(0)
USER = RNG.integers(0, 6, NUM) * 1000
ITEM = np.array([f"i{i}" for i in RNG.integers(0, 5, NUM)])
WEIGHT = RNG.uniform(0.0, 2.0, NUM)
TARGET = RNG.random(NUM)
EXAMPLES = Examples.from_table(
  "rows",
  pa.table({"user": USER, "item": ITEM, "label": np.zeros(NUM)}),
)


def test_soft_labels_are_those_of_weighted_rows():
  settings = LogisticRelevance(("user", "item"), l2=0.7, num_steps=200)
  found = settings.open(EXAMPLES).update(TARGET, WEIGHT)
  one_hot = np.concatenate(
    [
      USER[:, None] == np.unique(USER)[None],
      ITEM[:, None] == np.unique(ITEM)[None],
    ],
    axis=1,
  ).astype(float)
  model = LogisticRegression(C=1 / 0.7, tol=1e-10, max_iter=10_000)
  model.fit(
    np.concatenate([one_hot, one_hot]),
    np.repeat([1, 0], NUM),
    np.concatenate([WEIGHT * TARGET, WEIGHT * (1 - TARGET)]),
  )
  expected = model.predict_proba(one_hot)[:, 1]
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_updates_go_on_from_where_they_were():
  whole = LogisticRelevance(num_steps=200).open(EXAMPLES)
  expected = whole.update(TARGET, WEIGHT)
  fit = LogisticRelevance(num_steps=2).open(EXAMPLES)
  errors = [np.abs(fit.update(TARGET, WEIGHT) - expected).max()]
  for _ in range(30):
    errors.append(np.abs(fit.update(TARGET, WEIGHT) - expected).max())
  assert errors[0] > 0.005 and errors[-1] < 0.1 * errors[0]


def test_means_of_rows_that_agree():
  found = RelevanceTable(("user", "item"), 2.0).open(EXAMPLES)
  found = found.update(TARGET, WEIGHT)
  same = (USER == USER[3]) & (ITEM == ITEM[3])
  everywhere = np.average(TARGET, weights=WEIGHT)
  expected = (WEIGHT[same] @ TARGET[same] + 2 * everywhere) / (
    WEIGHT[same].sum() + 2
  )
  np.testing.assert_allclose(found[same], expected)
  assert same.sum() > 1 and len(np.unique(found)) == 30


def test_a_null_is_a_value_of_its_own():
  table = pa.table({"item": ["a", None, "a", None], "label": [0.0] * 4})
  fit = RelevanceTable(("item",), 0).open(Examples.from_table("rows", table))
  found = fit.update(np.array([0.2, 0.5, 0.4, 0.9]), np.ones(4))
  np.testing.assert_allclose(found, [0.3, 0.7, 0.3, 0.7])


def test_bad_settings_are_told():
  for regressor in (LogisticRelevance, RelevanceTable):
    assert isinstance(regressor(), RelevanceRegressor)
    with pytest.raises(ConfigError, match="columns must be a tuple"):
      regressor(())
    with pytest.raises(DataError, match="no column 'itm'"):
      regressor(("itm",)).open(EXAMPLES)
  with pytest.raises(ConfigError, match="l2 must lie"):
    LogisticRelevance(l2=-1)


def test_the_gradient_is_that_of_the_loss():
  fit = LogisticRelevance(l2=0.5).open(EXAMPLES)
  weights = RNG.normal(size=len(fit.weights))
  value, gradient = fit._loss(weights, TARGET, WEIGHT)
  logit = fit._logits(weights)
  p = expit(logit)
  rows = -TARGET * np.log(p) - (1 - TARGET) * np.log(1 - p)
  np.testing.assert_allclose(
    value, WEIGHT @ rows + 0.25 * (weights[1:] @ weights[1:]), rtol=1e-9
  )
  for place in (0, 1, 8):
    moved = weights.copy()
    moved[place] += 1e-5
    slope = (fit._loss(moved, TARGET, WEIGHT)[0] - value) / 1e-5
    np.testing.assert_allclose(gradient[place], slope, rtol=1e-3, atol=1e-3)
