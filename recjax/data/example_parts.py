"""Labelled rows with their fitted features: held in memory, or on disk.

Whatever trains and judges a ranking model reads its rows through
`ExampleParts`, and does not see where they lie.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from recjax import files
from recjax.data.batches import Batches
from recjax.data.example_batches import (
  Columns,
  ExampleBatches,
  encode_examples,
  evaluation_batches,
)
from recjax.data.example_blocks import (
  BlockSource,
  Texts,
  TextsBuilder,
  ahead,
  read_texts,
)
from recjax.data.example_shards import EncodedExamples
from recjax.data.example_stream import StreamConfig, StreamSplit
from recjax.data.examples import Examples, ExampleSplit
from recjax.data.label_columns import label_key
from recjax.data.stream_batches import StreamBatches, stream_evaluation_batches
from recjax.errors import DataError
from recjax.features.fitted import FittedFeatures

Batch = dict[str, Any]
Numbers = Float32[np.ndarray, " row"]


@runtime_checkable
class ExampleParts(Protocol):
  """Rows of "train", "validation" and "test", and what encodes them."""

  @property
  def features(self) -> FittedFeatures:
    """Fitted on the training rows."""
    ...

  @property
  def fingerprint(self) -> str:
    """Of the rows of all parts."""
    ...

  def num_rows(self, part: str) -> int:
    """How many rows a part has."""
    ...

  def training_batches(self, batch_size: int, seed: int) -> Batches:
    """The training rows in their order."""
    ...

  def batches(self, part: str, batch_size: int) -> Iterator[Batch]:
    """All rows of a part in order, in batches of one shape, with "where"."""
    ...

  def labels(self, part: str) -> Numbers:
    """The label of each row of a part."""
    ...

  def weights(self, part: str) -> Numbers | None:
    """The weight of each row of a part, or None."""
    ...

  def base_rate(self, *, weighted: bool) -> float:
    """The mean label of the training rows."""
    ...

  def texts(self, part: str, column: str) -> Texts:
    """A raw column of "validation" or "test" as text."""
    ...

  def numbers(self, part: str, column: str) -> Numbers:
    """A raw column of a part as float32; NaN where it is null."""
    ...

  def number_blocks(
    self, part: str, columns: Sequence[str]
  ) -> Iterator[dict[str, Numbers]]:
    """Such columns, some rows at a time."""
    ...

  def weighted_blocks(
    self, part: str, columns: Sequence[str]
  ) -> Iterator[tuple[dict[str, Numbers], Numbers | None]]:
    """As `number_blocks`, with the weights of the rows, or None."""
    ...

  def in_passing(self, part: str) -> bool:
    """Whether a part is too large for the scores of all its rows in memory."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryParts:
  """Raw columns in memory, which are encoded in one go.

  Attributes:
    split: labelled rows.
    features: fitted on the training rows.
    label_columns: further labels, "label/COLUMN" in a batch.
  """

  split: ExampleSplit
  features: FittedFeatures
  label_columns: tuple[str, ...] = ()

  @property
  def fingerprint(self) -> str:
    """Of the raw rows of all parts."""
    return self.split.fingerprint

  def num_rows(self, part: str) -> int:
    """How many rows a part has."""
    return len(self._examples(part))

  def training_batches(self, batch_size: int, seed: int) -> ExampleBatches:
    """The training rows in their order."""
    columns = self._encoded("train")
    return ExampleBatches(columns, batch_size=batch_size, seed=seed)

  def batches(self, part: str, batch_size: int) -> Iterator[Batch]:
    """All rows of a part in order, in batches of one shape, with "where"."""
    if part == "validation":
      return evaluation_batches(self._validation, batch_size)
    return evaluation_batches(self._encoded(part), batch_size)

  @functools.cached_property
  def _validation(self) -> Columns:
    """Kept, since every epoch looks at it."""
    return self._encoded("validation")

  def _encoded(self, part: str) -> Columns:
    examples = self._examples(part)
    return encode_examples(self.features, examples, self.label_columns)

  def labels(self, part: str) -> Numbers:
    """The label of each row of a part."""
    return self._examples(part).labels

  def weights(self, part: str) -> Numbers | None:
    """The weight of each row of a part, or None."""
    return self._examples(part).weights

  def base_rate(self, *, weighted: bool) -> float:
    """The mean label of the training rows."""
    train = self.split.train
    weights = train.weights if weighted else None
    labels = train.labels.astype(np.float64)
    return float(np.average(labels, weights=weights))

  def texts(self, part: str, column: str) -> Texts:
    """A raw column of a part as text."""
    key = part, column
    if key not in self._texts:
      builder = TextsBuilder()
      builder.add(self._examples(part).table.column(column))
      self._texts[key] = builder.finish()
    return self._texts[key]

  @functools.cached_property
  def _texts(self) -> dict[tuple[str, str], Texts]:
    return {}

  def numbers(self, part: str, column: str) -> Numbers:
    """A raw column of a part as float32; NaN where it is null."""
    return self._examples(part).numbers(column)

  def number_blocks(
    self, part: str, columns: Sequence[str]
  ) -> Iterator[dict[str, Numbers]]:
    """Such columns of all rows at once."""
    if self.num_rows(part):
      yield {column: self.numbers(part, column) for column in columns}

  def weighted_blocks(
    self, part: str, columns: Sequence[str]
  ) -> Iterator[tuple[dict[str, Numbers], Numbers | None]]:
    """As `number_blocks`, with the weights of the rows, or None."""
    for block in self.number_blocks(part, columns):
      yield block, self.weights(part)

  def in_passing(self, part: str) -> bool:
    """Never: all rows are in memory."""
    del part
    return False

  def _examples(self, part: str) -> Examples:
    return getattr(self.split, part)


