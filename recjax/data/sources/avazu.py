"""Avazu's click-through data: 40,428,967 impressions of mobile ads.

A csv file with a header; `hour` is YYMMDDHH in the ten days from 2014-10-21.
From it come the columns `hour_of_day` (0 to 23) and `weekday` (0 is Monday).
The column `id` tells every row apart, so it is left out.
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
from recjax.errors import DataError, check_range

_TEXT = (
  "site_id",
  "site_domain",
  "site_category",
  "app_id",
  "app_domain",
  "app_category",
  "device_id",
  "device_ip",
  "device_model",
)
_NUMBERS = ("device_type", "device_conn_type")
_NUMBERS += tuple(f"C{number}" for number in range(14, 22))

LAYOUT = text_blocks.TextLayout(
  delimiter=",",
  types={
    "id": pa.string(),
    "click": pa.int8(),
    "hour": pa.int32(),
    "C1": pa.int32(),
    "banner_pos": pa.int32(),
    **dict.fromkeys(_TEXT, pa.string()),
    **dict.fromkeys(_NUMBERS, pa.int32()),
  },
  header=True,
  columns=("click", "hour", "C1", "banner_pos", *_TEXT, *_NUMBERS),
)
COLUMNS = (*LAYOUT.columns, "hour_of_day", "weekday")


@dataclasses.dataclass(frozen=True)
class Avazu:
  """Files in Avazu's format, plain or packed (.gz, .bz2, .zst).

  Attributes:
    train: a file, a folder or a glob, in the data folder or absolute.
    validation: the same; "" takes rows out of the training files.
    test: the same. The contest's test file has no clicks and can not be used.
    validation_fraction: share of the rows of the training files that is for
      validation; None is 0.1 where no file is named for it, else 0.
    test_fraction: the same for test.
    seed: deals the rows out.
    name: how reports call it.
    block_bytes: text that is read at a time.
  """

  train: str = "avazu/train.gz"
  validation: str = ""
  test: str = ""
  validation_fraction: float | int | None = None
  test_fraction: float | int | None = None
  seed: int = 0
  name: str = "avazu"
  block_bytes: int = dataclasses.field(
    default=text_blocks.BLOCK_BYTES, metadata={"changes_data": False}
  )

  def __post_init__(self):
    check_range("Avazu.block_bytes", self.block_bytes, 1, integer=True)
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
    return "click"

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
    """Rows block by block, with the columns COLUMNS.

    Raises:
      DataError: a file is missing or cut, has another header, or a line has
        another number of values or a bad value; file and line are named.
    """
    return self._parts().blocks(
      pathlib.Path(data_dir), self.name, self._read_file, position
    )

  def _read_file(
    self, path: pathlib.Path, offset: int
  ) -> Iterator[tuple[pa.Table, int]]:
    layout = _layout(path)
    for table, start, end in text_blocks.text_blocks(
      path, layout, offset, self.block_bytes
    ):
      where = lambda row, start=start: (
        f"{path}, line {text_blocks.line_of(path, layout, start, row)}"
      )
      table = check_examples(self.name, table, label="click", where=where)
      hours = table.column("hour").fill_null(-1).to_numpy()
      bad = np.flatnonzero(~_is_time(hours))
      if len(bad):
        row = int(bad[0])
        raise DataError(
          f"{where(row)}: column 'hour' holds"
          f" {table.column('hour')[row].as_py()!r}, which is no YYMMDDHH."
        )
      table = table.append_column(
        "hour_of_day", pa.array((hours % 100).astype(np.int8))
      )
      yield table.append_column("weekday", pa.array(_weekday(hours))), end

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """All rows; see `blocks` for what it raises."""
    return read_blocks(self, pathlib.Path(data_dir))


def _layout(path: pathlib.Path) -> text_blocks.TextLayout:
  """Files that were cut by lines have no header, but for the first."""
  first = text_blocks.header_of(path, LAYOUT)
  if len(first) == len(LAYOUT.types) and first[0].isdigit():
    return dataclasses.replace(LAYOUT, header=False)
  text_blocks.check_header(path, LAYOUT)
  return LAYOUT


def _is_time(hours: np.ndarray) -> np.ndarray:
  month, day, hour = hours // 10**4 % 100, hours // 100 % 100, hours % 100
  in_year = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
  return in_year & (hours >= 0) & (hours < 10**8) & (hour < 24)


def _weekday(hours: np.ndarray) -> np.ndarray:
  """0 for a Monday; 1970-01-01 was a Thursday."""
  months = (hours // 10**6 + 30) * 12 + hours // 10**4 % 100 - 1
  first = months.astype("datetime64[M]").astype("datetime64[D]")
  days = first.astype(np.int64) + hours // 100 % 100 - 1
  return ((days + 3) % 7).astype(np.int8)
