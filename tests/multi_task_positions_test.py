"""Position bias from rows to a record: the planted order is found and told."""

import pathlib

import numpy as np
import pytest

from recjax import launch
from recjax.data.propensities.regression_em import RegressionEM
from recjax.data.propensities.swap import SwapIntervention
from recjax.data.sources.planted_positions import PlantedPositions
from recjax.embeddings.groups import TableSettings
from recjax.errors import ConfigError, DataError
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.features.specs import Categorical
from recjax.layers.heads.separate import Separate
from recjax.models.multi_task import MultiTask
from recjax.multi_task_experiment import MultiTaskExperiment
from recjax.runs.predictions import load_predictions
from recjax.runs.record import RunRecord
from recjax.tasks.position_bias import PositionTower, Propensities
from recjax.tasks.task_objectives import Objective
from recjax.train.loop import TrainConfig
from recjax.train.optimizer import Optimizer, ParamGroup

LEN = 5
SOURCE = PlantedPositions(
  6_000,
  200,
  1_000,
  list_len=LEN,
  num_users=60,
  num_items=60,
  eta=1.0,
  correlation=0.0,
  exploration=0.3,
  swap_share=0.5,
)
CLICK = Objective("click", truth="relevant", position_biased=True)
TRUTH = {"num_positions": LEN, "truth": "true_propensity"}


def experiment(bias, **options) -> MultiTaskExperiment:
  defaults = {
    "objectives": (CLICK,),
    "features": (Categorical("user"), Categorical("item")),
    "model": MultiTask(Separate((8,))),
    "tables": TableSettings(init_stddev=0.05),
    "train": TrainConfig(num_epochs=5, eval_every_epochs=5.0, select="last"),
    "protocol": ClassificationProtocol(metrics=("auc",)),
    "optimizer": Optimizer((ParamGroup(learning_rate=0.01),)),
    "batch_size": 512,
    "position_bias": bias,
  }
  return MultiTaskExperiment(SOURCE, **(defaults | options))


def run(bias, workdir, **options):
  made = experiment(bias, **options)
  return made, launch.train(made, RunRecord(workdir), workdir.parent)


def order_of_relevance(workdir) -> float:
  """The share of pairs inside test lists that stand in their true order."""
  scores = load_predictions(workdir).tasks["click"].score.reshape(-1, LEN)
  test = SOURCE.read(pathlib.Path()).test
  truth = test.column("true_relevance").reshape(-1, LEN)
  right, pairs = 0, 0
  for i in range(LEN):
    for j in range(i):
      sign = np.sign(truth[:, i] - truth[:, j])
      right += np.sum(sign * (scores[:, i] - scores[:, j]) > 0)
      pairs += np.sum(sign != 0)
  return right / pairs


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("biased") / "run"
  return run(None, workdir)[1], order_of_relevance(workdir)


def test_without_its_position_a_model_orders_by_what_stood_high(biased):
  result, order = biased
  assert order < 0.89
  assert result["position_bias"] is None


@pytest.mark.parametrize(
  "bias,largest_error",
  [
    (PositionTower(**TRUTH), 0.12),
    (Propensities(estimator=SwapIntervention(), **TRUTH), 0.12),
    (Propensities(estimator=RegressionEM(), **TRUTH), 0.06),
  ],
  ids=["pal", "swap", "em"],
)
def test_the_order_without_positions_is_found(
  bias, largest_error, biased, tmp_path
):
  made, result = run(bias, tmp_path / "run")
  order = order_of_relevance(tmp_path / "run")
  assert order > 0.91 and order > biased[1] + 0.04, (order, biased[1])
  told = result["position_bias"]
  truth = np.arange(1, LEN + 1) ** -1.0
  np.testing.assert_allclose(told["truth"], truth, rtol=1e-5)
  assert np.abs(np.array(told["values"]) - truth).max() < largest_error
  assert (tmp_path / "run" / "plots" / "test-propensities.png").exists()
  if isinstance(bias, PositionTower):  # Read again, without training.
    again = launch.evaluate(made, tmp_path / "run", tmp_path)
    assert again.positions.to_dict() == told
    for name, value in result["metrics"].items():
      np.testing.assert_allclose(again.metrics[name], value, rtol=1e-6)


def test_columns_of_position_and_swaps_are_no_features(tmp_path):
  bias = Propensities(estimator=SwapIntervention(), **TRUTH)
  bench = experiment(bias, features=()).open(tmp_path)
  assert set(bench.features.categorical) == {"user", "item"}
  assert not bench.features.dense
  bench = experiment(None, features=()).open(tmp_path)
  assert set(bench.features.categorical) == {"user", "item", "position"}
  assert bench.protocol.selection == "last weights"


def test_bad_settings_are_told(tmp_path):
  features = (Categorical("user"), Categorical("place", "position"))
  with pytest.raises(ConfigError, match="feature 'place' is the column"):
    experiment(PositionTower(), features=features)
  with pytest.raises(ConfigError, match="no Objective has position_biased"):
    experiment(PositionTower(), objectives=(Objective("click"),))
  made = experiment(PositionTower(column="rank", num_positions=LEN))
  with pytest.raises(DataError, match="has no column 'rank'"):
    made.open(tmp_path)
  made = experiment(PositionTower(num_positions=3))
  with pytest.raises(
    DataError, match="planted_positions train, row 3: .*'position' holds 4"
  ):
    made.open(tmp_path)
