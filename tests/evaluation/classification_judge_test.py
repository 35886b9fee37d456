"""A judge asks each metric with the options of its protocol."""

import numpy as np
import pytest

from recjax.evaluation.classification_judge import Judge, Rows
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.metrics import auc, calibration, classification

ALL = ("auc", "gauc@user", "log_loss", "normalized_entropy", "ece", "rmse")


@pytest.fixture
def rows():
  rng = np.random.default_rng(0)
  score = rng.normal(-0.5, 2.0, 400)
  label = (rng.random(400) < 1 / (1 + np.exp(-score))).astype(float)
  weight = rng.random(400) + 0.5
  return Rows(score, label, weight, {"user": rng.integers(0, 20, 400)})


def test_options_of_the_protocol_reach_the_metrics(rows):
  protocol = ClassificationProtocol(
    metrics=ALL,
    log_loss_epsilon=0.05,
    entropy_rate="training",
    ece_bins=7,
    ece_binning="equal_mass",
    group_weight="clicks",
  )
  judge = Judge(protocol, from_logits=True, base_rate=0.3)
  data, logits = (rows.score, rows.label, rows.weight), {"from_logits": True}
  assert judge.metrics(rows) == {
    "auc": auc.auc_metric(*data),
    "gauc@user": auc.grouped_auc_metric(
      rows.score,
      rows.label,
      rows.groups["user"],
      rows.weight,
      average="clicks",
    ).value,
    "log_loss": classification.log_loss_metric(*data, **logits, epsilon=0.05),
    "normalized_entropy": classification.normalized_entropy_metric(
      *data, **logits, epsilon=0.05, base_rate=0.3
    ),
    "ece": calibration.expected_calibration_error_metric(
      *data, **logits, num_bins=7, binning="equal_mass"
    ),
    "rmse": classification.rmse_metric(*data, **logits),
  }
  assert len(judge.curve(rows).weight) == 7


def test_an_interval_for_each_metric_around_its_value(rows):
  judge = Judge(ClassificationProtocol(metrics=ALL), from_logits=True)
  values, intervals = judge.metrics(rows), judge.intervals(rows)
  assert list(values) == list(intervals) == list(ALL)
  for name, (low, high) in intervals.items():
    assert low < values[name] < high, name
  other = Judge(ClassificationProtocol(metrics=ALL), from_logits=True, seed=1)
  assert other.intervals(rows)["log_loss"] != intervals["log_loss"]
  # DeLong's does not draw.
  assert other.intervals(rows)["auc"] == intervals["auc"]


def test_take(rows):
  part = rows.take(np.array([3, 1]))
  assert len(part) == 2
  np.testing.assert_array_equal(part.score, rows.score[[3, 1]])
  np.testing.assert_array_equal(
    part.groups["user"], rows.groups["user"][[3, 1]]
  )
  mask = rows.label > 0
  assert len(rows.take(mask)) == mask.sum()
