"""Items that a user is known not to have chosen, such as impressions.

A table with one row for each user and item, in Parquet or CSV.
"""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32, Int64
from pyarrow import csv, parquet

from recjax import files
from recjax.data.interactions import Interactions
from recjax.data.ragged import Ragged
from recjax.errors import (
  ConfigError,
  DataError,
  check_column,
  check_range,
  nearest,
)


@dataclasses.dataclass(frozen=True)
class HardListFile:
  """Where the lists stand.

  Attributes:
    path: of the table, within the data folder or absolute; ".parquet", or
      else CSV with a header.
    user_column: ids as in the source.
    item_column: ids as in the source.
    max_len: of a longer list the last items are taken.
  """

  path: str
  user_column: str = "user_id"
  item_column: str = "item_id"
  max_len: int = 100

  def __post_init__(self):
    if not self.path:
      raise ConfigError("HardListFile.path must name a file; got ''.")
    check_range("HardListFile.max_len", self.max_len, 1, integer=True)

  def read(
    self, data_dir: files.PathLike, interactions: Interactions
  ) -> Int32[np.ndarray, "user_plus_one max_len"]:
    """The list of each user id, filled up with 0; row 0 is empty.

    Args:
      data_dir: the folder of raw data sets.
      interactions: know the ids.

    Raises:
      DataError: the file or a column is missing, or an id is unknown; its
        row is named.
    """
    path = pathlib.Path(data_dir) / self.path
    if not path.is_file():
      raise DataError(f"there are no lists of hard negatives at {path}.")
    read = parquet.read_table if path.suffix == ".parquet" else csv.read_csv
    try:
      table = read(path)
    except (pa.ArrowInvalid, OSError) as error:
      raise DataError(f"{path} can not be read: {error}.") from error
    for column in (self.user_column, self.item_column):
      check_column(path, column, table.column_names)
    users = _ids(table[self.user_column], interactions.users, path, "user")
    items = _ids(table[self.item_column], interactions.items, path, "item")
    for what, ids, num in (
      ("user", users, interactions.num_users),
      ("item", items, interactions.num_items),
    ):
      wrong = np.flatnonzero((ids < 1) | (ids > num))
      if len(wrong):
        raise DataError(
          f"{path}: row {wrong[0]} names the {what} {ids[wrong[0]]}; ids must"
          f" lie in [1, {num}]."
        )
    lists = Ragged.from_pairs(users, items, interactions.num_users + 1)
    return lists.last(self.max_len).padded(self.max_len).astype(np.int32)


def _ids(
  column: pa.ChunkedArray, known: pa.Table | None, path: pathlib.Path, what: str
) -> Int64[np.ndarray, " row"]:
  """Ids of recjax: places of raw ids, where there are such."""
  if column.null_count:
    row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
    raise DataError(f"{path}: row {row} names no {what}.")
  if known is None:
    if not pa.types.is_integer(column.type):
      raise DataError(
        f"{path}: {what}s must be integers, for the source has no raw ids of"
        f" {what}s; got {column.type}."
      )
    return column.to_numpy().astype(np.int64)
  raw = column.cast(pa.string())
  options = pc.SetLookupOptions(known["raw_id"].combine_chunks())
  place = pc.call_function("index_in", [raw], options)
  if place.null_count:
    row = int(np.flatnonzero(np.asarray(place.is_null()))[0])
    value = raw[row].as_py()
    names = known["raw_id"].to_pylist()
    raise DataError(
      f"{path}: row {row} names the {what} {value!r}, which the source does not"
      f" know.{nearest(value, names)}"
    )
  return place.to_numpy().astype(np.int64) + 1
