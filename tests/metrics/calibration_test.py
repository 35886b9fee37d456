"""Calibration against loops over bins, and scikit-learn's curve."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from recjax.errors import ConfigError
from recjax.metrics.calibration import (
  BINNINGS,
  bin_index,
  calibration_error,
  expected_calibration_error_metric,
  reliability_curve,
)

ARRAYS = [np.asarray, jnp.asarray]
OPTIONS = ("num_bins", "binning", "from_logits")
compiled_curve = jax.jit(reliability_curve, static_argnames=OPTIONS)


def examples(seed: int = 0, num: int = 500):
  rng = np.random.default_rng(seed)
  logits = rng.normal(-1.0, 1.5, num).astype(np.float32)
  p = (1 / (1 + np.exp(-logits))).astype(np.float32)
  label = rng.random(num) < p**1.5
  return p, label, rng.random(num).astype(np.float32) * 2


def by_loop(p, label, weight, bins, num_bins):
  """Rows of (weight, prediction, label, effective number), and the ECE."""
  rows, ece = [], 0.0
  for b in range(num_bins):
    inside = bins == b
    w = weight[inside].astype(np.float64)
    if not w.sum():
      rows.append((0, 0, 0, 0))
      continue
    predicted = (w * p[inside]).sum() / w.sum()
    observed = (w * label[inside]).sum() / w.sum()
    rows.append((w.sum(), predicted, observed, w.sum() ** 2 / (w**2).sum()))
    ece += w.sum() / weight.sum() * abs(predicted - observed)
  return np.array(rows), ece


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("binning", BINNINGS)
def test_bins_by_loop(array, binning):
  p, label, weight = examples()
  weight[:30] = 0.0
  if binning == "equal_width":
    bins = np.minimum((p.astype(np.float64) * 10).astype(int), 9)
  else:
    less = np.array([weight[p < x].sum(dtype=np.float64) for x in p])
    ties = np.array([weight[p == x].sum(dtype=np.float64) for x in p])
    place = 10 * (less + ties / 2) / weight.sum(dtype=np.float64)
    bins = np.minimum(place.astype(int), 9)
  rows, ece = by_loop(p, label, weight, bins, 10)
  options = {"num_bins": 10, "binning": binning}
  curve = reliability_curve if array is np.asarray else compiled_curve
  found = curve(*map(array, (p, label, weight)), **options)
  actual = np.stack(
    [found.weight, found.prediction, found.label, found.num_effective], 1
  )
  np.testing.assert_allclose(actual, rows, rtol=2e-5)
  value = expected_calibration_error_metric(p, label, weight, **options)
  assert value == pytest.approx(ece, rel=1e-6)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_curve_is_that_of_scikit_learn(strategy):
  p, label, _ = examples(1)
  expected = calibration_curve(label, p, n_bins=10, strategy=strategy)
  binning = {"uniform": "equal_width", "quantile": "equal_mass"}[strategy]
  found = reliability_curve(p, label, num_bins=10, binning=binning)
  used = found.weight > 0
  np.testing.assert_allclose(found.label[used], expected[0], rtol=1e-6)
  np.testing.assert_allclose(found.prediction[used], expected[1], rtol=1e-6)


def test_equal_mass_cuts_the_sorted_list():
  p, label, _ = examples(2, 60)
  assert len(set(p.tolist())) == 60
  found = reliability_curve(p, label, num_bins=6, binning="equal_mass")
  parts = np.array_split(np.sort(p).astype(np.float64), 6)
  np.testing.assert_allclose(found.weight, [10] * 6)
  np.testing.assert_allclose(found.prediction, [x.mean() for x in parts])
  np.testing.assert_allclose(found.low, [x[0] for x in parts])
  np.testing.assert_allclose(found.high, [x[-1] for x in parts])


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("binning", BINNINGS)
def test_equal_predictions_share_a_bin(array, binning):
  p = array(np.full(8, 0.3, np.float32))
  label = array(np.array([1, 0, 0, 0, 1, 0, 0, 0]))
  function = reliability_curve if array is np.asarray else compiled_curve
  curve = function(p, label, num_bins=5, binning=binning)
  assert sorted(np.asarray(curve.weight)) == [0, 0, 0, 0, 8]
  assert float(calibration_error(curve)) == pytest.approx(0.3 - 0.25)


@pytest.mark.parametrize("array", ARRAYS)
def test_edges(array):
  p = array(np.array([0.0, 0.2, 0.5, 1.0], np.float32))
  ones = array(np.ones(4, np.float32))
  index = bin_index(p, ones, num_bins=4, binning="equal_width")
  np.testing.assert_array_equal(index, [0, 0, 2, 3])
  curve = reliability_curve(p, ones, num_bins=4)
  np.testing.assert_allclose(curve.low, [0, 0.25, 0.5, 0.75])
  np.testing.assert_allclose(curve.high, [0.25, 0.5, 0.75, 1])


def test_logits():
  rng = np.random.default_rng(3)
  logits = rng.normal(size=200)
  label = rng.random(200) < 0.4
  p = 1 / (1 + np.exp(-logits))
  assert expected_calibration_error_metric(
    logits, label, from_logits=True
  ) == pytest.approx(expected_calibration_error_metric(p, label))


def test_a_calibrated_model_shows_the_noise_that_is_documented():
  rng = np.random.default_rng(4)
  errors = []
  for _ in range(200):
    p = rng.random(1500)
    label = rng.random(1500) < p
    errors.append(
      expected_calibration_error_metric(
        p, label, num_bins=15, binning="equal_mass"
      )
    )
  # The mean of p (1 - p) is 1/6; by Jensen the formula is an upper bound.
  bound = math.sqrt(2 * 15 / 6 / (math.pi * 1500))
  assert 0.85 * bound < np.mean(errors) < 1.01 * bound


def test_nan_is_not_hidden():
  p, label = np.array([0.5, np.nan]), np.array([1, 0])
  for binning in BINNINGS:
    value = expected_calibration_error_metric(p, label, binning=binning)
    assert math.isnan(value)


def test_wrong_options():
  p, label = np.array([0.5]), np.array([1])
  with pytest.raises(ConfigError, match="Did you mean 'equal_mass'"):
    reliability_curve(p, label, binning="equal_mas")
  with pytest.raises(ConfigError, match="num_bins must lie in"):
    reliability_curve(p, label, num_bins=0)
