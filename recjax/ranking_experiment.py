"""Experiments of models that rank labelled examples, such as clicks.

`RankingExperiment` is the root of a gin file and just as well built in a
notebook; `recjax.launch` carries it out.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float

from recjax import files
from recjax.data.example_batches import (
  Columns,
  ExampleBatches,
  encode_examples,
  evaluation_batches,
)
from recjax.data.examples import Examples, ExampleSplit
from recjax.data.prepare import ExampleSource, prepare_examples
from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.errors import ConfigError, DataError, check_choice, check_range
from recjax.evaluation.classification import (
  ClassificationResult,
  evaluate_examples,
)
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.features.encoders import owner
from recjax.features.fitted import FittedFeatures, fit_features
from recjax.features.inference import infer_specs
from recjax.features.specs import MultiHot, Sequence, Spec
from recjax.models.deepfm import DeepFM
from recjax.runs.record import RunRecord
from recjax.runs.reliability_plot import plot_reliability, plot_roc
from recjax.tasks.ranking import NumericField, Ranking
from recjax.train.loop import TrainConfig
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer
from recjax.types import Params

PREDICT_BATCH = 8192
"""Examples scored at a time; a matter of speed alone."""


@dataclasses.dataclass(frozen=True)
class RankingExperiment:
  """Data, features, model, tables, training and protocol of one run.

  Attributes:
    source: where the labelled examples come from, with their split.
    name: of the run, in tables.
    features: specs of the features; () takes every column, see
      `features.inference.infer_specs`.
    min_count: of inferred features: rarer categories are unknown ones.
    linear_only: features that have a weight and no vector, such as the
      crosses of Wide&Deep.
    model: of `recjax.models`, with `groups`.
    tables: of all groups of the model.
    group_tables: (group, settings) pairs for groups that differ.
    loss: "binary_cross_entropy" or "squared_error".
    batch_size: examples of a step.
    optimizer: optax by parameter path.
    train: how long, how often; `select` names a metric of the protocol of
      which more is better.
    mesh: devices.
    protocol: how the test part is judged, and the validation part alike.
    slices: features whose values the test metrics are given for one by one.
    seed: of everything random.
  """

  source: ExampleSource
  name: str = "ranking"
  features: tuple[Spec, ...] = ()
  min_count: int = 1
  linear_only: tuple[str, ...] = ()
  model: nn.Module = DeepFM()
  tables: TableSettings = TableSettings()
  group_tables: tuple[tuple[str, TableSettings], ...] = ()
  loss: str = "binary_cross_entropy"
  batch_size: int = 4096
  optimizer: Optimizer = Optimizer()
  train: TrainConfig = TrainConfig(select="auc")
  mesh: MeshConfig = MeshConfig()
  protocol: ClassificationProtocol = ClassificationProtocol()
  slices: tuple[str, ...] = ()
  seed: int = 0

  def __post_init__(self):
    owner_name = "RankingExperiment"
    check_range(f"{owner_name}.batch_size", self.batch_size, 1, integer=True)
    check_range(f"{owner_name}.min_count", self.min_count, 1, integer=True)
    check_range(f"{owner_name}.seed", self.seed, 0, 2**31 - 1, integer=True)
    if not isinstance(self.source, ExampleSource):
      raise ConfigError(
        "RankingExperiment.source must be a source of labelled examples such"
        f" as @frappe.Frappe(); got {self.source!r}."
      )

  def open(
    self, data_dir: files.PathLike, cache_dir: files.PathLike | None = None
  ) -> "RankingBench":
    """Prepares the data and everything that hangs on it.

    Args:
      data_dir: the folder of raw data sets.
      cache_dir: where prepared data lie.

    Returns:
      The bench.
    """
    split = prepare_examples(self.source, data_dir, cache_dir)
    table = split.train.table
    specs = self.features or infer_specs(
      table.schema,
      leave_out=(split.train.label, split.train.weight),
      min_count=self.min_count,
    )
    features = fit_features(specs, table)
    for name in (*self.linear_only, *self.slices):
      check_choice("a feature of RankingExperiment", name, features.names)
    task = Ranking(
      self.model,
      categorical_fields(features, self.linear_only),
      tuple(
        NumericField(name, *features.shape(name)) for name in features.dense
      ),
      (("", self.tables), *self.group_tables),
      self.loss,
    )
    protocol = dataclasses.replace(self.protocol, split=self.source.name)
    return RankingBench(
      self.source.name,
      split,
      features,
      task,
      protocol,
      self.batch_size,
      self.slices,
      self.seed,
    )


def categorical_fields(
  features: FittedFeatures, linear_only: tuple[str, ...] = ()
) -> tuple[CategoricalField, ...]:
  """The features of ids as tables see them; lists are averaged.

  By their ListWeights, where there are such.
  """
  weights = features.list_weights
  fields = []
  for name in features.categorical:
    spec = features.spec(name)
    shared = owner(spec)
    fields.append(
      CategoricalField(
        name,
        features.num_ids(name),
        combiner="mean" if isinstance(spec, MultiHot | Sequence) else "none",
        weights=weights.get(name, ""),
        groups=("linear",) if name in linear_only else (),
        shares=shared if shared != name else "",
      )
    )
  return tuple(fields)


@dataclasses.dataclass(frozen=True, eq=False)
class RankingBench:
  """A task with its data at hand.

  Attributes:
    data_name: of the data set.
    split: labelled rows of train, validation and test.
    features: fitted on the training rows.
    task: model, tables and loss.
    protocol: how both other parts are judged.
    batch_size: examples of a step.
    slices: features whose values are judged one by one.
    seed: of the order.
  """

  data_name: str
  split: ExampleSplit
  features: FittedFeatures
  task: Ranking
  protocol: ClassificationProtocol
  batch_size: int
  slices: tuple[str, ...]
  seed: int

  @property
  def data_fingerprint(self) -> str:
    """Of the rows of all parts."""
    return self.split.fingerprint

  @functools.cached_property
  def batches(self) -> ExampleBatches:
    """The training examples in their order."""
    return ExampleBatches(
      encode_examples(self.features, self.split.train),
      batch_size=self.batch_size,
      seed=self.seed,
    )

  @property
  def constants(self) -> dict[str, Any]:
    """None: a step reads its batch alone."""
    return {}

  @functools.cached_property
  def _validation(self) -> Columns:
    return encode_examples(self.features, self.split.validation)

  @functools.cached_property
  def _scores(self):
    return jax.jit(self.task.scores)

  def scores(
    self, weights: Params, columns: Columns
  ) -> Float[np.ndarray, " row"]:
    """The logit of every row."""
    weights = jax.device_put(weights)
    parts = []
    for batch in evaluation_batches(columns, PREDICT_BATCH):
      logit = np.asarray(self._scores(weights, batch))
      parts.append(logit[batch["where"]])
    return np.concatenate(parts)

  def _judge(
    self, weights: Params, examples: Examples, columns: Columns, **options: Any
  ) -> ClassificationResult:
    groups = {
      column: examples.column(column)
      for _, _, column in self.protocol.values()
      if column
    }
    train = self.split.train
    weight = train.weights if self.protocol.weights == "given" else None
    return evaluate_examples(
      self.scores(weights, columns),
      columns["label"],
      columns.get("weight"),
      protocol=self.protocol,
      from_logits=self.task.loss_name == "binary_cross_entropy",
      base_rate=float(np.average(train.labels, weights=weight)),
      groups=groups,
      **options,
    )

  def validate(self, weights: Params) -> dict[str, float]:
    """Validation metrics, without intervals."""
    return self._judge(
      weights, self.split.validation, self._validation, intervals=False
    ).metrics

  def test(self, weights: Params) -> ClassificationResult:
    """Test metrics with intervals, floor and slices."""
    test = self.split.test
    if not len(test):
      raise DataError(f"{self.data_name} has no test rows.")
    slices = {name: self._values(test, name) for name in self.slices}
    columns = encode_examples(self.features, test)
    return self._judge(weights, test, columns, slices=slices)

  def _values(self, examples: Examples, name: str) -> np.ndarray:
    """The raw values of a feature's column, as text."""
    column = getattr(self.features.spec(name), "column", "") or name
    return np.asarray(examples.column(column)).astype(str)

  def facts(self, tested: ClassificationResult) -> dict[str, Any]:
    """What result.json tells besides."""
    return {
      "objective": self.task.loss_name,
      "floor_name": "base rate",
      "num_test_examples": tested.num_examples,
      "num_test_positives": tested.num_positives,
      "notes": list(tested.notes),
      "features_fingerprint": self.features.fingerprint,
      "slices": {
        name: [dataclasses.asdict(part) for part in parts]
        for name, parts in tested.slices.items()
      },
    }

  def save(
    self, record: RunRecord, tested: ClassificationResult, name: str
  ) -> None:
    """Writes the fitted features, and the plots of calibration and ROC."""
    self.features.save(record.workdir / "features.npz")
    record.plots_dir.mkdir(exist_ok=True)
    if tested.reliability is not None:
      plot_reliability(
        tested.reliability, record.plots_dir / f"{name}-reliability.png"
      )
    if tested.roc is not None:
      curves = {type(self.task.model).__name__: tested.roc}
      plot_roc(curves, record.plots_dir / f"{name}-roc.png")
