"""Examples larger than memory: converted once, then read from disk.

`prepare_stream` reads a source block by block. A first pass fits the features
on the training rows; a second one encodes all rows into shards (see
`example_shards`). Both need memory for a few blocks and for the vocabularies,
whatever the number of rows. The second pass notes every finished shard with
the place in the source behind it: a conversion that is killed goes on from
there, and ends with the files of an unbroken one.
"""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from absl import logging

from recjax import files, progress
from recjax.data import fingerprint as fingerprints
from recjax.data.example_blocks import BlockSource, ahead, training_blocks
from recjax.data.example_shards import EncodedExamples, ShardWriter
from recjax.data.examples import PARTS, column_numbers
from recjax.data.label_columns import (
  LabelRule,
  check_labels,
  check_names,
  label_key,
  label_names,
)
from recjax.data.prepare import cache_entry, find_or_make
from recjax.errors import DataError, check_range
from recjax.features.fitted import FittedFeatures, fit_features
from recjax.features.specs import Spec, check_specs

GROUP_ROWS = 1 << 14
SHARD_ROWS = 1 << 20


@dataclasses.dataclass(frozen=True)
class StreamConfig:
  """How examples lie on disk, and how they are read from there.

  Attributes:
    window_rows: rows that lie in memory in training, about, out of which
      batches are drawn; see `stream_batches`.
    num_lanes: lanes in which they are read; divides the batch size, and
      processes share them.
    group_rows: rows that are read at once.
    shard_rows: rows of a file, at least, and after which a conversion notes
      how far it is.
    exact_rows: a part of at most so many rows is judged by all scores and
      labels at once, which are in memory then; a larger one as they pass by,
      see `recjax.evaluation.running_judge`.
  """

  window_rows: int = 1 << 20
  num_lanes: int = 8
  group_rows: int = GROUP_ROWS
  shard_rows: int = SHARD_ROWS
  exact_rows: int = 10_000_000

  def __post_init__(self):
    for field in dataclasses.fields(self):
      name = f"StreamConfig.{field.name}"
      check_range(name, getattr(self, field.name), 1, integer=True)


@dataclasses.dataclass(frozen=True, eq=False)
class StreamSplit:
  """Encoded examples on disk, and what encoded them.

  Attributes:
    features: fitted on the training rows.
    train: to train on.
    validation: it may be empty.
    test: it may be empty.
  """

  features: FittedFeatures
  train: EncodedExamples
  validation: EncodedExamples
  test: EncodedExamples

  @property
  def labels(self) -> frozenset[str]:
    """The encoded columns that are further labels."""
    prefix = label_key("")
    return frozenset(k for k in self.train.columns if k.startswith(prefix))

  @property
  def fingerprint(self) -> str:
    """Of the encoded rows of the three parts."""
    facts = {f"{part} {getattr(self, part).fingerprint}": 1 for part in PARTS}
    return fingerprints.fingerprint({}, facts)

  @classmethod
  def load(cls, directory: files.PathLike) -> "StreamSplit":
    """Opens what `prepare_stream` wrote.

    Raises:
      DataError: a file is missing or truncated; it is named.
    """
    folder = pathlib.Path(directory)
    parts = (EncodedExamples.load(folder / part) for part in PARTS)
    return cls(FittedFeatures.load(folder / "features.npz"), *parts)


def prepare_stream(
  source: BlockSource,
  features: Sequence[Spec],
  data_dir: files.PathLike = ".",
  cache_dir: files.PathLike | None = None,
  *,
  labels: Sequence[LabelRule] = (),
  group_rows: int = GROUP_ROWS,
  shard_rows: int = SHARD_ROWS,
) -> StreamSplit:
  """Fits features and encodes all rows, once; ever after, opens the cache.

  An entry of the cache is keyed by the settings of the source, the content of
  its files, the features, the columns of labels and the sizes; it appears
  whole or not at all. What labels must hold is looked at while they are
  encoded: an entry that was made under other rules may break these.

  Args:
    source: what to read.
    features: what each feature is.
    data_dir: the folder in which the source looks for its files.
    cache_dir: where prepared data is kept; see `prepare.default_cache_dir`.
    labels: of further columns, which are kept as "label/COLUMN"; NaN where one
      is null.
    group_rows: rows that are read at once in training.
    shard_rows: rows of a file, at least, and after which progress is noted.

  Returns:
    The three parts, on disk.

  Raises:
    ConfigError: the features contradict each other.
    DataError: what the source finds wrong, a value can not be encoded, or a
      label breaks its rule; the row is named.
  """
  check_range("group_rows", group_rows, 1, integer=True)
  check_range("shard_rows", shard_rows, 1, integer=True)
  features = check_specs(features)
  data_dir = pathlib.Path(data_dir)
  names = [list(label_names(labels))] if labels else []
  more = [list(features), group_rows, shard_rows, *names]
  entry = cache_entry(source, data_dir, cache_dir, more)

  def make() -> None:
    work = entry.with_name(f".partial-{entry.name}")
    work.mkdir(parents=True, exist_ok=True)
    convert = lambda: _convert(
      source, features, labels, data_dir, work, group_rows, shard_rows
    )
    try:
      convert()
    except _Outdated as error:
      logging.warning("the conversion starts anew: %s", error)
      shutil.rmtree(work)
      work.mkdir()
      convert()
    shutil.rmtree(entry, ignore_errors=True)  # It is there only if broken.
    os.replace(work, entry)

  return find_or_make(entry, StreamSplit.load, make)


