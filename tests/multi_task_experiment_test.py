"""Experiments of several objectives, from a table to a finished record."""

import dataclasses
import json

import jax
import jaxtyping
import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from recjax import launch
from recjax.balancing.fixed_weights import FixedWeights
from recjax.balancing.pcgrad import PCGrad
from recjax.balancing.uncertainty import UncertaintyWeighting
from recjax.data.example_stream import StreamConfig
from recjax.data.examples import Examples, ExampleSplit
from recjax.embeddings.groups import TableSettings
from recjax.errors import ConfigError, DataError
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.served_front import ParetoFront
from recjax.evaluation.served_score import ServedScore
from recjax.layers.heads.mmoe import MMoE
from recjax.models.dcn_v2 import DCNv2
from recjax.models.fm import FM
from recjax.models.multi_task import MultiTask
from recjax.multi_task_experiment import MultiTaskExperiment
from recjax.runs.predictions import load_predictions
from recjax.runs.record import RunRecord
from recjax.tasks.task_objectives import Objective
from recjax.tested_tasks import judged_names
from recjax.train.loop import TrainConfig
from recjax.train.optimizer import Optimizer, ParamGroup

OBJECTIVES = (
  Objective("click"),
  Objective("buy", given="click", space="entire", truth="would_buy"),
  Objective("watch", "secs", "real", log_label=True),
)
PROTOCOL = ClassificationProtocol(metrics=("auc", "log_loss"))


