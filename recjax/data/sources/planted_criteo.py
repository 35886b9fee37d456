"""Rows in Criteo's format from a known logistic model; the best AUC is known.

  z = b + sum_j v_j ln(1 + I_j) + sum_f w_f(C_f),   p(label = 1) = sigmoid(z)

with v_j, w_f(c) normal and b such that the share of clicks is as asked for.
The value of C_f is its k-th with probability ln((k+1)/k) / ln(n_f + 1), which
is close to Zipf's law; I_j is a rounded log-normal number. A missing value
adds nothing. So a logistic regression on ln(1 + I) and one weight for each
category can represent the truth, and nothing can rank better than z does.

Over the labels, the AUC of a score s is in expectation

  sum_ik p_i (1 - p_k) ([s_i > s_k] + [s_i = s_k] / 2) / sum_ik p_i (1 - p_k).
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64
from pyarrow import csv as arrow_csv
from scipy import special

from recjax import files, progress
from recjax.data.example_blocks import Block, RandomParts, read_blocks
from recjax.data.examples import ExampleSplit
from recjax.data.sources.criteo import CATEGORIES, COLUMNS, INTEGERS
from recjax.errors import ConfigError, check_range
from recjax.files import PathLike

_BLOCK_ROWS = 1 << 16
_WEIGHTS, _ROWS = 1, 2
_SPREAD = 0x9E3779B1
_SETTINGS = ".planted.json"


@dataclasses.dataclass(frozen=True)
class PlantedCriteo:
  """A source of planted rows; `write` makes text files of them.

  Attributes:
    num_rows: how many rows.
    num_values: of each of the 26 categories.
    click_rate: expected share of label 1.
    category_stddev: of the weights of categories.
    integer_stddev: of the weights of integers.
    missing: share of values that are missing, in every column.
    validation: share of the rows for validation.
    test: share of the rows for test.
    seed: draws weights, rows and parts.
    name: how reports call it.
  """

  num_rows: int = 100_000
  num_values: Sequence[int] = (
    1400,
    550,
    2000,
    1500,
    300,
    20,
    2000,
    600,
    3,
    2000,
    1500,
    2000,
    1200,
    26,
    1500,
    2000,
    10,
    1300,
    1500,
    4,
    2000,
    15,
    14,
    1500,
    80,
    1400,
  )
  click_rate: float = 0.25
  category_stddev: float | int = 0.3
  integer_stddev: float | int = 0.1
  missing: float | int = 0.1
  validation: float | int = 0.1
  test: float | int = 0.1
  seed: int = 0
  name: str = "planted_criteo"

  def __post_init__(self):
    where = "PlantedCriteo."
    object.__setattr__(self, "num_values", tuple(self.num_values))
    if len(self.num_values) != len(CATEGORIES):
      raise ConfigError(
        f"{where}num_values must hold {len(CATEGORIES)} numbers; got"
        f" {len(self.num_values)}."
      )
    for number in self.num_values:
      check_range(where + "num_values", number, 1, 2**31, integer=True)
    check_range(where + "num_rows", self.num_rows, 1, integer=True)
    check_range(where + "click_rate", self.click_rate, 1e-6, 1 - 1e-6)
    check_range(where + "category_stddev", self.category_stddev, 0)
    check_range(where + "integer_stddev", self.integer_stddev, 0)
    check_range(where + "missing", self.missing, 0, 0.999)
    self._parts()

  def _parts(self) -> RandomParts:
    return RandomParts(self.validation, self.test, self.seed)

  # -- The model --------------------------------------------------------------

  @functools.cached_property
  def _random_weights(self) -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng([self.seed, _WEIGHTS])
    integers = self.integer_stddev * random.normal(size=len(INTEGERS))
    categories = [
      self.category_stddev * random.normal(size=num) for num in self.num_values
    ]
    return integers, categories

  @functools.cached_property
  def bias(self) -> float:
    """b, from the first block of rows."""
    _, _, logits = self._draw(0, _BLOCK_ROWS)
    low, high = -100.0, 100.0
    for _ in range(80):
      middle = (low + high) / 2
      rate = float(special.expit(logits + middle).mean())
      low, high = (middle, high) if rate < self.click_rate else (low, middle)
    return (low + high) / 2

  def logits(self, table: pa.Table) -> Float64[np.ndarray, " row"]:
    """The true z of raw rows, also of such that were written and read."""
    integer_weights, category_weights = self._random_weights
    total = np.full(table.num_rows, self.bias)
    for name, weight in zip(INTEGERS, integer_weights):
      values = table.column(name).fill_null(0).to_numpy()
      total += weight * np.log1p(values)
    for place, name in enumerate(CATEGORIES):
      options = pc.SetLookupOptions(self._texts[place])
      found = pc.call_function("index_in", [table.column(name)], options)
      known = np.asarray(found.fill_null(-1))
      # The last entry is that of a missing value.
      total += np.append(category_weights[place], 0.0)[known]
    return total

  def bayes_auc(self, num_rows: int = 1 << 20) -> float:
    """The AUC of z, estimated from other rows of the same process."""
    first = 1 << 32
    blocks = range(first, first + -(-num_rows // _BLOCK_ROWS))
    logits = [self._draw(block, _BLOCK_ROWS)[2] for block in blocks]
    truth = np.concatenate(logits) + self.bias
    return expected_auc(truth, truth)

  # -- Rows -------------------------------------------------------------------

  @functools.cached_property
  def _texts(self) -> list[pa.Array]:
    """The categories of each column, in hexadecimal."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    texts = []
    for place, num in enumerate(self.num_values):
      # An odd factor: no two values have the same code.
      start = np.uint64((place + 1) * 0x85EBCA6B)
      code = np.arange(num, dtype=np.uint64) * np.uint64(_SPREAD) + start
      shifts = np.arange(28, -1, -4, dtype=np.uint64)
      nibbles = (code[:, None] >> shifts) & np.uint64(15)
      rows = digits[nibbles.astype(np.int64)]
      offsets = pa.py_buffer(np.arange(0, 8 * num + 1, 8, dtype=np.int64))
      data = pa.py_buffer(np.ascontiguousarray(rows))
      texts.append(pa.LargeStringArray.from_buffers(num, offsets, data))
    return [text.cast(pa.string()) for text in texts]

  def _draw(
    self, block: int, num_rows: int
  ) -> tuple[np.random.Generator, dict[str, pa.Array], np.ndarray]:
    """Features of a block and z - b."""
    random = np.random.default_rng([self.seed, _ROWS, block])
    integer_weights, category_weights = self._random_weights
    columns: dict[str, pa.Array] = {}
    total = np.zeros(_BLOCK_ROWS)
    for place, name in enumerate(INTEGERS):
      values = np.exp(random.normal(1 + place % 5, 1.5, _BLOCK_ROWS))
      numbers = np.minimum(values, 2**30).astype(np.int32)
      gone = random.random(_BLOCK_ROWS) < self.missing
      effect = integer_weights[place] * np.log1p(numbers)
      total += np.where(gone, 0.0, effect)
      columns[name] = pa.array(numbers, mask=gone)
    for place, name in enumerate(CATEGORIES):
      num = self.num_values[place]
      powers = np.exp(random.random(_BLOCK_ROWS) * np.log(num + 1))
      value = np.minimum(powers.astype(np.int64), num) - 1
      gone = random.random(_BLOCK_ROWS) < self.missing
      total += np.where(gone, 0.0, category_weights[place][value])
      columns[name] = self._texts[place].take(pa.array(value, mask=gone))
    cut = {name: values[:num_rows] for name, values in columns.items()}
    return random, cut, total[:num_rows]

  def table(self, block: int) -> pa.Table:
    """The rows of a block; each has 65,536 but the last."""
    num_rows = min(_BLOCK_ROWS, self.num_rows - block * _BLOCK_ROWS)
    random, columns, logits = self._draw(block, num_rows)
    draw = random.random(_BLOCK_ROWS)[:num_rows]
    label = draw < special.expit(logits + self.bias)
    return pa.table(
      {"label": pa.array(label.astype(np.float32)), **columns}
    ).select(list(COLUMNS))

  # -- As a source ------------------------------------------------------------

  @property
  def label_column(self) -> str:
    """The column of labels."""
    return "label"

  @property
  def weight_column(self) -> str:
    """There is none."""
    return ""

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """None: the data is generated."""
    del data_dir
    return ()

  def blocks(
    self, data_dir: pathlib.Path, position: dict[str, int] | None = None
  ) -> Iterator[Block]:
    """Rows block by block."""
    del data_dir
    first = position["block"] if position else 0
    for block in range(first, -(-self.num_rows // _BLOCK_ROWS)):
      parts = self._parts().split(self.table(block), block * _BLOCK_ROWS)
      yield Block(parts, {"block": block + 1})

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """All rows, in memory."""
    return read_blocks(self, data_dir)

  def write(
    self, folder: PathLike, rows_per_file: int = 1 << 22
  ) -> tuple[pathlib.Path, ...]:
    """Writes all rows as text files in Criteo's format, once.

    Memory holds a block. A folder that was written with the same settings is
    left as it is.

    Args:
      folder: for the files; what stood there is replaced, all or nothing.
      rows_per_file: at most, rounded up to whole blocks.

    Returns:
      The files.
    """
    check_range("rows_per_file", rows_per_file, 1, integer=True)
    folder = pathlib.Path(folder)
    settings = {**dataclasses.asdict(self), "rows_per_file": rows_per_file}
    text = json.dumps(settings)
    note = folder / _SETTINGS
    if not note.is_file() or note.read_text("utf-8") != text:
      with files.replace_directory(folder) as new:
        self._write_files(new, rows_per_file)
        files.write_text_atomically(new / _SETTINGS, text)
    return tuple(sorted(folder.glob("part-*.txt")))

  def _write_files(self, folder: pathlib.Path, rows_per_file: int) -> None:
    num_blocks = -(-self.num_rows // _BLOCK_ROWS)
    in_file = -(-rows_per_file // _BLOCK_ROWS)
    options = arrow_csv.WriteOptions(
      include_header=False, delimiter="\t", quoting_style="none"
    )
    with progress.progress_bar(
      f"writing {self.name}", self.num_rows, unit="rows"
    ) as bar:
      for number, first in enumerate(range(0, num_blocks, in_file)):
        with open(folder / f"part-{number:04d}.txt", "wb") as file:
          for block in range(first, min(first + in_file, num_blocks)):
            table = self.table(block)
            label = table.column("label").cast(pa.int8())
            table = table.set_column(0, "label", label)
            arrow_csv.write_csv(table, file, options)
            bar.advance(table.num_rows)


def expected_auc(
  scores: Float64[np.ndarray, " row"], logits: Float64[np.ndarray, " row"]
) -> float:
  """The AUC of scores in expectation over labels with known probabilities.

  Args:
    scores: of a model.
    logits: the true z of the same rows.
  """
  chance = special.expit(logits)
  _, place = np.unique(scores, return_inverse=True)
  positives = np.bincount(place, chance)
  negatives = np.bincount(place, 1 - chance)
  below = np.cumsum(negatives) - negatives
  wins = np.sum(positives * (below + negatives / 2))
  return float(wins / (positives.sum() * negatives.sum()))