class _Outdated(Exception):
  """What an unfinished conversion left can not be used."""


def _convert(
  source: BlockSource,
  features: tuple[Spec, ...],
  labels: Sequence[LabelRule],
  data_dir: pathlib.Path,
  work: pathlib.Path,
  group_rows: int,
  shard_rows: int,
) -> None:
  """Fits and encodes, or goes on with it."""
  note = work / "progress.json"
  done, fitted = _read_progress(work)
  if fitted is None:
    fitted = fit_features(features, training_blocks(source, data_dir))
    fitted.save(work / "features.npz")
  states: dict[str, Any] = done["parts"]
  try:
    writers = {
      part: ShardWriter(work / part, group_rows, states.get(part))
      for part in PARTS
    }
  except DataError as error:
    raise _Outdated(str(error)) from error

  def commit(position: dict[str, int]) -> None:
    for writer in writers.values():
      writer.finish_shard()
    parts = {part: writer.state for part, writer in writers.items()}
    files.write_json_atomically(note, {"position": position, "parts": parts})

  num_new = 0
  position = done["position"]
  try:
    with progress.progress_bar(f"encoding {source.name}", unit="rows") as bar:
      for block in ahead(source.blocks(data_dir, position)):
        for part, table in block.parts.items():
          columns = _encode(source, fitted, table, writers[part])
          first_row = writers[part].state["rows"]
          name = f"{source.name} {part}"
          columns |= _labels(labels, table, name, part, first_row)
          writers[part].add(columns)
          num_new += table.num_rows
          bar.advance(table.num_rows)
        position = block.position
        if num_new >= shard_rows:
          commit(position)
          num_new = 0
    if position is None:
      raise DataError(f"{source.name}: there is not one row.")
    commit(position)
  finally:
    for writer in writers.values():
      writer.close()
  columns = writers["train"].state["columns"]
  for part, writer in writers.items():
    writer.finish(f"{source.name} {part}", columns)
  note.unlink()


def _encode(
  source: BlockSource, fitted: FittedFeatures, table: Any, writer: ShardWriter
) -> dict[str, Any]:
  try:
    columns = fitted.encode(table)
  except DataError as error:
    raise DataError(
      f"{source.name}: {error} (Rows count from row"
      f" {writer.state['rows']} of this part.)"
    ) from error
  columns["label"] = table.column(source.label_column).to_numpy()
  if source.weight_column:
    columns["weight"] = table.column(source.weight_column).to_numpy()
  return columns


def _labels(
  rules: Sequence[LabelRule], table: Any, name: str, part: str, first_row: int
) -> dict[str, Any]:
  """The further labels of a block, after a look at what they hold."""
  check_names(rules, table.column_names, name)
  where = lambda row: f"{name}, row {first_row + row}"
  values = {
    column: column_numbers(table.column(column), column, where)
    for column in label_names(rules)
  }
  check_labels(rules, values, name=name, part=part, first_row=first_row)
  return {label_key(column): found for column, found in values.items()}


def _read_progress(
  work: pathlib.Path,
) -> tuple[dict[str, Any], FittedFeatures | None]:
  """Where an earlier conversion stopped, and its features."""
  nothing: dict[str, Any] = {"position": None, "parts": {}}
  try:
    fitted = FittedFeatures.load(work / "features.npz")
  except DataError:
    return nothing, None
  try:
    done = json.loads((work / "progress.json").read_text("utf-8"))
    return {"position": done["position"], "parts": done["parts"]}, fitted
  except FileNotFoundError:
    return nothing, fitted
  except (ValueError, KeyError, TypeError) as error:
    raise _Outdated(f"{work / 'progress.json'} is corrupt: {error}") from error
