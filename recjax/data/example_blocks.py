"""Labelled rows block by block, for data that does not fit into memory.

Where no files are given for validation or test, rows are dealt out at random
by their number: row r is for test if u(r) < test, for validation if
u(r) < test + validation, with u(r) in [0, 1) a hash of the seed and r (see
`recjax.features.hashing.uniform`). So the parts are the same however the rows
are cut into blocks, and their sizes differ from the shares by chance.
"""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int8, Int32

from recjax import progress
from recjax.data.examples import PARTS, Examples, ExampleSplit
from recjax.errors import DataError, check_range
from recjax.features import hashing

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
  """Consecutive rows of a source.

  Attributes:
    parts: "train", "validation", "test" -> the rows that belong to it; label
      and weight are checked and float32.
    position: JSON values; reading goes on after this block from there.
  """

  parts: dict[str, pa.Table]
  position: dict[str, int]


@runtime_checkable
class BlockSource(Protocol):
  """Where blocks come from; a frozen dataclass of settings."""

  @property
  def name(self) -> str:
    """How reports call the data set."""
    ...

  @property
  def label_column(self) -> str:
    """The column of labels."""
    ...

  @property
  def weight_column(self) -> str:
    """The column of weights, or ""."""
    ...

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files that are read; empty where the data is generated."""
    ...

  def blocks(
    self, data_dir: pathlib.Path, position: dict[str, int] | None = None
  ) -> Iterator[Block]:
    """All rows in order, from the start or from a block's position."""
    ...


@dataclasses.dataclass(frozen=True)
class RandomParts:
  """Shares of rows that are dealt out at random.

  Attributes:
    validation: share, in [0, 1).
    test: share, in [0, 1).
    seed: of the draw.
  """

  validation: float | int = 0.1
  test: float | int = 0.1
  seed: int = 0

  def __post_init__(self):
    check_range("the share of validation", self.validation, 0, 0.999)
    check_range("the share of test", self.test, 0, 0.999)
    check_range("seed", self.seed, 0, integer=True)
    both = self.validation + self.test
    check_range("the shares of validation and test together", both, 0, 0.999)

  def of_rows(self, first_row: int, num_rows: int) -> Int8[np.ndarray, " row"]:
    """The place in PARTS of each of consecutive rows."""
    parts = np.zeros(num_rows, np.int8)
    if not self.validation and not self.test:
      return parts
    draw = hashing.uniform(self.seed, first_row, num_rows)
    # The upper 53 bits make an exact float.
    share = (draw >> np.uint64(11)).astype(np.float64) / 2.0**53
    parts[share < self.test + self.validation] = PARTS.index("validation")
    parts[share < self.test] = PARTS.index("test")
    return parts

  def split(self, table: pa.Table, first_row: int) -> dict[str, pa.Table]:
    """Deals out the rows of a block; parts without a row are left out."""
    parts = self.of_rows(first_row, table.num_rows)
    if not parts.any():
      return {"train": table}
    return {
      name: table.filter(pa.array(parts == place))
      for place, name in enumerate(PARTS)
      if np.any(parts == place)
    }


def read_blocks(
  source: BlockSource, data_dir: pathlib.Path, label_kind: str = "binary"
) -> ExampleSplit:
  """All blocks of a source, in memory.

  Raises:
    DataError: what the source finds, or there is no training row.
  """
  tables: dict[str, list[pa.Table]] = {part: [] for part in PARTS}
  with progress.progress_bar(f"reading {source.name}", unit="rows") as bar:
    for block in source.blocks(data_dir):
      for part, table in block.parts.items():
        tables[part].append(table)
        bar.advance(table.num_rows)
  found = [table for part in PARTS for table in tables[part]]
  if not tables["train"]:
    raise DataError(f"{source.name}: there is no training row.")
  made = []
  for part in PARTS:
    empty = found[0].schema.empty_table()
    made.append(
      Examples.from_table(
        f"{source.name} {part}",
        pa.concat_tables(tables[part] or [empty]),
        label=source.label_column,
        weight=source.weight_column,
        label_kind=label_kind,
      )
    )
  return ExampleSplit(*made)


def training_blocks(
  source: BlockSource, data_dir: pathlib.Path
) -> Iterator[pa.Table]:
  """The rows that features may be fitted on."""
  for block in ahead(source.blocks(data_dir)):
    if "train" in block.parts:
      yield block.parts["train"]


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
  """A raw column as text, each distinct value once.

  Attributes:
    codes: of each row, its place in `values`.
    values: the distinct values; a missing one is "missing".
  """

  codes: Int32[np.ndarray, " row"]
  values: tuple[str, ...]


class TextsBuilder:
  """Makes Texts of a column that comes block by block."""

  def __init__(self):
    self._known: dict[str, int] = {}
    self._codes = [np.zeros(0, np.int32)]

  def add(self, column: pa.ChunkedArray) -> None:
    """Adds the rows of a block, whose values are numbers or text."""
    if pa.types.is_dictionary(column.type):
      column = column.cast(column.type.value_type)
    encoded = column.combine_chunks().dictionary_encode("encode")
    places = []
    for value in encoded.dictionary.to_pylist():
      text = "missing" if value is None else str(value)
      places.append(self._known.setdefault(text, len(self._known)))
    found = np.array(places, np.int32)
    self._codes.append(found[encoded.indices.to_numpy()])

  def finish(self) -> Texts:
    """The rows of all blocks."""
    return Texts(np.concatenate(self._codes), tuple(self._known))


def read_texts(
  source: BlockSource,
  data_dir: pathlib.Path,
  columns: Sequence[str],
  parts: Sequence[str] = ("validation", "test"),
) -> dict[str, dict[str, Texts]]:
  """Some raw columns of the rows of some parts, by part and column.

  All blocks are read; memory grows with four bytes for each row of these
  parts, and with the distinct values.
  """
  found = {part: {name: TextsBuilder() for name in columns} for part in parts}
  with progress.progress_bar(f"reading {source.name}", unit="rows") as bar:
    for block in ahead(source.blocks(data_dir)):
      for part, table in block.parts.items():
        bar.advance(table.num_rows)
        for name, builder in found.get(part, {}).items():
          builder.add(table.column(name))
  return {
    part: {name: builder.finish() for name, builder in builders.items()}
    for part, builders in found.items()
  }


def first_schema(source: BlockSource, data_dir: pathlib.Path) -> pa.Schema:
  """The columns of a source's rows, from its first block.

  Raises:
    DataError: there is no row.
  """
  for block in source.blocks(data_dir):
    for table in block.parts.values():
      return table.schema
  raise DataError(f"{source.name}: there is not one row.")


def ahead(iterator: Iterator[T]) -> Iterator[T]:
  """The same elements, the next one made in a thread meanwhile."""
  end: Any = object()
  step: Callable[[], T] = lambda: next(iterator, end)
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    coming = thread.submit(step)
    while (element := coming.result()) is not end:
      coming = thread.submit(step)
      yield element
