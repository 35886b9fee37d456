"""Experiments of models that rank labelled examples, such as clicks.

`RankingExperiment` is the root of a gin file and just as well built in a
notebook; `recjax.launch` carries it out.
"""

import dataclasses
import pathlib
from typing import Any

import flax.linen as nn
import pyarrow as pa

from recjax import files
from recjax.data.example_blocks import BlockSource, first_schema
from recjax.data.example_parts import ExampleParts, MemoryParts, StreamParts
from recjax.data.example_stream import StreamConfig, prepare_stream
from recjax.data.label_columns import LabelRule, check_names, label_names
from recjax.data.prepare import ExampleSource, prepare_examples
from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.errors import ConfigError, DataError, check_choice, check_range
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.running_judge import binned
from recjax.features.encoders import owner
from recjax.features.fitted import FittedFeatures, fit_features
from recjax.features.inference import infer_specs
from recjax.features.specs import (
  Bucketized,
  Categorical,
  MultiHot,
  Numeric,
  Sequence,
  Spec,
)
from recjax.models.deepfm import DeepFM
from recjax.ranking_bench import RankingBench
from recjax.tasks.ranking import NumericField, Ranking
from recjax.train.loop import LAST, TrainConfig
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer


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
    train: how long, how often; `select` names a metric of the protocol, or is
      "last".
    mesh: devices.
    protocol: how the test part is judged, and the validation part alike.
    slices: features whose values the test metrics are given for one by one.
    stream: leaves the rows on disk, for data larger than memory, and takes
      the feed "grain"; None holds them in memory.
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
  stream: StreamConfig | None = None
  seed: int = 0

  def __post_init__(self):
    owner_name = type(self).__name__
    check_range(f"{owner_name}.batch_size", self.batch_size, 1, integer=True)
    check_range(f"{owner_name}.min_count", self.min_count, 1, integer=True)
    check_range(f"{owner_name}.seed", self.seed, 0, 2**31 - 1, integer=True)
    if not isinstance(self.source, ExampleSource):
      raise ConfigError(
        "RankingExperiment.source must be a source of labelled examples such"
        f" as @frappe.Frappe(); got {self.source!r}."
      )
    if self.protocol.auc_bins:
      raise ConfigError(
        f"{owner_name}.protocol: auc_bins tells how test rows were judged, and"
        " is not to be set: StreamConfig.exact_rows says which rows pass by;"
        f" got {self.protocol.auc_bins}."
      )
    names = (*self._metric_names(), LAST)
    check_choice("TrainConfig.select", self.train.select, names)
    if self.stream is not None:
      self._check_stream(self.stream)

  def _metric_names(self) -> list[str]:
    """What a validation tells."""
    return [key for key, _, _ in self.protocol.values()]

  def _check_stream(self, stream: StreamConfig) -> None:
    if not isinstance(self.source, BlockSource):
      raise ConfigError(
        f"{type(self).__name__}.stream needs a source that is read block by"
        " block, such as Criteo, AliCcp, AliExpress or ExampleTable; got"
        f" {type(self.source).__name__}. Leave `stream` away to hold its rows"
        " in memory."
      )
    if self.batch_size % stream.num_lanes:
      raise ConfigError(
        "RankingExperiment.batch_size must be a multiple of"
        f" StreamConfig.num_lanes={stream.num_lanes}; got {self.batch_size}."
      )
    if self.train.feed == "device":
      raise ConfigError(
        "TrainConfig.feed='device' holds all rows in device memory, and"
        " RankingExperiment.stream leaves them on disk: use feed='grain' or"
        " 'auto', or leave `stream` away."
      )
    # Not even where the device has room for them: that is what was asked for.
    train = dataclasses.replace(self.train, feed="grain")
    object.__setattr__(self, "train", train)

  def open(
    self, data_dir: files.PathLike, cache_dir: files.PathLike | None = None
  ) -> RankingBench:
    """Prepares the data and everything that hangs on it.

    Args:
      data_dir: the folder of raw data sets.
      cache_dir: where prepared data lie.

    Returns:
      The bench.
    """
    opened = self._in_memory if self.stream is None else self._on_disk
    parts = opened(data_dir, cache_dir)
    for part in ("validation", "test"):
      if not parts.num_rows(part):
        raise DataError(
          f"{self.source.name} has no {part} rows, by which a run is judged:"
          f" give {type(self.source).__name__} some."
        )
    found = self._check_parts(parts)
    select = f"best validation {self.train.select.replace('auc', 'AUC')}"
    if self.train.select == LAST:
      select = "last weights"
    protocol = dataclasses.replace(
      self.protocol,
      split=self.source.name,
      selection=self.protocol.selection or select,
    )
    if parts.in_passing("test"):
      protocol = binned(protocol)
    features = parts.features
    bench = self._bench(
      data_name=self.source.name,
      parts=parts,
      fields=categorical_fields(features, self.linear_only),
      numeric=tuple(
        NumericField(name, *features.shape(name)) for name in features.dense
      ),
      protocol=protocol,
      slices={name: slice_column(features.spec(name)) for name in self.slices},
      **found,
    )
    bench.check_in_passing()
    return bench

  def _check_parts(self, parts: ExampleParts) -> dict[str, Any]:
    """Looks at what rows hold; gives what the bench is to know of it."""
    del parts
    return {}

  def _bench(self, *, fields, numeric, **options: Any) -> RankingBench:
    """The task beside its data."""
    task = Ranking(self.model, fields, numeric, self._all_tables, self.loss)
    return RankingBench(
      task=task, batch_size=self.batch_size, seed=self.seed, **options
    )

  @property
  def _all_tables(self) -> tuple[tuple[str, TableSettings], ...]:
    return (("", self.tables), *self.group_tables)

  def _in_memory(
    self, data_dir: files.PathLike, cache_dir: files.PathLike | None
  ) -> MemoryParts:
    split = prepare_examples(self.source, data_dir, cache_dir)
    train = split.train
    specs = self._specs(
      train.table.schema, (train.label, train.weight, *self._no_features)
    )
    self._judged_columns(specs, train.table.schema)
    return MemoryParts(
      split, fit_features(specs, train.table), self._label_columns
    )

  @property
  def _label_rules(self) -> tuple[LabelRule, ...]:
    """What further labels of a row must hold."""
    return ()

  @property
  def _label_columns(self) -> tuple[str, ...]:
    """Further labels of a row that a step reads."""
    return label_names(self._label_rules, in_batch=True)

  @property
  def _no_features(self) -> tuple[str, ...]:
    """Columns that the source has for other ends."""
    source: Any = self.source
    return (
      *getattr(source, "label_columns", ()),
      *getattr(source, "mask_columns", ()),
    )

  def _on_disk(
    self, data_dir: files.PathLike, cache_dir: files.PathLike | None
  ) -> StreamParts:
    source: Any = self.source
    stream = self.stream or StreamConfig()
    schema = first_schema(source, pathlib.Path(data_dir))
    specs = self._specs(
      schema, (source.label_column, source.weight_column, *self._no_features)
    )
    columns = self._judged_columns(specs, schema)
    check_names(self._label_rules, schema.names, source.name)
    split = prepare_stream(
      source,
      specs,
      data_dir,
      cache_dir,
      labels=self._label_rules,
      group_rows=stream.group_rows,
      shard_rows=stream.shard_rows,
    )
    labels = self._label_columns
    return StreamParts(split, source, data_dir, stream, columns, labels)

  def _specs(
    self, schema: pa.Schema, leave_out: tuple[str, ...]
  ) -> tuple[Spec, ...]:
    """The features that are named, or all columns."""
    specs = self.features or infer_specs(
      schema, leave_out=leave_out, min_count=self.min_count
    )
    names = [spec.name for spec in specs]
    for name in (*self.linear_only, *self.slices):
      check_choice("a name of linear_only or slices", name, names)
    return specs

  def _judged_columns(
    self, specs: tuple[Spec, ...], schema: pa.Schema
  ) -> tuple[str, ...]:
    """The raw columns that metrics and slices ask for."""
    columns = [slice_column(s) for s in specs if s.name in self.slices]
    for key, _, column in self.protocol.values():
      if column:
        check_choice(f"the column of {key!r}", column, schema.names)
        columns.append(column)
    return tuple(dict.fromkeys(columns))


def slice_column(spec: Spec) -> str:
  """The raw column by whose values a feature parts the examples.

  Raises:
    ConfigError: the feature has several values a row.
  """
  if not isinstance(spec, Categorical | Bucketized | Numeric):
    raise ConfigError(
      f"RankingExperiment.slices: {spec.name!r} is a {type(spec).__name__};"
      " examples are parted by features of one value, which are Categorical,"
      " Bucketized and Numeric."
    )
  return spec.column


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
