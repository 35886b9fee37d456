"""AliExpress: clicks and conversions from the search of a shop, by country.

The files train.csv and test.csv of a country as the library MTReclib prepares
them from the published ones: a header, `search_id`, 16 categories, 63 numbers,
`click` and `conversion`.

  Pengcheng Li et al. Improving Multi-Scenario Learning to Rank in E-commerce
  by Exploiting Task Relationships in the Label Space. CIKM 2020.
  https://doi.org/10.1145/3340531.3412713
"""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from recjax.data.example_blocks import Block, read_blocks
from recjax.data.examples import ExampleSplit, check_examples
from recjax.data.sources import text_blocks
from recjax.data.sources.example_files import PartFiles
from recjax.errors import DataError, check_choice, check_range

COUNTRIES = ("NL", "ES", "FR", "US", "RU")
CATEGORIES = tuple(f"categorical_{number}" for number in range(1, 17))
NUMBERS = tuple(f"numerical_{number}" for number in range(1, 64))
LABELS = ("click", "conversion")
LAYOUT = text_blocks.TextLayout(
  delimiter=",",
  types={
    "search_id": pa.string(),
    **dict.fromkeys(CATEGORIES, pa.int32()),
    **dict.fromkeys(NUMBERS, pa.float32()),
    **dict.fromkeys(LABELS, pa.int8()),
  },
  header=True,
)


@dataclasses.dataclass(frozen=True)
class AliExpress:
  """The files of a country; labels are `click` and `conversion`.

  Validation rows are dealt out of the training file. `search_id` tells which
  rows were shown together; it is no feature.

  Attributes:
    country: "NL", "ES", "FR", "US" or "RU".
    folder: that holds the files; "" is "AliExpress_" and the country.
    validation_fraction: share of the training file for validation.
    seed: deals the rows out.
    name: how reports call it; "" is "ali_express_" and the country.
    block_bytes: text that is read at a time.
  """

  country: str = "NL"
  folder: str = ""
  validation_fraction: float | int = 0.1
  seed: int = 0
  name: str = ""
  block_bytes: int = dataclasses.field(
    default=text_blocks.BLOCK_BYTES, metadata={"changes_data": False}
  )

  def __post_init__(self):
    check_choice("AliExpress.country", self.country, COUNTRIES)
    check_range("AliExpress.block_bytes", self.block_bytes, 1, integer=True)
    if not self.folder:
      object.__setattr__(self, "folder", f"AliExpress_{self.country}")
    if not self.name:
      name = f"ali_express_{self.country.lower()}"
      object.__setattr__(self, "name", name)
    self._parts()

  def _parts(self) -> PartFiles:
    return PartFiles(
      f"{self.folder}/train.csv",
      test=f"{self.folder}/test.csv",
      validation_fraction=self.validation_fraction,
      seed=self.seed,
    )

  @property
  def label_column(self) -> str:
    """The column of the main label."""
    return LABELS[0]

  @property
  def label_columns(self) -> tuple[str, ...]:
    """`click` and `conversion`."""
    return LABELS

  @property
  def mask_columns(self) -> tuple[str, ...]:
    """`search_id`."""
    return ("search_id",)

  @property
  def weight_column(self) -> str:
    """There is none."""
    return ""

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The two files.

    Raises:
      DataError: one is missing.
    """
    found = self._parts().find(pathlib.Path(data_dir), self.name)
    return tuple(path for _, path in found)

  def blocks(
    self, data_dir: pathlib.Path, position: dict[str, int] | None = None
  ) -> Iterator[Block]:
    """Rows block by block, with the columns of the files.

    Raises:
      DataError: a file is missing or cut, has another header, a line has
        another number of values or a bad value, or a conversion has no click;
        file and line are named.
    """
    return self._parts().blocks(
      pathlib.Path(data_dir), self.name, self._read_file, position
    )

  def _read_file(
    self, path: pathlib.Path, offset: int
  ) -> Iterator[tuple[pa.Table, int]]:
    text_blocks.check_header(path, LAYOUT)
    for table, start, end in text_blocks.text_blocks(
      path, LAYOUT, offset, self.block_bytes
    ):
      where = lambda row, start=start: (
        f"{path}, line {text_blocks.line_of(path, LAYOUT, start, row)}"
      )
      for label in LABELS:
        table = check_examples(self.name, table, label=label, where=where)
      click, conversion = (table.column(name).to_numpy() for name in LABELS)
      alone = np.flatnonzero(conversion > click)
      if len(alone):
        raise DataError(
          f"{where(int(alone[0]))}: a conversion without a click; 'click' must"
          " be 1 where 'conversion' is."
        )
      yield table, end

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """All rows; see `blocks` for what it raises."""
    return read_blocks(self, pathlib.Path(data_dir))