@dataclasses.dataclass(frozen=True, eq=False)
class StreamParts:
  """Encoded columns on disk; memory holds a window of them in training.

  Attributes:
    split: encoded rows.
    source: that they were made from.
    data_dir: the folder in which the source looks for its files.
    config: how they are read.
    text_columns: raw columns that may be asked for; they are not kept on
      disk, so the source is read once more for them.
    label_columns: further labels of a training batch, "label/COLUMN"; those
      that are encoded besides are in other batches alone.
  """

  split: StreamSplit
  source: BlockSource
  data_dir: files.PathLike
  config: StreamConfig = StreamConfig()
  text_columns: Sequence[str] = ()
  label_columns: tuple[str, ...] = ()

  @property
  def features(self) -> FittedFeatures:
    """Fitted on the training rows."""
    return self.split.features

  @property
  def fingerprint(self) -> str:
    """Of the encoded rows of all parts."""
    return self.split.fingerprint

  def num_rows(self, part: str) -> int:
    """How many rows a part has."""
    return len(self._examples(part))

  def training_batches(self, batch_size: int, seed: int) -> StreamBatches:
    """The training rows in their order."""
    train = self.split.train
    left_out = self.split.labels - {label_key(n) for n in self.label_columns}
    columns = {k: v for k, v in train.columns.items() if k not in left_out}
    return StreamBatches(
      dataclasses.replace(train, columns=columns),
      batch_size=batch_size,
      seed=seed,
      window_rows=self.config.window_rows,
      num_lanes=self.config.num_lanes,
    )

  def batches(self, part: str, batch_size: int) -> Iterator[Batch]:
    """All rows of a part in order, in batches of one shape, with "where"."""
    return ahead(stream_evaluation_batches(self._examples(part), batch_size))

  def labels(self, part: str) -> Numbers:
    """The label of each row of a part."""
    return self._column(part, "label")

  def weights(self, part: str) -> Numbers | None:
    """The weight of each row of a part, or None."""
    if "weight" not in self._examples(part).columns:
      return None
    return self._column(part, "weight")

  def base_rate(self, *, weighted: bool) -> float:
    """The mean label of the training rows."""
    return self._base_rates[weighted]

  @functools.cached_property
  def _base_rates(self) -> tuple[float, float]:
    """Without weights and with them; of a group of rows at a time."""
    train = self.split.train
    names = ("label", "weight") if "weight" in train.columns else ("label",)
    sums = np.zeros(3)
    for columns in train.scan(names):
      label = columns["label"].astype(np.float64)
      weight = columns.get("weight", np.ones_like(label))
      sums += label.sum(), (label * weight).sum(), weight.sum()
    return float(sums[0] / len(train)), float(sums[1] / sums[2])

  def texts(self, part: str, column: str) -> Texts:
    """A raw column of "validation" or "test" as text.

    Raises:
      DataError: the source has other rows than when it was encoded.
    """
    found = self._texts[part][column]
    if len(found.codes) != self.num_rows(part):
      raise DataError(
        f"{self.source.name} has {len(found.codes)} rows for {part} and had"
        f" {self.num_rows(part)} when it was encoded: its files have changed."
      )
    return found

  @functools.cached_property
  def _texts(self) -> dict[str, dict[str, Texts]]:
    folder = pathlib.Path(self.data_dir)
    return read_texts(self.source, folder, self.text_columns)

  def numbers(self, part: str, column: str) -> Numbers:
    """A column of labels of a part as float32; NaN where it is null."""
    return self._column(part, label_key(column))

  def number_blocks(
    self, part: str, columns: Sequence[str]
  ) -> Iterator[dict[str, Numbers]]:
    """Such columns, a group of rows at a time."""
    for block, _ in self._blocks(part, columns, ()):
      yield block

  def weighted_blocks(
    self, part: str, columns: Sequence[str]
  ) -> Iterator[tuple[dict[str, Numbers], Numbers | None]]:
    """As `number_blocks`, with the weights of the rows, or None."""
    weighted = "weight" in self._examples(part).columns
    yield from self._blocks(part, columns, ("weight",) if weighted else ())

  def _blocks(self, part: str, columns: Sequence[str], more: tuple[str, ...]):
    keys = [label_key(column) for column in columns]
    for group in self._examples(part).scan([*keys, *more]):
      block = dict(zip(columns, (group[key] for key in keys)))
      yield block, group.get("weight")

  def in_passing(self, part: str) -> bool:
    """Whether a part has more than `StreamConfig.exact_rows` rows."""
    return self.num_rows(part) > self.config.exact_rows

  def _column(self, part: str, name: str) -> Numbers:
    columns = self._examples(part).scan([name])
    parts = [np.zeros(0, np.float32), *(c[name] for c in columns)]
    return np.concatenate(parts)

  def _examples(self, part: str) -> EncodedExamples:
    return getattr(self.split, part)
