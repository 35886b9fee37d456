"""Means of examples against scikit-learn and formulas written out."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from recjax.errors import ConfigError
from recjax.metrics.classification import (
  entropy,
  log_loss_metric,
  log_losses,
  normalized_entropy_metric,
  rmse_metric,
)


def examples(seed: int = 0, num: int = 300):
  rng = np.random.default_rng(seed)
  logits = rng.normal(-1.0, 2.0, num)
  p = 1 / (1 + np.exp(-logits))
  label = (rng.random(num) < p).astype(np.float64)
  return logits, p, label, rng.random(num) * 3


def test_log_loss_is_that_of_scikit_learn():
  logits, p, label, weight = examples()
  expected = sklearn_metrics.log_loss(label, p, sample_weight=weight)
  assert log_loss_metric(p, label, weight) == pytest.approx(expected, rel=1e-12)
  assert log_loss_metric(
    logits, label, weight, from_logits=True
  ) == pytest.approx(expected, rel=1e-12)
  parts = map(jnp.asarray, (p, label, weight))
  assert float(log_loss_metric(*parts)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_log_loss_is_clipped_as_stated(array):
  p, label = array(np.array([0.0, 1.0])), array(np.array([1.0, 0.0]))
  worst = -math.log(1e-7)
  np.testing.assert_allclose(log_losses(p, label), [worst] * 2, rtol=1e-6)
  np.testing.assert_allclose(
    log_losses(p, label, epsilon=0.01), [-math.log(0.01)] * 2, rtol=1e-6
  )
  # Right answers cost what epsilon leaves.
  best = log_losses(p, 1 - label, epsilon=0.01)
  np.testing.assert_allclose(best, [-math.log(0.99)] * 2, rtol=1e-5)
  logits = array(np.array([-100.0, 100.0]))
  for epsilon in (1e-7, 1e-3):
    np.testing.assert_allclose(
      log_losses(logits, label, from_logits=True, epsilon=epsilon),
      [-math.log(epsilon)] * 2,
      rtol=1e-6,
    )


def test_logits_are_exact_where_float32_probabilities_are_not():
  # sigmoid(15) is 1 - 3.06e-7; in float32 the loss would be off by a tenth.
  logits, label = jnp.array([15.0]), jnp.array([0.0])
  loss = log_loss_metric(logits, label, from_logits=True)
  assert float(loss) == pytest.approx(math.log1p(math.exp(15.0)), rel=1e-6)


def test_normalized_entropy_by_formula():
  _, p, label, weight = examples(1)
  loss = log_loss_metric(p, label, weight)
  rate = (weight * label).sum() / weight.sum()
  bits = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
  actual = normalized_entropy_metric(p, label, weight)
  assert actual == pytest.approx(loss / bits, rel=1e-12)
  # That of the base rate itself is 1.
  constant = np.full(len(p), rate)
  assert normalized_entropy_metric(constant, label, weight) == pytest.approx(1)
  given = normalized_entropy_metric(p, label, weight, base_rate=0.2)
  bits = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
  assert given == pytest.approx(loss / bits, rel=1e-12)


def test_normalized_entropy_of_one_class_is_undefined():
  p, label = np.array([0.3, 0.4]), np.zeros(2)
  assert math.isnan(normalized_entropy_metric(p, label))
  assert not math.isnan(normalized_entropy_metric(p, label, base_rate=0.1))


def test_rmse_is_that_of_scikit_learn():
  rng = np.random.default_rng(2)
  score, label, weight = rng.normal(3, 1, (3, 200)) ** 2
  expected = sklearn_metrics.root_mean_squared_error(
    label, score, sample_weight=weight
  )
  assert rmse_metric(score, label, weight) == pytest.approx(expected)
  logits, p, label, _ = examples(3)
  assert rmse_metric(logits, label, from_logits=True) == pytest.approx(
    np.sqrt(np.mean((p - label) ** 2))
  )


def test_a_million_float32_examples_lose_no_digit():
  rng = np.random.default_rng(4)
  p = rng.random(1_000_000).astype(np.float32)
  label = (rng.random(1_000_000) < p).astype(np.float32)
  exact = float(rmse_metric(p, label))
  actual = float(rmse_metric(jnp.asarray(p), jnp.asarray(label)))
  assert actual == pytest.approx(exact, rel=2e-7)


def test_entropy_at_its_ends():
  assert entropy(0.0) == entropy(1.0) == 0.0
  assert entropy(0.5) == pytest.approx(math.log(2))
  assert math.isnan(entropy(float("nan")))


def test_wrong_options():
  p, label = np.array([0.5]), np.array([1.0])
  with pytest.raises(ConfigError, match="log-loss epsilon must lie in"):
    log_loss_metric(p, label, epsilon=0.0)
  with pytest.raises(ConfigError, match="base_rate must lie in"):
    normalized_entropy_metric(p, label, base_rate=0.0)
