"""Files of "user item" lines, in time order, with ids from 1.

This is the form in which the authors of SASRec (Kang and McAuley, 2018,
https://arxiv.org/abs/1808.09781) and BERT4Rec (Sun et al., 2019,
https://arxiv.org/abs/1904.06690) hand out their data. Ids stay as they are in
the file, so that they can be compared with those of the papers.
"""

import dataclasses
import gzip
import pathlib

import numpy as np
import pyarrow as pa
from jaxtyping import Int
from pyarrow import csv as arrow_csv

from recjax.data.interactions import Interactions
from recjax.data.k_core import k_core
from recjax.errors import ConfigError, DataError, check_range

_MAX_ID = np.iinfo(np.int32).max - 1


@dataclasses.dataclass(frozen=True)
class SequenceFile:
  """A file of "user item" lines; a user's lines stand in time order.

  Attributes:
    path: the file, within the data folder or absolute; it may be gzipped.
    name: how reports call it; by default its folder, or else its stem.
    min_user_count: users with fewer rows are dropped (see `k_core`).
    min_item_count: items with fewer rows are dropped.
  """

  path: str
  name: str = ""
  min_user_count: int = 0
  min_item_count: int = 0

  def __post_init__(self):
    if not self.path:
      raise ConfigError("SequenceFile needs the path of a file; got ''.")
    check_range("min_user_count", self.min_user_count, 0, integer=True)
    check_range("min_item_count", self.min_item_count, 0, integer=True)
    if not self.name:
      path = pathlib.PurePath(self.path)
      folder = "" if path.is_absolute() else path.parent.name
      object.__setattr__(self, "name", folder or path.name.split(".")[0])

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The file that `read` reads.

    Raises:
      DataError: it is not there.
    """
    path = pathlib.Path(data_dir) / self.path
    if not path.is_file():
      raise DataError(
        f"no file {self.path!r} for the data set {self.name!r}: looked for"
        f" {path.absolute()}. Set --data_dir or RECJAX_DATA_DIR to the folder"
        " that holds it."
      )
    return (path,)

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """Reads the file.

    Raises:
      DataError: the file is missing or empty, or a line is not two ids of 1
        or more; the line's number is given.
    """
    (path,) = self.files(data_dir)
    user_id, item_id = _read_pairs(path)
    interactions = Interactions.from_columns(
      self.name, {"user_id": user_id, "item_id": item_id}
    )
    return k_core(interactions, self.min_user_count, self.min_item_count)


def _read_pairs(
  path: pathlib.Path,
) -> tuple[Int[np.ndarray, " row"], Int[np.ndarray, " row"]]:
  if path.stat().st_size == 0:
    raise DataError(f"{path} is empty.")
  try:
    with _open(path) as file:
      first = file.readline()
    table = arrow_csv.read_csv(
      path,
      read_options=arrow_csv.ReadOptions(column_names=["user", "item"]),
      parse_options=arrow_csv.ParseOptions(
        delimiter="\t" if b"\t" in first else " ", quote_char=False
      ),
      convert_options=arrow_csv.ConvertOptions(
        column_types={"user": pa.int32(), "item": pa.int32()}, null_values=[]
      ),
    )
  except (OSError, EOFError) as error:
    raise DataError(f"{path} can not be read: {error}.") from error
  except pa.ArrowInvalid:
    # Other white space than one blank, or a broken line.
    return _read_pairs_by_line(path)
  pairs = [table.column(name).to_numpy() for name in ("user", "item")]
  if any(len(ids) and ids.min() < 1 for ids in pairs):
    return _read_pairs_by_line(path)
  return pairs[0], pairs[1]


def _read_pairs_by_line(
  path: pathlib.Path,
) -> tuple[Int[np.ndarray, " row"], Int[np.ndarray, " row"]]:
  """Slow, but it takes any white space and knows the number of a bad line."""
  pairs = []
  with _open(path) as file:
    for number, line in enumerate(file, start=1):
      fields = line.split()
      if not fields:
        continue
      where = f"{path}, line {number}"
      text = line.decode("utf-8", "replace").strip()[:80]
      if len(fields) != 2:
        raise DataError(
          f"{where}: expected 'user item', got {len(fields)} field(s) in"
          f" {text!r}."
        )
      try:
        pair = int(fields[0]), int(fields[1])
      except ValueError:
        raise DataError(
          f"{where}: expected two integer ids, got {text!r}."
        ) from None
      if min(pair) < 1 or max(pair) > _MAX_ID:
        raise DataError(
          f"{where}: ids must lie in [1, {_MAX_ID}] (0 is padding), got"
          f" {text!r}."
        )
      pairs.append(pair)
  users, items = np.array(pairs, np.int32).reshape(-1, 2).T
  return users, items


def _open(path: pathlib.Path):
  return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
