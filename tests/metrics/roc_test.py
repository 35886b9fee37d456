import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from recjax.errors import ConfigError
from recjax.metrics.roc import roc_curve, roc_from_masses
from recjax.metrics.streaming import StreamingAUC


def examples(num: int, digits: int):
  rng = np.random.default_rng(0)
  label = rng.random(num) < 0.3
  score = np.round(rng.normal(size=num) + label, digits).astype(np.float32)
  return score, label, rng.random(num)


def test_curve_is_that_of_scikit_learn():
  score, label, weight = examples(400, 1)
  curve = roc_curve(score, label, weight)
  fpr, tpr, _ = sklearn_metrics.roc_curve(
    label, score, sample_weight=weight, drop_intermediate=False
  )
  np.testing.assert_allclose(curve.false_positive_rate, fpr, atol=1e-12)
  np.testing.assert_allclose(curve.true_positive_rate, tpr, atol=1e-12)
  masked = np.append(weight, 5.0), np.arange(401) < 400
  again = roc_curve(np.append(score, 9.0), np.append(label, False), *masked)
  np.testing.assert_allclose(again.false_positive_rate, fpr, atol=1e-12)


def test_a_long_curve_is_thinned():
  score, label, _ = examples(20_000, 7)
  full = roc_curve(score, label, max_points=10**9)
  thin = roc_curve(score, label, max_points=200)
  assert len(full.true_positive_rate) > 15_000
  assert 150 < len(thin.true_positive_rate) <= 201
  for curve in (full, thin):
    ends = [(rate[0], rate[-1]) for rate in curve]
    assert ends == [(0.0, 1.0), (0.0, 1.0)]
  points = set(zip(*(rate.tolist() for rate in full)))
  assert set(zip(*(rate.tolist() for rate in thin))) <= points
  steps = np.diff(thin.false_positive_rate) + np.diff(thin.true_positive_rate)
  assert steps.max() < 2.5 * 2 / 200


def test_of_a_histogram():
  score, label, _ = examples(500, 1)
  stream = StreamingAUC.init(num_bins=1600, low=-8.0, high=8.0)
  stream = stream.update(jnp.asarray(score), jnp.asarray(label))
  masses = (np.asarray(m.value()) for m in (stream.positive, stream.negative))
  curve, exact = roc_from_masses(*masses), roc_curve(score, label)
  # Empty bins repeat a point.
  keep = np.append(True, np.diff(curve[0]) + np.diff(curve[1]) > 0)
  for rate, expected in zip(curve, exact):
    np.testing.assert_allclose(rate[keep], expected, atol=1e-6)


def test_one_class_has_no_curve():
  for label in (np.zeros(3), np.ones(3)):
    assert all(len(rate) == 0 for rate in roc_curve(np.arange(3.0), label))
  assert all(len(rate) == 0 for rate in roc_curve(np.zeros(0), np.zeros(0)))
  with pytest.raises(ConfigError, match="max_points must lie in"):
    roc_curve(np.arange(2.0), np.arange(2.0), max_points=1)
