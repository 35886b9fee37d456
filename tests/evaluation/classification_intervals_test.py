"""Intervals against the plain bootstrap, and against the truth."""

import math

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.evaluation import classification_intervals as intervals
from recjax.metrics import auc, calibration, classification


def examples(num: int, seed: int = 0, weighted: bool = True):
  rng = np.random.default_rng(seed)
  logits = rng.normal(-1.0, 1.5, num)
  p = 1 / (1 + np.exp(-logits))
  label = (rng.random(num) < p).astype(float)
  weight = rng.gamma(2.0, size=num) if weighted else np.ones(num)
  return p, label, weight


def plain_bootstrap(metric, parts, num_resamples=400):
  """2.5% and 97.5% quantiles over draws of the examples."""
  rng = np.random.default_rng(1)
  num = len(parts[0])
  draws = []
  for _ in range(num_resamples):
    rows = rng.integers(0, num, num)
    draws.append(metric(*(part[rows] for part in parts)))
  return np.quantile(draws, (0.025, 0.975))


def means(p, label, weight, **options):
  loss = classification.log_losses(p, label)
  square = (p - label) ** 2
  return intervals.mean_intervals(loss, square, label, weight, **options)


def assert_close(actual, expected, share):
  """Both ends agree to a share of the width of the interval."""
  width = expected[1] - expected[0]
  np.testing.assert_allclose(actual, expected, atol=share * width, rtol=0)


def test_delong_agrees_with_the_bootstrap():
  parts = examples(2500)
  found = intervals.auc_interval(*parts)
  assert_close(found, plain_bootstrap(auc.auc_metric, parts), 0.12)


def test_delong_interval_is_cut_to_the_unit_interval():
  score, label = np.arange(6.0), np.array([0, 0, 0, 1, 0, 1.0])
  low, high = intervals.auc_interval(score, label, np.ones(6))
  assert 0 < low < 7 / 8 and high == 1.0
  unknown = intervals.auc_interval(score, np.zeros(6), np.ones(6))
  assert all(map(math.isnan, unknown))


@pytest.mark.parametrize(
  ("name", "metric"),
  [
    ("log_loss", classification.log_loss_metric),
    ("normalized_entropy", classification.normalized_entropy_metric),
    ("rmse", classification.rmse_metric),
  ],
)
def test_blocks_agree_with_the_plain_bootstrap(name, metric):
  parts = examples(6000, seed=2)
  assert len(set(intervals.block_index(6000))) == intervals.MAX_BLOCKS
  found = means(*parts)[name]
  assert_close(found, plain_bootstrap(metric, parts), 0.15)


def test_few_examples_are_not_dealt_to_blocks():
  np.testing.assert_array_equal(intervals.block_index(5), np.arange(5))
  blocks = intervals.block_index(10 * intervals.MAX_BLOCKS)
  assert set(np.bincount(blocks)) == {10}
  assert len(set(blocks[:50])) > 40


def test_the_rate_of_the_entropy_may_be_given():
  parts = examples(500, seed=3)
  drawn, given = means(*parts), means(*parts, base_rate=0.3)
  entropy = float(classification.entropy(0.3))
  assert given["normalized_entropy"] == pytest.approx(
    [end / entropy for end in given["log_loss"]]
  )
  assert drawn["normalized_entropy"] != given["normalized_entropy"]


def test_intervals_cover_the_truth():
  def entropy_of(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)

  rng = np.random.default_rng(4)
  p_all = 1 / (1 + np.exp(-rng.normal(-1.0, 1.5, 200_000)))
  truth = {
    "log_loss": entropy_of(p_all).mean(),
    "rmse": math.sqrt((p_all * (1 - p_all)).mean()),
  }
  inside = dict.fromkeys(truth, 0)
  for seed in range(120):
    found = means(*examples(300, seed=seed, weighted=False))
    for name, value in truth.items():
      inside[name] += found[name][0] <= value <= found[name][1]
  # 95% of 120 is 114; three standard deviations of that count below.
  assert min(inside.values()) >= 106


def test_auc_intervals_cover_the_truth():
  big = examples(200_000, seed=5, weighted=False)
  truth = auc.auc_metric(*big)
  inside = 0
  for seed in range(200):
    low, high = intervals.auc_interval(
      *examples(300, seed=seed + 10, weighted=False)
    )
    inside += low <= truth <= high
  assert 180 <= inside <= 199


@pytest.mark.parametrize("binning", calibration.BINNINGS)
def test_calibration_error(binning):
  p, label, weight = examples(6000, seed=6)
  p = p**1.3  # Not calibrated.
  options = {"num_bins": 10, "binning": binning}
  value = calibration.expected_calibration_error_metric(
    p, label, weight, **options
  )
  low, high = intervals.ece_interval(p, label, weight, **options)
  assert 0 < low < value < high < 1
  metric = lambda *parts: calibration.expected_calibration_error_metric(
    *parts, **options
  )
  ends = plain_bootstrap(metric, (p, label, weight))
  assert high - low == pytest.approx(ends[1] - ends[0], rel=0.2)


def test_calibration_error_of_a_calibrated_model():
  # Plain percentiles would lie above the value.
  p, label, weight = examples(2000, seed=7, weighted=False)
  options = {"num_bins": 15, "binning": "equal_mass"}
  value = calibration.expected_calibration_error_metric(p, label, **options)
  low, high = intervals.ece_interval(p, label, weight, **options)
  assert 0 <= low < value < high


def test_grouped_auc_draws_groups():
  rng = np.random.default_rng(8)
  group = np.repeat(np.arange(300), 20)
  ease = np.repeat(rng.normal(1.0, 1.0, 300), 20)
  label = rng.random(6000) < 0.4
  score = rng.normal(size=6000) + ease * label
  label[group == 0] = True  # A group of one class has no part.
  groups = auc.group_aucs(score, label, group)
  found = intervals.grouped_auc_interval(groups)
  values = groups.auc[groups.counted]
  assert len(values) == 299
  half = 1.96 * values.std() / math.sqrt(299)
  assert_close(found, (values.mean() - half, values.mean() + half), 0.1)
  # Draws of examples would not see how much groups differ.
  low, high = intervals.auc_interval(score, label * 1.0, np.ones(6000))
  assert high - low < 0.7 * (found[1] - found[0])


def test_nothing_to_draw():
  groups = auc.group_aucs(np.arange(3.0), np.zeros(3), np.zeros(3, int))
  assert all(map(math.isnan, intervals.grouped_auc_interval(groups)))
  found = means(np.array([0.2]), np.array([0.0]), np.ones(1))
  assert all(map(math.isnan, found["normalized_entropy"]))
  assert found["log_loss"] == pytest.approx((-math.log(0.8),) * 2)


def test_draws_follow_the_seed():
  sums = np.random.default_rng(9).random((2, 30))
  one = intervals.resample(sums, num_resamples=5)
  np.testing.assert_array_equal(one, intervals.resample(sums, num_resamples=5))
  other = intervals.resample(sums, num_resamples=5, seed=1)
  assert one.shape == (2, 5) and not np.array_equal(one, other)
  with pytest.raises(ConfigError, match="num_resamples must lie in"):
    intervals.resample(sums, num_resamples=0)
