"""Any CSV, TSV or Parquet file, or a folder of them, as interactions."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from recjax.data.interactions import Interactions
from recjax.data.k_core import k_core
from recjax.data.sources.columns import (
  ColumnSpec,
  as_names,
  make_interactions,
)
from recjax.data.sources.delimited import (
  line_of_row,
  read_delimited,
  sniff_delimiter,
)
from recjax.errors import (
  ConfigError,
  DataError,
  check_column,
  check_range,
)

_TEXT = (".csv", ".tsv", ".txt", ".dat", ".inter")
_PACKED = (".gz", ".bz2", ".zst")


@dataclasses.dataclass(frozen=True)
class TableFile:
  """A table of interactions, its columns named.

  Raw ids may be integers or text. They become 1..N in the order of the raw
  ids (as numbers where all are integers, else as text), and stay known as
  `raw_id` of the tables `users` and `items`.

  Attributes:
    path: a .csv, .tsv, .txt or .parquet file, within the data folder or
      absolute; text may be packed (.gz, .bz2, .zst). A folder stands for all
      its files of one kind, in the order of their names.
    user_column: the column of user ids.
    item_column: the column of item ids.
    timestamp_column: times: numbers in `timestamp_unit`, or ISO times.
    rating_column: ratings.
    context_columns: further columns to keep.
    name: how reports call it; by default its folder, or else its stem.
    min_rating: rows rated lower are dropped.
    duplicates: rows of equal user, item (and timestamp, where there is one)
      are an "error", or all kept ("keep"), or only the "first" or "last".
    timestamp_unit: "s", "ms", "us" or "ns".
    delimiter: of text; by default found in the first line.
    column_names: all columns of text files that have no header line.
    text_ids: whether the ids of a text file may mix numbers and words. If
      not, a word among integers is taken for what it mostly is, a broken line.
    encoding: of text.
    min_user_count: users with fewer rows are dropped (see `k_core`).
    min_item_count: items with fewer rows are dropped.
  """

  path: str
  user_column: str
  item_column: str
  timestamp_column: str = ""
  rating_column: str = ""
  context_columns: Sequence[str] = ()
  name: str = ""
  min_rating: int | float | None = None
  duplicates: str = "error"
  timestamp_unit: str = "s"
  delimiter: str = ""
  column_names: Sequence[str] = ()
  text_ids: bool = False
  encoding: str = "utf-8"
  min_user_count: int = 0
  min_item_count: int = 0

  def __post_init__(self):
    if not self.path:
      raise ConfigError("TableFile needs the path of a file; got ''.")
    if len(self.delimiter) > 1:
      raise ConfigError(
        f"delimiter must be one character, or '' to find it; got"
        f" {self.delimiter!r}."
      )
    check_range("min_user_count", self.min_user_count, 0, integer=True)
    check_range("min_item_count", self.min_item_count, 0, integer=True)
    for field in ("context_columns", "column_names"):
      names = as_names(field, getattr(self, field))
      object.__setattr__(self, field, names)
    self._spec()
    if not self.name:
      path = pathlib.PurePath(self.path)
      folder = "" if path.is_absolute() else path.parent.name
      object.__setattr__(self, "name", folder or path.name.split(".")[0])

  def _spec(self) -> ColumnSpec:
    return ColumnSpec(
      user=self.user_column,
      item=self.item_column,
      timestamp=self.timestamp_column,
      rating=self.rating_column,
      context=tuple(self.context_columns),
      timestamp_unit=self.timestamp_unit,
      min_rating=self.min_rating,
      duplicates=self.duplicates,
      mixed_ids=self.text_ids,
    )

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files that `read` reads.

    Raises:
      DataError: there is none, or a folder mixes several kinds.
    """
    path = pathlib.Path(data_dir) / self.path
    if path.is_file():
      return (path,)
    if not path.is_dir():
      raise DataError(
        f"no file {self.path!r} for the data set {self.name!r}: looked for"
        f" {path.absolute()}. Set --data_dir or RECJAX_DATA_DIR to the folder"
        " that holds it."
      )
    found = sorted(file for file in path.iterdir() if _kind(file))
    kinds = {_kind(file) for file in found}
    if len(kinds) != 1:
      raise DataError(
        f"{path.absolute()} must hold table files of one kind"
        f" (.parquet, {', '.join(_TEXT)}); found"
        f" {', '.join(sorted(kinds)) or 'none'}."
      )
    return tuple(found)

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """Reads all files.

    Raises:
      DataError: a file is missing, empty or broken, lacks a column, or has a
        bad value or duplicate rows; the line is named.
    """
    paths = self.files(data_dir)
    tables = [self._read_file(path) for path in paths]
    try:
      table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError as error:
      raise DataError(
        f"the files of {self.path!r} disagree about a column: {error}."
      ) from error
    starts = np.cumsum([0] + [one.num_rows for one in tables])

    def where(row: int) -> str:
      place = int(np.searchsorted(starts, row, side="right")) - 1
      return self._where(paths[place], row - int(starts[place]))

    spec = self._spec()
    if _kind(paths[0]) == ".parquet":
      spec = dataclasses.replace(spec, mixed_ids=True)
    interactions = make_interactions(self.name, table, spec, where)
    return k_core(interactions, self.min_user_count, self.min_item_count)

  def _read_file(self, path: pathlib.Path) -> pa.Table:
    if _kind(path) == ".parquet":
      return _read_parquet(path, self._spec().names)
    spec = self._spec()
    ids = pa.dictionary(pa.int32(), pa.string())
    kinds: dict[str, pa.DataType | None] = {
      spec.user: ids,
      spec.item: ids,
      spec.timestamp: pa.string(),
      spec.rating: pa.float64(),
    }
    return read_delimited(
      path,
      delimiter=self._delimiter(path),
      columns={name: kinds.get(name) for name in spec.names},
      names=self.column_names,
      encoding=self.encoding,
    )

  def _delimiter(self, path: pathlib.Path) -> str:
    return self.delimiter or sniff_delimiter(path, self.encoding)

  def _where(self, path: pathlib.Path, row: int) -> str:
    if _kind(path) == ".parquet":
      return f"{path}, row {row + 1}"
    line = line_of_row(
      path,
      row,
      delimiter=self._delimiter(path),
      header=not self.column_names,
      encoding=self.encoding,
    )
    return f"{path}, line {line}"


def _kind(path: pathlib.Path) -> str:
  """The file's ending, without that of its packing; "" if it is no table."""
  name = path.name.lower()
  for ending in _PACKED:
    name = name.removesuffix(ending)
  ending = pathlib.PurePath(name).suffix
  return ending if ending in (".parquet", *_TEXT) else ""


def _read_parquet(path: pathlib.Path, columns: tuple[str, ...]) -> pa.Table:
  try:
    file = parquet.ParquetFile(path)
    known = file.schema_arrow.names
    for column in columns:
      check_column(path, column, known)
    return file.read(columns=list(columns))
  except (pa.ArrowInvalid, OSError) as error:
    raise DataError(
      f"{path} is no Parquet file, or a broken one: {error}"
    ) from error
