"""A ranking task with its data at hand, wherever the rows lie."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Shaped

from recjax.data.batches import Batches
from recjax.data.example_parts import ExampleParts
from recjax.errors import ConfigError, DataError
from recjax.evaluation.classification import (
  ClassificationResult,
  evaluate_examples,
)
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.running_judge import RunningJudge, check_in_passing
from recjax.features.fitted import FittedFeatures
from recjax.runs.predictions import (
  Groups,
  Predictions,
  TaskScores,
  save_predictions,
)
from recjax.runs.record import RunRecord
from recjax.runs.reliability_plot import plot_reliability, plot_roc
from recjax.tasks.ranking import Ranking
from recjax.types import Params

PREDICT_BATCH = 8192
"""Examples scored at a time; a matter of speed alone."""


@dataclasses.dataclass(frozen=True)
class TestedExamples(ClassificationResult):
  """What was found, and the scores that it was found of.

  Attributes:
    predictions: of the test rows.
  """

  predictions: Predictions | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class RankingBench:
  """A task with its data at hand.

  Scores, labels and weights of a part that is judged are in memory, and the
  raw columns that metrics and slices ask for; of the features, a batch is. A
  part that is too large for that is judged as it passes by.

  Attributes:
    data_name: of the data set.
    parts: rows of train, validation and test, with their features.
    task: model, tables and loss.
    protocol: how validation and test are judged.
    batch_size: examples of a step.
    slices: features whose values are judged one by one -> their raw column.
    seed: of the order.
  """

  judges_on_mesh = True
  refresher = None

  data_name: str
  parts: ExampleParts
  task: Ranking
  protocol: ClassificationProtocol
  batch_size: int
  slices: Mapping[str, str]
  seed: int

  @property
  def features(self) -> FittedFeatures:
    """Fitted on the training rows."""
    return self.parts.features

  @property
  def data_fingerprint(self) -> str:
    """Of the rows of all parts: raw in memory, encoded on disk."""
    return self.parts.fingerprint

  @functools.cached_property
  def batches(self) -> Batches:
    """The training examples in their order."""
    return self.parts.training_batches(self.batch_size, self.seed)

  @property
  def constants(self) -> dict[str, Any]:
    """None: a step reads its batch alone."""
    return {}

  @functools.cached_property
  def _scores(self):
    return jax.jit(self.task.scores)

  def scores(
    self, weights: Params, part: str
  ) -> Float[np.ndarray, "row *task"]:
    """The logit of every row of a part, in order."""
    weights = jax.device_put(weights)  # Those on a device stay there.
    found = []
    for batch in self.parts.batches(part, PREDICT_BATCH):
      logit = np.asarray(self._scores(weights, batch))
      found.append(logit[batch["where"]])
    return np.concatenate(found)

  @functools.cached_property
  def _base_rate(self) -> float:
    return self.parts.base_rate(weighted=self.protocol.weights == "given")

  def _groups(self, part: str) -> dict[str, Groups]:
    """The columns that the protocol groups rows by."""
    columns = [column for _, _, column in self.protocol.values() if column]
    texts = {column: self.parts.texts(part, column) for column in columns}
    return {
      column: Groups(found.codes, found.values)
      for column, found in texts.items()
    }

  def _predictions(self, tasks: Mapping[str, TaskScores]) -> Predictions:
    """What the record keeps of the test rows."""
    return Predictions(
      tasks,
      self.parts.weights("test"),
      self._groups("test"),
      self.data_fingerprint,
    )

  def _slice_values(self, part: str) -> dict[str, Shaped[np.ndarray, " row"]]:
    """Of each row, the values by which metrics are told one by one."""
    found = {}
    for name, column in self.slices.items():
      texts = self.parts.texts(part, column)
      found[name] = np.array(texts.values, object)[texts.codes]
    return found

  @property
  def _from_logits(self) -> bool:
    return self.task.loss_name == "binary_cross_entropy"

  def _judge(
    self, scores: Float[np.ndarray, " row"], part: str, **options: Any
  ) -> ClassificationResult:
    groups = {
      column: found.codes for column, found in self._groups(part).items()
    }
    return evaluate_examples(
      scores,
      self.parts.labels(part),
      self.parts.weights(part),
      protocol=self.protocol,
      from_logits=self._from_logits,
      base_rate=self._base_rate,
      groups=groups,
      **options,
    )

  def _judge_in_passing(
    self, weights: Params, part: str, **options: Any
  ) -> ClassificationResult:
    """Of rows that are read once and forgotten."""
    weights = jax.device_put(weights)
    judge = RunningJudge(
      self.protocol, from_logits=self._from_logits, base_rate=self._base_rate
    )
    for batch in self.parts.batches(part, PREDICT_BATCH):
      logit = np.asarray(self._scores(weights, batch))
      judge.add(logit, batch["label"], batch.get("weight"), batch["where"])
    if part == "validation":
      judge.warn(f"{self.data_name} validation")  # A test has its notes.
    return judge.result(**options)

  def check_in_passing(self) -> None:
    """Raises ConfigError for what a part that is too large can not have."""
    for part in ("validation", "test"):
      if not self.parts.in_passing(part):
        continue
      check_in_passing(self.protocol, self._too_large(part))
      if part == "test" and self.slices:
        self.refuse_in_passing(part, "slices need all scores at once")

  def refuse_in_passing(self, part: str, what: str) -> None:
    """Raises ConfigError, in these words, where a part is too large for it."""
    if self.parts.in_passing(part):
      raise ConfigError(f"{what}, {self._too_large(part)}")

  def _too_large(self, part: str) -> str:
    return (
      f"and the {self.parts.num_rows(part):,} {part} rows are more than"
      " StreamConfig.exact_rows, so that they are judged as they pass by: raise"
      " it if memory holds their scores, or leave that out."
    )

  def validate(self, weights: Params) -> dict[str, float]:
    """Validation metrics, without intervals."""
    if self.parts.in_passing("validation"):
      found = self._judge_in_passing(weights, "validation", intervals=False)
      return found.metrics
    scores = self.scores(weights, "validation")
    return self._judge(scores, "validation", intervals=False).metrics

  def test(self, weights: Params) -> Any:
    """Test metrics with intervals, floor and slices: a `TestedExamples`."""
    if not self.parts.num_rows("test"):
      raise DataError(f"{self.data_name} has no test rows.")
    if self.parts.in_passing("test"):
      found = self._judge_in_passing(weights, "test")
      return TestedExamples(**vars(found))
    scores = self.scores(weights, "test")
    judged = self._judge(scores, "test", slices=self._slice_values("test"))
    kind = "binary" if self._from_logits else "real"
    found = TaskScores(kind, scores, self.parts.labels("test"))
    return TestedExamples(
      **vars(judged), predictions=self._predictions({"": found})
    )

  def facts(self, tested: TestedExamples) -> dict[str, Any]:
    """What result.json tells besides."""
    return {
      "objective": self.task.loss_name,
      "floor_name": "base rate",
      "num_test_examples": tested.num_examples,
      "num_test_positives": tested.num_positives,
      "notes": [*tested.notes, *left_out(tested.predictions)],
      "features_fingerprint": self.features.fingerprint,
      "slices": {
        name: [dataclasses.asdict(part) for part in parts]
        for name, parts in tested.slices.items()
      },
    }

  def save(self, record: RunRecord, tested: TestedExamples, name: str) -> None:
    """Writes features, predictions, and the plots of calibration and ROC."""
    self.features.save(record.workdir / "features.npz")
    if tested.predictions is not None:
      save_predictions(record.workdir, name, tested.predictions)
    record.plots_dir.mkdir(exist_ok=True)
    if tested.reliability is not None:
      plot_reliability(
        tested.reliability, record.plots_dir / f"{name}-reliability.png"
      )
    if tested.roc is not None:
      curves = {type(self.task.model).__name__: tested.roc}
      plot_roc(curves, record.plots_dir / f"{name}-roc.png")


def left_out(predictions: Predictions | None) -> list[str]:
  """A note where predictions are not kept."""
  reason = predictions.too_many() if predictions is not None else ""
  return [reason] if reason else []
