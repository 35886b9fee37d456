"""What is undefined is told; the rest is in multi_task_experiment_test.py."""

import jax
import numpy as np
import pyarrow as pa
import pytest

from recjax.data.example_parts import MemoryParts
from recjax.data.examples import Examples, ExampleSplit
from recjax.errors import DataError
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.features.fitted import fit_features
from recjax.features.specs import Numeric
from recjax.layers.heads.separate import Separate
from recjax.models.multi_task import MultiTask
from recjax.multi_task_bench import MultiTaskBench
from recjax.tasks.multi_task import MultiTaskRanking
from recjax.tasks.ranking import NumericField
from recjax.tasks.task_objectives import Objective


def make(like) -> MultiTaskBench:
  """A bench of rows that all have the same label "like"."""
  rng = np.random.default_rng(0)
  table = pa.table(
    {
      "x": rng.normal(size=60).astype(np.float32),
      "click": (rng.random(60) < 0.5).astype(np.float32),
      "like": pa.array([like] * 60, pa.float32()),
    }
  )
  examples = Examples.from_table("rows", table, label="click")
  features = fit_features((Numeric("x"),), table)
  task = MultiTaskRanking(
    MultiTask(Separate((3,))),
    (),
    (NumericField("x"),),
    objectives=(Objective("click"), Objective("like")),
  )
  return MultiTaskBench(
    "rows",
    MemoryParts(
      ExampleSplit(examples, examples, examples), features, ("click", "like")
    ),
    task,
    ClassificationProtocol(metrics=("auc", "log_loss")),
    16,
    {},
    seed=0,
  )


def weights_of(bench):
  params, variables = bench.task.init(jax.random.key(0))
  return params | variables


def test_an_auc_of_one_class_is_no_half():
  bench = make(1.0)
  tested = bench.test(weights_of(bench))
  assert np.isnan(tested.metrics["auc/like"])
  assert np.isfinite(tested.metrics["log_loss/like"])
  notes = bench.facts(tested)["notes"]
  assert any(note.startswith("like: auc is undefined") for note in notes)


def test_a_task_without_labels_is_told():
  bench = make(None)
  with pytest.raises(DataError, match="no row has a label of the task 'like'"):
    bench.test(weights_of(bench))