@dataclasses.dataclass(frozen=True)
class Shop:
  """Rows of a shop: clicks, purchases where clicked, seconds or null."""

  num_rows: int = 600
  name: str = "shop"
  mask_columns: tuple[str, ...] = ("would_buy",)

  def files(self, data_dir):
    return ()

  def read(self, data_dir) -> ExampleSplit:
    parts = ("train", "validation", "test")
    return ExampleSplit(*(self._part(part, i) for i, part in enumerate(parts)))

  def _part(self, part: str, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    city = rng.integers(0, 4, self.num_rows)
    x = rng.normal(size=self.num_rows)
    click = rng.random(self.num_rows) < 1 / (1 + np.exp(-x - city + 2))
    would = rng.random(self.num_rows) < 1 / (1 + np.exp(x - city + 1))
    secs = np.where(rng.random(self.num_rows) < 0.5, np.exp(x + 3), np.nan)
    table = pa.table(
      {
        "city": pa.array([f"c{i}" for i in city]),
        "x": x.astype(np.float32),
        "click": click.astype(np.float32),
        "buy": (click & would).astype(np.float32),
        "would_buy": would.astype(np.float32),
        "secs": pa.array(secs, from_pandas=True),
      }
    )
    return Examples.from_table(f"shop {part}", table, label="click")


def experiment(**options) -> MultiTaskExperiment:
  defaults = {
    "objectives": OBJECTIVES,
    "model": MultiTask(MMoE(3, (8,), (8,))),
    "tables": TableSettings(init_stddev=0.1),
    "train": TrainConfig(
      num_epochs=8, eval_every_epochs=4.0, select="auc/click*buy"
    ),
    "protocol": PROTOCOL,
    "optimizer": Optimizer((ParamGroup(learning_rate=0.03),)),
    "batch_size": 64,
  }
  return MultiTaskExperiment(Shop(), **(defaults | options))


def test_a_run_from_rows_to_its_record(tmp_path):
  made = experiment(balancer=PCGrad(), slices=("city",))
  assert made.model.num_tasks == 3  # As many as there are objectives.
  result = launch.train(made, RunRecord(tmp_path / "run"), tmp_path)
  names = ["auc/click", "auc/buy", "auc/click*buy", "auc/buy@all", "rmse/watch"]
  assert (
    set(names)
    <= set(result["metrics"])
    == set(judged_names(OBJECTIVES, PROTOCOL))
  )
  assert result["metrics"]["auc/click"] > 0.6
  mean = np.asarray(result["expert_utilization"]["head/gate"])
  np.testing.assert_allclose(mean.sum(axis=1), 1.0, rtol=1e-4)
  assert len(result["gate_entropy"]["head/gate"]) == 3
  assert np.shape(result["gradient_cosines"]) == (3, 3)
  slices = {part["value"]: part for part in result["slices"]["city"]}
  assert slices.keys() == {"c0", "c1", "c2", "c3"}
  split = made.open(tmp_path).parts.split.test
  kept = load_predictions(tmp_path / "run").tasks["click"]
  for value, part in slices.items():
    rows = split.column("city") == value
    assert part["num_examples"]["click"] == rows.sum()
    auc = metrics.roc_auc_score(kept.label[rows], kept.score[rows])
    np.testing.assert_allclose(part["metrics"]["auc/click"], auc, rtol=1e-5)
    assert part["intervals"].keys() == part["metrics"].keys()
  plots = {path.name for path in (tmp_path / "run" / "plots").iterdir()}
  assert {"test-experts.png", "test-conflict.png", "test-roc.png"} <= plots
  lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  logged = {name for line in lines for name in json.loads(line)}
  assert "validation/gate_entropy/head/gate/0" in logged
  again = launch.evaluate(made, tmp_path / "run", tmp_path)
  for name, value in result["metrics"].items():
    np.testing.assert_allclose(again.metrics[name], value, rtol=1e-6)


def test_a_served_score_and_its_front(tmp_path):
  made = experiment(
    served=ServedScore(weights=(1, 1, 0)),
    front=ParetoFront(num_weights=4),
    protocol=ClassificationProtocol(metrics=("auc", "gauc@city")),
    train=TrainConfig(
      max_steps=20, eval_every_epochs=4.0, select="auc/click*buy@served"
    ),
  )
  workdir = tmp_path / "run"
  result = launch.train(made, RunRecord(workdir), tmp_path)
  found = result["metrics"]
  assert set(found) == set(judged_names(OBJECTIVES, made.protocol, made.served))
  # The product of both is CTCVR, by whichever way it is computed.
  for key in ("auc", "gauc@city"):
    np.testing.assert_allclose(
      found[f"{key}/click*buy@served"], found[f"{key}/click*buy"], atol=1e-6
    )
  assert "ndcg@city/watch@served" in found
  kept = load_predictions(workdir).tasks
  p = [1 / (1 + np.exp(-kept[n].score.astype(float))) for n in ("click", "buy")]
  expected = metrics.roc_auc_score(kept["click"].label, p[0] * p[1])
  np.testing.assert_allclose(found["auc/click@served"], expected, atol=1e-6)
  front = result["pareto_front"]
  assert front["judged"] == ("click", "click*buy", "watch")
  assert np.shape(front["weights"]) == np.shape(front["test"]) == (10, 3)
  last = front["weights"].index([1.0, 0.0, 0.0])
  np.testing.assert_allclose(
    front["test"][last][0], found["auc/click"], atol=1e-6
  )
  assert result["served"] == {"combine": "product", "weights": (1, 1, 0)}
  lines = (workdir / "pareto_front.csv").read_text().splitlines()
  assert len(lines) == 11
  assert (workdir / "plots" / "test-pareto.png").stat().st_size > 0
  check_predictions(workdir, result, made.open(tmp_path).parts.split.test)


def check_predictions(workdir, result, test):
  """What is kept of each row gives the metrics of the run once more."""
  found = load_predictions(workdir)
  assert list(found.tasks) == ["click", "buy", "click*buy", "buy@all", "watch"]
  assert found.data_fingerprint == result["data_fingerprint"]
  for name, task in found.tasks.items():
    known = ~np.isnan(task.label)
    assert known.sum() == result["num_test_examples"][name]
    if task.kind == "binary":
      auc = metrics.roc_auc_score(task.label[known], task.score[known])
      np.testing.assert_allclose(
        result["metrics"][f"auc/{name}"], auc, rtol=1e-6
      )
  cities = found.groups["city"]
  texts = np.array(cities.values)[cities.codes].tolist()
  assert texts == test.table.column("city").to_pylist()


def test_each_task_is_judged_where_its_label_tells_something(tmp_path):
  bench = experiment().open(tmp_path)
  params, variables = bench.task.init(jax.random.key(0))
  weights = params | variables
  tested = bench.test(weights)
  logits = bench.scores(weights, "test").astype(np.float64)
  table = bench.parts.split.test.table
  column = {n: table.column(n).to_numpy() for n in table.column_names}
  click, buy = column["click"], column["buy"]
  auc = metrics.roc_auc_score
  p = 1 / (1 + np.exp(-logits))
  expected = {
    "auc/click": auc(click, logits[:, 0]),
    "auc/buy": auc(buy[click == 1], logits[click == 1, 1]),
    "auc/click*buy": auc(buy, p[:, 0] * p[:, 1]),
    "auc/buy@all": auc(column["would_buy"], logits[:, 1]),
    "log_loss/click*buy": metrics.log_loss(buy, p[:, 0] * p[:, 1]),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(tested.metrics[name], value, atol=1e-5)
  known = ~np.isnan(column["secs"])
  error = logits[known, 2] - np.log1p(column["secs"][known])
  np.testing.assert_allclose(
    tested.metrics["rmse/watch"], np.sqrt(np.mean(error**2)), rtol=1e-5
  )
  assert tested.tasks["buy"].num_examples == int(click.sum())
  # Labels, and what only the judge may know, are no features.
  assert set(bench.features.categorical) | set(bench.features.dense) == {
    "city",
    "x",
  }


def test_a_task_alone_is_judged_where_a_column_says(tmp_path):
  buy = Objective("buy", where="click", truth="would_buy")
  train = TrainConfig(max_steps=2, select="auc/buy")
  bench = experiment(objectives=(buy,), train=train).open(tmp_path)
  params, variables = bench.task.init(jax.random.key(0))
  tested = bench.test(params | variables)
  click = bench.parts.numbers("test", "click")
  assert tested.tasks["buy"].num_examples == int(click.sum())
  assert tested.tasks["buy@all"].num_examples == len(click)
  assert "click" not in bench.features.dense


def test_an_imputation_is_an_output_and_no_score(tmp_path):
  click = Objective("click")
  buy = Objective("buy", given="click", space="doubly_robust")
  train = TrainConfig(max_steps=2, select="auc/buy")
  made = experiment(objectives=(click, buy), balancer=PCGrad(), train=train)
  assert made.model.num_tasks == 3
  result = launch.train(made, RunRecord(tmp_path / "run"), tmp_path)
  assert len(result["gate_entropy"]["head/gate"]) == 3
  assert np.shape(result["gradient_cosines"]) == (2, 2)
  assert not any("imputed" in name for name in result["metrics"])


def test_a_trunk_may_stand_below_the_head(tmp_path):
  trunk = DCNv2(dim=4, hidden=(8,), num_cross_layers=1)
  bench = experiment(model=MultiTask(MMoE(2), trunk)).open(tmp_path)
  params, variables = bench.task.init(jax.random.key(0))
  assert bench.scores(params | variables, "validation").shape == (600, 3)


@pytest.mark.parametrize(
  "options,message",
  [
    ({"model": FM()}, "model must be @multi_task.MultiTask"),
    ({"loss": "squared_error"}, "leave `loss` away; got 'squared_error'"),
    ({"stream": StreamConfig()}, "MultiTaskExperiment.stream needs a source"),
    (
      {"train": TrainConfig(select="auc/bye")},
      "must be one of .*Did you mean 'auc/buy'",
    ),
    ({"objectives": ()}, "at least one Objective"),
    ({"balancer": None}, "balancer must be one of recjax.balancing, .* None"),
    ({"balancer": PCGrad}, "balancer must be one of recjax.balancing, .*class"),
    (
      {"balancer": FixedWeights((1.0, 2.0))},
      r"got 2 weights \(1.0, 2.0\) for 3 tasks",
    ),
    (
      {"served": ServedScore(weights=(1, 2))},
      r"got 2 \(1, 2\) for 3 tasks \(click, buy, watch\)",
    ),
    ({"front": ParetoFront(200)}, "makes 20,100 points of 3 tasks"),
  ],
)
def test_bad_settings_are_told(options, message):
  with pytest.raises(ConfigError, match=message):
    experiment(**options)


@pytest.mark.parametrize(
  "make_it,message",
  [
    (lambda: experiment(served=3), "served must be @served_score.* got 3"),
    (lambda: experiment(front=3), "front must be @served_front.* got 3"),
    (lambda: experiment(measure_conflict="no"), "True or False; got 'no'"),
    (
      lambda: experiment(objectives=Objective("click")),
      "objectives must be a tuple, such as .* of type Objective",
    ),
    (
      lambda: experiment(objectives=("click",)),
      "must be @task_objectives.Objective.* got 'click'",
    ),
    (lambda: FixedWeights(2.0), r"weights must be a tuple, .*\); got 2.0 of"),
    (
      lambda: ServedScore(weights=2.0),
      "weights must be a tuple, .* got 2.0 of",
    ),
    (lambda: ServedScore(weights=(1, "b")), r"\[1\] must be a number; got 'b'"),
    (
      lambda: UncertaintyWeighting("binary"),
      "kinds must be a tuple, .* got 'binary' of type str",
    ),
  ],
)
def test_values_of_another_type_are_told(make_it, message, monkeypatch):
  # As from gin, which checks no types: those of the tests would be first.
  monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
  with pytest.raises(ConfigError, match=message):
    make_it()


def test_a_label_that_is_not_in_the_data_is_told(tmp_path):
  objectives = (Objective("click"), Objective("like"))
  train = TrainConfig(select="auc/click")
  made = experiment(objectives=objectives, train=train)
  with pytest.raises(DataError, match="has no column 'like'"):
    made.open(tmp_path)
