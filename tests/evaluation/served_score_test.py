"""Served scores from the formula; their judgement by scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from recjax.errors import ConfigError
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.served_score import (
  MIN_VALUE,
  ServedScore,
  ServedTarget,
  judge_served,
  order_auc,
  served_metrics,
  served_values,
)
from recjax.tasks.task_objectives import (
  Objective,
  joint_logit,
  served_probability,
)

OBJECTIVES = (
  Objective("click"),
  Objective("buy", given="click", space="entire"),
  Objective("watch", kind="real", log_label=True),
  Objective("stars", kind="real"),
)
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 4)).astype(np.float32)
PROTOCOL = ClassificationProtocol(metrics=("auc", "log_loss"))


def test_values_are_those_that_tasks_serve():
  found = served_values(OBJECTIVES, LOGITS)
  expected = served_probability(OBJECTIVES, jnp.asarray(LOGITS))
  np.testing.assert_allclose(found.value, expected, rtol=1e-5)
  above = np.maximum(found.value, MIN_VALUE)
  np.testing.assert_allclose(found.log, np.log(above), rtol=1e-5, atol=1e-7)


def test_products_and_sums():
  found = served_values(OBJECTIVES, LOGITS)
  weights = (1, 0.5, 2.0, 0.0)
  p = np.maximum(found.value, MIN_VALUE)
  product = np.prod(p ** np.array(weights), axis=1)
  score = ServedScore("product", weights).scores(found)
  np.testing.assert_allclose(score, np.log(product), rtol=1e-6)
  score = ServedScore("sum", weights).scores(found)
  np.testing.assert_allclose(score, found.value @ np.array(weights), rtol=1e-6)


def test_a_click_and_a_conversion_make_ctcvr():
  found = served_values(OBJECTIVES[:2], LOGITS[:, :2])
  both = joint_logit(jnp.asarray(LOGITS[:, 0]), jnp.asarray(LOGITS[:, 1]))
  score = ServedScore().scores(found)
  np.testing.assert_allclose(np.exp(score), 1 / (1 + np.exp(-both)), rtol=1e-5)


def test_sure_rows_do_not_tie():
  """Probabilities that float32 would round to 1."""
  logits = np.array([[30.0], [31.0], [-200.0], [-201.0]], np.float32)
  found = served_values(OBJECTIVES[:1], logits)
  score = ServedScore().scores(found)
  assert score[1] > score[0] > score[2] > score[3] > -np.inf


@pytest.mark.parametrize(
  "options,message",
  [
    ({"combine": "produkt"}, "Did you mean 'product'"),
    ({"weights": (1.0, -0.5)}, r"weights\[1\] must lie in .*; got -0.5"),
    ({"weights": (1.0, float("nan"))}, r"weights\[1\] must lie in .*; got nan"),
    ({"weights": (1.0, float("inf"))}, r"weights\[1\] must lie in .*; got inf"),
    ({"weights": (0, 0.0)}, "one that is not 0"),
  ],
)
def test_bad_settings_are_told(options, message):
  with pytest.raises(ConfigError, match=message):
    ServedScore(**options)


def test_weights_of_another_length_are_told():
  score = ServedScore(weights=(1, 2, 0.5))
  message = r"got 3 \(1, 2, 0.5\) for 2 tasks \(click, buy\)"
  with pytest.raises(ConfigError, match=message):
    score.check(["click", "buy"])
  with pytest.raises(ConfigError, match="for 4 tasks"):
    score.scores(served_values(OBJECTIVES, LOGITS))
  ServedScore().check(["click", "buy"])


# --- How it is judged --------------------------------------------------------


@pytest.mark.parametrize("weights", ["given", "none"])
def test_clicks_are_judged_as_scikit_learn_does(weights):
  label = (RNG.random(300) < 0.4).astype(np.float32)
  score = label + RNG.normal(size=300)
  label[::10] = np.nan
  weight = RNG.uniform(0.5, 2, 300).astype(np.float32)
  user = RNG.integers(0, 8, 300).astype(np.int32)
  protocol = ClassificationProtocol(metrics=("gauc@user",), weights=weights)
  found = judge_served(
    score,
    ServedTarget("click", "binary", label),
    weight,
    {"user": user},
    protocol=protocol,
  )
  rows = ~np.isnan(label)
  mass = weight if weights == "given" else np.ones(300)
  options = lambda rows: {"sample_weight": mass[rows]}
  expected = metrics.roc_auc_score(label[rows], score[rows], **options(rows))
  assert found.metrics["auc"] == pytest.approx(expected, rel=1e-6)
  low, high = found.intervals["auc"]
  assert low < expected < high
  aucs, masses, ndcgs = [], [], []
  for name in range(8):
    mine = rows & (user == name)
    aucs.append(
      metrics.roc_auc_score(label[mine], score[mine], **options(mine))
    )
    masses.append(mass[mine].sum())
    ndcgs.append(metrics.ndcg_score([label[mine]], [score[mine]]))
  expected = np.average(aucs, weights=masses)
  assert found.metrics["gauc@user"] == pytest.approx(expected, rel=1e-6)
  assert found.metrics["ndcg@user"] == pytest.approx(np.mean(ndcgs))
  low, high = found.intervals["ndcg@user"]
  assert low < found.metrics["ndcg@user"] < high
  assert found.num_examples == rows.sum()
  names = [key for key, _, _ in served_metrics("binary", protocol)]
  assert list(found.metrics) == names


def test_seconds_are_judged_by_their_order():
  seconds = RNG.exponential(size=80)
  score = seconds + RNG.normal(size=80)
  target = ServedTarget("watch", "real", seconds)
  found = judge_served(score, target, None, {}, protocol=PROTOCOL)
  above = seconds[:, None] > seconds[None, :]
  right = (score[:, None] > score[None, :])[above].mean()
  assert found.metrics == {"auc": pytest.approx(right)}
  low, high = found.intervals["auc"]
  assert 0 < right - low == pytest.approx(high - right)
  assert order_auc("real", score, seconds, None) == found.metrics["auc"]
  plain = judge_served(
    score, target, None, {}, protocol=PROTOCOL, intervals=False
  )
  assert plain.intervals == {} and plain.metrics == found.metrics


def test_what_is_undefined_is_told():
  user = np.repeat(np.arange(2, dtype=np.int32), 5)
  protocol = ClassificationProtocol(metrics=("gauc@user",))
  for kind in ("binary", "real"):
    target = ServedTarget("click", kind, np.zeros(10))
    found = judge_served(
      np.arange(10.0), target, None, {"user": user}, protocol=protocol
    )
    assert np.isnan(list(found.metrics.values())).all()
    assert any(note.startswith("auc is undefined") for note in found.notes)
    assert any("leaves out 2 groups" in note for note in found.notes)
  target = ServedTarget("gain", "real", np.arange(10.0) - 5)
  found = judge_served(
    np.arange(10.0), target, None, {"user": user}, protocol=protocol
  )
  assert found.metrics["auc"] == 1.0 and np.isnan(found.metrics["ndcg@user"])
