"""Examples that pass by against all of them at once, and scikit-learn."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics

from recjax.errors import ConfigError, DataError
from recjax.evaluation.classification import evaluate_examples
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.running_judge import RunningJudge, check_in_passing

ALL = ClassificationProtocol(
  metrics=("auc", "log_loss", "normalized_entropy", "ece", "rmse"), ece_bins=10
)
NUM = 20_000


def examples(seed=0):
  rng = np.random.default_rng(seed)
  logit = rng.normal(-2, 1.5, NUM)
  p = 1 / (1 + np.exp(-logit - rng.normal(0, 0.5, NUM)))
  label = (rng.random(NUM) < p).astype(np.float32)
  weight = rng.integers(0, 4, NUM).astype(np.float32)
  return logit.astype(np.float32), label, weight


def run(score, label, weight=None, size=700, protocol=ALL, **options):
  """Adds batches of one size; what fills up the last one is NaN."""
  judge = RunningJudge(protocol, from_logits=True, **options)
  padded = -(-len(score) // size) * size
  fill = lambda x: np.concatenate([x, np.full(padded - len(x), np.nan)])
  columns = [fill(score), fill(label)]
  if weight is not None:
    columns.append(np.where(np.isnan(fill(weight)), 1, fill(weight)))
  where = np.arange(padded) < len(score)
  for start in range(0, padded, size):
    cut = slice(start, start + size)
    judge.add(*(x[cut] for x in columns), where=where[cut])
  return judge.result()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_metrics_are_those_of_all_rows(weighted):
  score, label, weight = examples()
  weight = weight if weighted else None
  found = run(score, label, weight, base_rate=0.2)
  whole = evaluate_examples(
    score, label, weight, protocol=ALL, from_logits=True, base_rate=0.2
  )
  for name, value in whole.metrics.items():
    np.testing.assert_allclose(found.metrics[name], value, rtol=1e-5)
    low, high = whole.intervals[name]
    # Rows lie in other blocks: intervals are known to some 5% of their width.
    np.testing.assert_allclose(
      found.intervals[name], (low, high), atol=0.15 * (high - low)
    )
    np.testing.assert_allclose(found.floor[name], whole.floor[name], rtol=1e-5)
  np.testing.assert_allclose(
    found.intervals["auc"], whole.intervals["auc"], rtol=1e-5
  )
  for name in ("num_examples", "num_positives", "weight_sum"):
    assert getattr(found, name) == getattr(whole, name)
  for one, other in zip(found.reliability, whole.reliability):
    np.testing.assert_allclose(one, other, rtol=1e-4)
  expected = metrics.roc_auc_score(label, score, sample_weight=weight)
  np.testing.assert_allclose(found.metrics["auc"], expected, rtol=1e-6)
  area = metrics.auc(*found.roc)
  np.testing.assert_allclose(area, expected, atol=1e-4)


def test_the_error_of_the_auc_is_told_and_holds():
  score, label, _ = examples()
  found = run(score, label, num_bins=64)
  exact = metrics.roc_auc_score(label, score)
  # By the formula, with bins of width one quarter from -8 to 8.
  bins = np.floor((score / (1 + np.abs(score) / 8) + 8) * 4)
  pairs = sum(
    np.sum((bins == b) & (label == 1)) * np.sum((bins == b) & (label == 0))
    for b in range(64)
  )
  bound = pairs / label.sum() / (1 - label).sum() / 2
  assert 0 < abs(found.metrics["auc"] - exact) < bound
  (note,) = found.notes
  assert note.startswith("auc is that of scores in 64 bins, right to")
  # Rounded up to one digit.
  told = float(note.split("right to ")[1].split(":")[0])
  assert told * 0.5 < bound <= told and np.format_float_scientific(
    told, precision=0
  ) == np.format_float_scientific(told)
  assert found.protocol.auc_bins == 64


def test_labels_that_are_unknown_do_not_count():
  score, label, weight = examples()
  known = np.arange(NUM) % 3 > 0
  found = run(score, np.where(known, label, np.nan), weight)
  whole = run(score[known], label[known], weight[known])
  for name, value in whole.metrics.items():
    np.testing.assert_allclose(found.metrics[name], value, rtol=1e-5)
  none = dataclasses.replace(ALL, weights="none")
  found = run(score, label, weight, protocol=none)
  whole = run(score, label)
  for name, value in whole.metrics.items():
    np.testing.assert_allclose(found.metrics[name], value, rtol=1e-6)


def test_one_class_is_undefined_and_said():
  score, _, _ = examples()
  found = run(score, np.zeros(NUM, np.float32))
  assert np.isnan(found.metrics["auc"])
  assert np.isfinite(found.metrics["log_loss"])
  assert "auc is undefined: all 20,000 examples have the label 0." in (
    found.notes
  )


def test_real_labels():
  rng = np.random.default_rng(0)
  score, label = rng.normal(3, 2, (2, NUM)).astype(np.float32)
  protocol = ClassificationProtocol(metrics=("rmse",))
  judge = RunningJudge(protocol, from_logits=False, base_rate=2.5)
  judge.add(score, label)
  found = judge.result()
  expected = np.sqrt(np.mean((score - label) ** 2))
  np.testing.assert_allclose(found.metrics["rmse"], expected, rtol=1e-5)
  low, high = found.intervals["rmse"]
  assert low < expected < high
  floor = np.sqrt(np.mean((label - 2.5) ** 2))
  np.testing.assert_allclose(found.floor["rmse"], floor, rtol=1e-5)
  assert found.reliability is None and found.roc is None


@pytest.mark.parametrize(
  ("place", "value", "message"),
  [
    (0, np.nan, "scores are NaN: the model has diverged; example 702"),
    (1, 2.0, "labels must be 0 or 1; example 702 has 2"),
    (2, -1.0, "weights must be finite and not negative; example 702 has -1"),
  ],
)
def test_bad_values_are_named(place, value, message):
  columns = [x.copy() for x in examples()]
  columns[place][702] = value
  with pytest.raises(DataError, match=message):
    run(*columns)


def test_what_needs_all_rows_is_refused():
  grouped = ClassificationProtocol(metrics=("auc", "gauc@user"))
  with pytest.raises(ConfigError, match="'gauc@user' needs the rows of a gr"):
    RunningJudge(grouped, from_logits=True)
  equal = ClassificationProtocol(ece_binning="equal_mass")
  with pytest.raises(ConfigError, match="equal_mass.* known, and so on"):
    check_in_passing(equal, "and so on")
  with pytest.raises(DataError, match="no example counts: all 0 are masked"):
    RunningJudge(ALL, from_logits=True).result()


@pytest.mark.parametrize(
  ("num", "told"), [(5, "0.1"), (4, "0.2"), (3, "0.2"), (2, "0.3")]
)
def test_the_bound_is_rounded_up(num, told):
  """Each bin holds one of both classes: 1/2 num / num^2 of all pairs."""
  score = np.repeat(np.linspace(-4, 4, num), 2).astype(np.float32)
  label = np.tile([0.0, 1.0], num).astype(np.float32)
  found = run(score, label, size=2 * num)
  assert f"right to {told}:" in found.notes[0]


def test_an_auc_that_may_be_far_off_is_warned_of(caplog):
  score, label, _ = examples()
  auc_alone = ClassificationProtocol(metrics=("auc",))
  judge = RunningJudge(auc_alone, from_logits=True)
  judge.add(score, label)
  judge.warn("shop validation")
  assert not caplog.text and judge.auc_error < 1e-3
  judge = RunningJudge(auc_alone, from_logits=True)
  judge.add(1e-5 * np.sign(score), label)
  judge.warn("shop validation")
  # Logits below 0 lie in one bin, those above in another.
  share = [np.mean(score[label == y] < 0) for y in (0, 1)]
  bound = (share[0] * share[1] + (1 - share[0]) * (1 - share[1])) / 2
  np.testing.assert_allclose(judge.auc_error, bound, rtol=1e-6)
  assert "shop validation: scores are so close to each other" in caplog.text
  rmse = RunningJudge(
    ClassificationProtocol(metrics=("rmse",)), from_logits=False
  )
  rmse.warn("no AUC")
  assert "no AUC" not in caplog.text


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_base_rate_of_one_class_is_refused(rate):
  with pytest.raises(ConfigError, match="base_rate must lie in"):
    RunningJudge(ALL, from_logits=True, base_rate=rate)
  RunningJudge(
    ClassificationProtocol(metrics=("rmse",)), from_logits=False, base_rate=rate
  )


def test_the_entropy_of_the_training_rate():
  training = dataclasses.replace(ALL, entropy_rate="training")
  with pytest.raises(DataError, match="entropy of the training rate: give"):
    RunningJudge(training, from_logits=True)
  score, label, _ = examples()
  found = run(score, label, protocol=training, base_rate=0.3)
  entropy = -0.3 * np.log(0.3) - 0.7 * np.log(0.7)
  expected = found.metrics["log_loss"] / entropy
  value = found.metrics["normalized_entropy"]
  np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_infinite_logits_are_the_first_and_the_last():
  score, label, weight = examples()
  score[label == 1] = np.where(
    np.arange(len(score))[label == 1] % 9 == 0, np.inf, score[label == 1]
  )
  score[5], score[6], label[5:7] = -np.inf, np.inf, 0
  for kept in (slice(None), score < np.inf):
    found = run(score[kept], label[kept], weight[kept])
    # scikit-learn takes no infinities; their order is all that matters.
    expected = metrics.roc_auc_score(
      label[kept], np.clip(score[kept], -99, 99), sample_weight=weight[kept]
    )
    np.testing.assert_allclose(found.metrics["auc"], expected, rtol=1e-6)
    exact = evaluate_examples(
      score[kept], label[kept], weight[kept], protocol=ALL, from_logits=True
    )
    for name, value in exact.metrics.items():
      np.testing.assert_allclose(found.metrics[name], value, rtol=1e-5)


def test_huge_logits_keep_their_order():
  score = np.array([-1e4, -300, 90, 2e5, 200, -20], np.float32)
  label = np.array([0, 1, 0, 1, 1, 0], np.float32)
  found = run(score, label, size=6)
  expected = metrics.roc_auc_score(label, score)
  np.testing.assert_allclose(found.metrics["auc"], expected, rtol=1e-6)
