"""Criteo's display advertising data: clicks, 13 counts, 26 hashed categories.

A line holds, tab-separated, the label (0 or 1), the integers I1..I13 and the
categories C1..C26 as 32 bits in hexadecimal; a missing value is empty. The
files of the Kaggle contest (45,840,617 lines) and of the terabyte data set
(24 days) have this format.
"""

import dataclasses
import pathlib
from collections.abc import Iterator

import pyarrow as pa

from recjax.data.example_blocks import Block, read_blocks
from recjax.data.examples import ExampleSplit, check_examples
from recjax.data.sources import text_blocks
from recjax.data.sources.example_files import PartFiles
from recjax.errors import check_range

INTEGERS = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
COLUMNS = ("label", *INTEGERS, *CATEGORIES)

LAYOUT = text_blocks.TextLayout(
  delimiter="\t",
  types={
    "label": pa.int8(),
    **dict.fromkeys(INTEGERS, pa.int32()),
    **dict.fromkeys(CATEGORIES, pa.string()),
  },
)


@dataclasses.dataclass(frozen=True)
class Criteo:
  """Files in Criteo's format, plain or packed (.gz, .bz2, .zst).

  `read` holds all rows in memory; for more than that, see
  `recjax.data.example_stream`, which reads `blocks`.

  Attributes:
    train: a file, a folder or a glob, in the data folder or absolute.
    validation: the same; "" takes rows out of the training files.
    test: the same. The contest's test.txt has no labels and can not be used.
    validation_fraction: share of the rows of the training files that is for
      validation; None is 0.1 where no file is named for it, else 0.
    test_fraction: the same for test.
    seed: deals the rows out.
    name: how reports call it.
    block_bytes: text that is read at a time.
  """

  train: str = "criteo/train.txt"
  validation: str = ""
  test: str = ""
  validation_fraction: float | int | None = None
  test_fraction: float | int | None = None
  seed: int = 0
  name: str = "criteo"
  block_bytes: int = dataclasses.field(
    default=text_blocks.BLOCK_BYTES, metadata={"changes_data": False}
  )

  def __post_init__(self):
    check_range("Criteo.block_bytes", self.block_bytes, 1, integer=True)
    self._parts()

  def _parts(self) -> PartFiles:
    return PartFiles(
      self.train,
      self.validation,
      self.test,
      self.validation_fraction,
      self.test_fraction,
      self.seed,
    )

  @property
  def label_column(self) -> str:
    """The column of labels."""
    return "label"

  @property
  def weight_column(self) -> str:
    """There is none."""
    return ""

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files that are read.

    Raises:
      DataError: there is none.
    """
    found = self._parts().find(pathlib.Path(data_dir), self.name)
    return tuple(path for _, path in found)

  def blocks(
    self, data_dir: pathlib.Path, position: dict[str, int] | None = None
  ) -> Iterator[Block]:
    """Rows block by block; labels are float32, categories text.

    Raises:
      DataError: a file is missing or cut, or a line has another number of
        values, a value of another type or a label other than 0 and 1; file
        and line are named.
    """
    return self._parts().blocks(
      pathlib.Path(data_dir), self.name, self._read_file, position
    )

  def _read_file(
    self, path: pathlib.Path, offset: int
  ) -> Iterator[tuple[pa.Table, int]]:
    for table, start, end in text_blocks.text_blocks(
      path, LAYOUT, offset, self.block_bytes
    ):
      where = lambda row, start=start: (
        f"{path}, line {text_blocks.line_of(path, LAYOUT, start, row)}"
      )
      yield check_examples(self.name, table, label="label", where=where), end

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """All rows; see `blocks` for what it raises."""
    return read_blocks(self, pathlib.Path(data_dir))
