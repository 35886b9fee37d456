"""The bench of ranking models against logits and metrics written out."""

import jax
import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from recjax import launch, ranking_bench
from recjax.data.example_parts import MemoryParts
from recjax.data.examples import Examples, ExampleSplit
from recjax.errors import DataError
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.features.fitted import fit_features
from recjax.features.specs import Categorical, Numeric
from recjax.models.lr import LR
from recjax.ranking_bench import RankingBench
from recjax.ranking_experiment import categorical_fields
from recjax.runs import predictions
from recjax.runs.predictions import load_predictions
from recjax.runs.record import RunRecord
from recjax.tasks.ranking import NumericField, Ranking

PROTOCOL = ClassificationProtocol(metrics=("auc", "log_loss", "gauc@city"))
SLICES = {"town": "city"}


def examples(name, num, seed):
  rng = np.random.default_rng(seed)
  table = pa.table(
    {
      "label": (rng.random(num) < 0.4).astype(np.float32),
      "city": pa.array(rng.choice(["bonn", "rome", None], num), pa.string()),
      "x": rng.normal(size=num).astype(np.float32),
      "weight": rng.integers(1, 4, num).astype(np.float32),
    }
  )
  return Examples.from_table(name, table, weight="weight")


def make(protocol=PROTOCOL, num_test=230):
  sizes = {"train": 200, "validation": 110, "test": num_test}
  split = ExampleSplit(
    *(examples(name, num, i) for i, (name, num) in enumerate(sizes.items()))
  )
  specs = (Categorical("town", "city"), Numeric("x"))
  features = fit_features(specs, split.train.table)
  fields = categorical_fields(features)
  task = Ranking(LR(), fields, (NumericField("x"),))
  parts = MemoryParts(split, features)
  return RankingBench("towns", parts, task, protocol, 16, SLICES, seed=0)


def weights_and_logits(bench, part):
  """Weights of the model, and the logits that they give by the formula."""
  by_name = {"bonn": 0.7, "rome": -0.4, None: 0.0}
  names = bench.features.raw_values("town")
  rows = [0.0, 0.0, *(by_name[name] for name in names[2:])]
  table = getattr(bench.parts.split, part).table
  city = np.array([by_name[n] for n in table.column("city").to_pylist()])
  logits = 0.2 + city + 1.5 * table.column("x").to_numpy()
  linear = {"bias": np.float32(0.2), "dense": np.float32([1.5])}
  ((stack, drawn),) = bench.task.dense.init(jax.random.key(0)).items()
  table = np.zeros(drawn.shape, np.float32)
  table[: len(rows), 0] = rows
  return {"model": {"linear": linear}, "tables": {stack: table}}, logits


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
  """Parts are no multiple of it."""
  monkeypatch.setattr(ranking_bench, "PREDICT_BATCH", 64)


def test_scores_are_those_of_the_formula_in_order():
  bench = make()
  assert isinstance(bench, launch.Bench)
  for part in ("validation", "test"):
    weights, logits = weights_and_logits(bench, part)
    found = bench.scores(weights, part)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["given", "none"])
def test_metrics_are_those_of_scikit_learn(kind):
  bench = make(
    ClassificationProtocol(metrics=("auc", "log_loss"), weights=kind)
  )
  weights, logits = weights_and_logits(bench, "test")
  table = bench.parts.split.test.table
  label = table.column("label").to_numpy()
  weight = table.column("weight").to_numpy() if kind == "given" else None
  tested = bench.test(weights)
  chance = 1 / (1 + np.exp(-logits))
  expected = {
    "auc": metrics.roc_auc_score(label, logits, sample_weight=weight),
    "log_loss": metrics.log_loss(label, chance, sample_weight=weight),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(tested.metrics[name], value, rtol=1e-5)
  train = bench.parts.split.train.table
  rate = np.average(
    train.column("label").to_numpy(),
    weights=train.column("weight").to_numpy() if kind == "given" else None,
  )
  floor = metrics.log_loss(label, np.full(230, rate), sample_weight=weight)
  np.testing.assert_allclose(tested.floor["log_loss"], floor, rtol=1e-5)


def test_slices_and_groups_are_of_raw_values():
  bench = make()
  weights, logits = weights_and_logits(bench, "test")
  tested = bench.test(weights)
  table = bench.parts.split.test.table
  city = table.column("city").fill_null("missing").to_numpy()
  label = table.column("label").to_numpy()
  found = {part.value: part for part in tested.slices["town"]}
  assert found.keys() == {"bonn", "rome", "missing"}
  weight = table.column("weight").to_numpy()
  total = 0.0
  for name, part in found.items():
    rows = city == name
    assert part.num_examples == rows.sum()
    auc = metrics.roc_auc_score(
      label[rows], logits[rows], sample_weight=weight[rows]
    )
    np.testing.assert_allclose(part.metrics["auc"], auc, rtol=1e-6)
    total += auc * weight[rows].sum()
  np.testing.assert_allclose(
    tested.metrics["gauc@city"], total / weight.sum(), rtol=1e-6
  )
  facts = bench.facts(tested)
  assert facts["num_test_examples"] == 230
  assert facts["num_test_positives"] == label.sum()
  assert [part["value"] for part in facts["slices"]["town"]] == list(found)


def test_predictions_are_kept_row_by_row(tmp_path, monkeypatch):
  bench = make()
  weights, logits = weights_and_logits(bench, "test")
  tested = bench.test(weights)
  bench.save(RunRecord(tmp_path), tested, "test")
  found = load_predictions(tmp_path)
  table = bench.parts.split.test.table
  np.testing.assert_allclose(
    found.tasks[""].score, logits, rtol=1e-4, atol=1e-6
  )
  for kept, column in (
    (found.tasks[""].label, "label"),
    (found.weight, "weight"),
  ):
    np.testing.assert_array_equal(kept, table.column(column).to_numpy())
  city = found.groups["city"]
  expected = table.column("city").fill_null("missing").to_pylist()
  assert np.array(city.values)[city.codes].tolist() == expected
  assert found.data_fingerprint == bench.data_fingerprint
  assert bench.facts(tested)["notes"] == list(tested.notes)
  monkeypatch.setattr(predictions, "MAX_ROWS", 229)
  assert "230 test rows" in bench.facts(tested)["notes"][-1]
  bench.save(RunRecord(tmp_path / "other"), tested, "test")
  assert not (tmp_path / "other" / "predictions").exists()


def test_validation_has_no_intervals_and_test_needs_rows():
  bench = make(num_test=0)
  weights, logits = weights_and_logits(bench, "validation")
  table = bench.parts.split.validation.table
  auc = metrics.roc_auc_score(
    table.column("label").to_numpy(),
    logits,
    sample_weight=table.column("weight").to_numpy(),
  )
  np.testing.assert_allclose(bench.validate(weights)["auc"], auc, rtol=1e-6)
  with pytest.raises(DataError, match="towns has no test rows"):
    bench.test(weights)
