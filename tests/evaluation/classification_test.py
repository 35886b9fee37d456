"""Evaluation of examples against scikit-learn, with all that can go wrong."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from recjax.errors import ConfigError, DataError
from recjax.evaluation.classification import cold_warm, evaluate_examples
from recjax.evaluation.classification_protocol import (
  ClassificationProtocol,
  bars_protocol,
)

PROTOCOL = ClassificationProtocol()


def examples(num: int = 600, seed: int = 0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(-1.0, 1.5, num).astype(np.float32)
  label = (rng.random(num) < 1 / (1 + np.exp(-logits))).astype(np.float32)
  return logits, label, (rng.random(num) * 2).astype(np.float32)


def sigmoid(logits):
  return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def expected_of(logits, label, weight=None):
  p = sigmoid(logits)
  return {
    "auc": sklearn_metrics.roc_auc_score(label, logits, sample_weight=weight),
    "log_loss": sklearn_metrics.log_loss(label, p, sample_weight=weight),
  }


def test_metrics_are_those_of_scikit_learn():
  logits, label, weight = examples()
  result = evaluate_examples(
    logits, label, weight, protocol=PROTOCOL, from_logits=True
  )
  for name, value in expected_of(logits, label, weight).items():
    assert result.metrics[name] == pytest.approx(value, rel=1e-12)
    low, high = result.intervals[name]
    assert low < value < high
  assert list(result.metrics) == list(PROTOCOL.metrics)
  assert result.num_examples == 600
  assert result.num_positives == label.sum()
  assert result.weight_sum == pytest.approx(weight.sum(dtype=np.float64))
  assert result.protocol == PROTOCOL and result.notes == ()
  assert result.floor == {} == result.slices
  assert sum(result.reliability.weight) == pytest.approx(result.weight_sum)
  area = np.trapezoid(result.roc[1], result.roc[0])
  assert area == pytest.approx(result.metrics["auc"], abs=1e-4)
  json.dumps([result.metrics, result.intervals])


def test_probabilities_and_protocols_without_weights():
  logits, label, weight = examples(seed=1)
  result = evaluate_examples(
    sigmoid(logits), label, weight, protocol=bars_protocol(), intervals=False
  )
  assert result.metrics == pytest.approx(expected_of(logits, label))
  assert result.intervals == {} and result.weight_sum == 600


def test_batches_lose_their_padding():
  logits, label, _ = examples(250, seed=2)
  padded = np.concatenate([logits, np.full(6, np.nan, np.float32)])
  where = np.arange(256) < 250

  def batches():
    for start in range(0, 256, 64):
      stop = slice(start, start + 64)
      yield jnp.asarray(padded[stop]), jnp.asarray(where[stop])

  options = {"protocol": bars_protocol(), "from_logits": True}
  result = evaluate_examples(batches(), label, **options)
  assert result.metrics == pytest.approx(expected_of(logits, label))
  again = evaluate_examples(
    jnp.asarray(padded), np.append(label, np.ones(6)), where=where, **options
  )
  assert again.metrics == result.metrics
  plain = evaluate_examples([logits[:100], logits[100:]], label, **options)
  assert plain.metrics == result.metrics


def test_floor_is_the_training_rate():
  logits, label, _ = examples(seed=3)
  result = evaluate_examples(
    logits, label, protocol=PROTOCOL, from_logits=True, base_rate=0.25
  )
  rate = label.mean(dtype=np.float64)
  loss = -rate * math.log(0.25) - (1 - rate) * math.log(0.75)
  entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
  assert result.floor == pytest.approx(
    {
      "auc": 0.5,
      "log_loss": loss,
      "normalized_entropy": loss / entropy,
      "ece": abs(rate - 0.25),
    }
  )


def test_slices_are_evaluations_of_their_parts():
  logits, label, weight = examples(seed=4)
  rng = np.random.default_rng(4)
  device = np.array(["phone", "tablet", "tv"])[rng.integers(0, 3, 600) // 2]
  result = evaluate_examples(
    logits,
    label,
    weight,
    protocol=PROTOCOL,
    from_logits=True,
    slices={"device": device, "hour": rng.integers(0, 24, 600)},
    max_slice_values=4,
  )
  parts = {part.value: part for part in result.slices["device"]}
  sizes = [part.num_examples for part in result.slices["device"]]
  assert set(parts) == set(device) and sizes == sorted(sizes, reverse=True)
  for value, part in parts.items():
    rows = device == value
    alone = evaluate_examples(
      logits[rows],
      label[rows],
      weight[rows],
      protocol=PROTOCOL,
      from_logits=True,
    )
    assert part.metrics == pytest.approx(alone.metrics, rel=1e-12)
    assert part.intervals == alone.intervals
    assert part.num_positives == label[rows].sum()
  hours = result.slices["hour"]
  assert [part.value for part in hours[4:]] == ["other (20 values)"]
  assert sum(part.num_examples for part in hours) == 600


def test_slices_of_one_class_are_undefined_and_told():
  logits, label, _ = examples(seed=5)
  part = np.array(["a", "b", "c"])[np.arange(600) % 3]
  label = np.where(part == "b", 0, label)
  protocol = ClassificationProtocol(metrics=("auc", "log_loss", "gauc@user"))
  result = evaluate_examples(
    logits,
    label,
    protocol=protocol,
    from_logits=True,
    groups={"user": np.arange(600) % 7},
    slices={"part": part},
  )
  found = {each.value: each.metrics for each in result.slices["part"]}
  assert np.isnan(found["b"]["auc"]) and np.isnan(found["b"]["gauc@user"])
  assert np.isfinite([found["b"]["log_loss"], found["a"]["auc"]]).all()
  assert result.notes == (
    "auc is undefined in 1 of 3 slices by 'part', whose labels are all alike.",
    "gauc@user is undefined in 1 of 3 slices by 'part', where no group holds"
    " both classes.",
  )


def test_cold_and_warm():
  counts = np.array([0, 5, 0, 1, 9])
  ids = np.array([1, 2, 3, 4, 7])
  assert list(cold_warm(ids, counts)) == [
    "warm", "cold", "warm", "warm", "cold",
  ]  # fmt: skip
  assert list(cold_warm(ids, counts, min_count=5)) == [
    "warm", "cold", "cold", "warm", "cold",
  ]  # fmt: skip
  with pytest.raises(DataError, match="must not be negative; got -1"):
    cold_warm(np.array([-1]), counts)
  logits, label, _ = examples(300)
  result = evaluate_examples(
    logits,
    label,
    protocol=bars_protocol(),
    from_logits=True,
    slices={"item": cold_warm(np.arange(300) % 5, counts)},
  )
  sizes = {part.value: part.num_examples for part in result.slices["item"]}
  assert sizes == {"warm": 180, "cold": 120}


def test_groups_may_be_texts_and_what_they_leave_out_is_said():
  logits, label, _ = examples(seed=5)
  codes = np.arange(600) % 100
  label[codes < 10] = 0.0
  names = np.array([f"u{code}" for code in codes])
  protocol = ClassificationProtocol(metrics=("auc", "gauc@user_id"))
  result = evaluate_examples(
    logits,
    label,
    protocol=protocol,
    from_logits=True,
    groups={"user_id": names, "unused": codes},
  )
  values, sizes, lost = [], [], 0
  for code in range(100):
    y, s = label[codes == code], logits[codes == code]
    if 0 < y.mean() < 1:
      values.append(sklearn_metrics.roc_auc_score(y, s))
      sizes.append(len(y))
    else:
      lost += 1
  assert lost >= 10
  assert result.metrics["gauc@user_id"] == pytest.approx(
    np.average(values, weights=sizes)
  )
  assert result.notes == (
    f"gauc@user_id leaves out {lost} of 100 groups, which hold one class only"
    f" ({lost / 100:.1%} of all impressions).",
  )


def test_an_undefined_auc_is_said():
  protocol = ClassificationProtocol(metrics=("auc", "log_loss"))
  p, label = np.array([0.1, 0.2, 0.3]), np.zeros(3)
  result = evaluate_examples(p, label, protocol=protocol)
  assert math.isnan(result.metrics["auc"])
  assert all(map(math.isnan, result.intervals["auc"]))
  assert result.metrics["log_loss"] == pytest.approx(-np.log(1 - p).mean())
  assert result.notes == ("auc is undefined: all 3 examples have the label 0.",)
  assert len(result.roc.true_positive_rate) == 0


def test_rmse_of_ratings():
  rng = np.random.default_rng(6)
  rating = rng.integers(1, 6, 200).astype(float)
  score = rating + rng.normal(size=200)
  protocol = ClassificationProtocol(metrics=("rmse",))
  result = evaluate_examples(score, rating, protocol=protocol, base_rate=3.5)
  root = sklearn_metrics.root_mean_squared_error
  assert result.metrics == pytest.approx({"rmse": root(rating, score)})
  constant = np.full(200, 3.5)
  assert result.floor == pytest.approx({"rmse": root(rating, constant)})
  assert result.reliability is None and result.roc is None


P, Y = np.full(4, 0.5), np.array([0.0, 1.0, 0.0, 1.0])
GROUPED = ClassificationProtocol(metrics=("gauc@user",))
TRAINED = ClassificationProtocol(entropy_rate="training")


@pytest.mark.parametrize(
  ("score", "label", "options", "message"),
  [
    (P[:3], Y, {}, "4 labels but 3 scores"),
    (P[:, None], Y, {}, r"4 labels but 4 scores \(shape \(4, 1\)\)"),
    (P, Y[:, None], {}, r"4 labels but 4 labels \(shape \(4, 1\)\)"),
    (P, Y, {"weight": np.ones(2)}, "4 labels but 2 weights"),
    (P, Y, {"slices": {"day": np.ones(5)}}, "4 labels but 5 day"),
    (P, Y, {"where": np.zeros(4, bool)}, "all 4 are masked or have weight 0"),
    (P[:0], Y[:0], {}, "no example counts: all 0"),
    (P * np.nan, Y, {}, r"model has diverged; example 0 has nan \(4 such"),
    (P, Y * 2, {}, "labels must be 0 or 1; example 1 has 2"),
    (P * 3, Y, {}, "or give from_logits=True; example 0 has 1.5"),
    (P, Y, {"weight": -Y}, r"example 1 has -1.0 \(2 such"),
    (P, Y, {"weight": np.full(4, np.inf)}, "weights must be"),
    (P, Y, {"protocol": GROUPED}, "needs the column 'user' in groups"),
    (
      P,
      Y,
      {"protocol": GROUPED, "groups": {"item": Y}},
      "there are 'item'",
    ),
    (P, Y, {"protocol": TRAINED}, "give base_rate, the mean label"),
  ],
)
def test_bad_data_is_named(score, label, options, message):
  with pytest.raises(DataError, match=message):
    evaluate_examples(score, label, **{"protocol": PROTOCOL} | options)


def test_the_example_in_a_message_is_counted_before_masking():
  where = np.array([False, False, True, True])
  with pytest.raises(DataError, match="example 3 has 7"):
    evaluate_examples(
      P, np.array([5.0, 5, 0, 7]), protocol=PROTOCOL, where=where
    )


def test_wrong_options():
  with pytest.raises(ConfigError, match="base_rate must lie in"):
    evaluate_examples(P, Y, protocol=PROTOCOL, base_rate=1.0)
  with pytest.raises(ConfigError, match="max_slice_values must lie in"):
    evaluate_examples(P, Y, protocol=PROTOCOL, max_slice_values=0)
