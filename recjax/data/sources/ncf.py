"""The files of Neural Collaborative Filtering: a split with given negatives.

  Xiangnan He et al. Neural Collaborative Filtering. WWW 2017.
  https://arxiv.org/abs/1708.05031

For a prefix such as "ml-1m" there are the training pairs, the last item of
each user as test, and 99 items that the user never touched, to rank it among.
Ids in the files count from 0, in recjax from 1; `raw_id` of users and items
tells those of the files.
"""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from recjax.data.interactions import Interactions
from recjax.data.sources import text_blocks
from recjax.data.sources.example_files import find_files
from recjax.data.splits import GivenFiles
from recjax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class NcfFiles:
  """PREFIX.train.rating (or .train.pairs), PREFIX.test.rating, .test.negative.

  A rating file has the columns user, item, rating and time; one of pairs has
  the first two. A rating or time is kept where both files have it.

  Attributes:
    prefix: of the files' paths, in the data folder or absolute.
    name: how reports call it; by default the folder.
  """

  prefix: str = "ncf-ml-1m/ml-1m"
  name: str = ""

  def __post_init__(self):
    if not self.prefix:
      raise ConfigError("NcfFiles.prefix must name the files; got ''.")
    if not self.name:
      path = pathlib.PurePath(self.prefix)
      object.__setattr__(self, "name", path.parent.name or path.name)

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Files of training and test; candidates are no part of the data.

    Raises:
      DataError: one is missing.
    """
    train = f"{self.prefix}.train.rating"
    if not (pathlib.Path(data_dir) / train).is_file():
      train = f"{self.prefix}.train.pairs"
    names = (train, f"{self.prefix}.test.rating")
    return tuple(find_files(data_dir, name, self.name)[0] for name in names)

  def negatives(self, data_dir: pathlib.Path) -> pathlib.Path:
    """The file for `evaluation.candidates.GivenLists`.

    Raises:
      DataError: it is missing.
    """
    return find_files(data_dir, f"{self.prefix}.test.negative", self.name)[0]

  def splitter(self, data_dir: pathlib.Path) -> GivenFiles:
    """The split of the paper: these test rows, no validation."""
    _, test = self.files(data_dir)
    return GivenFiles(test=str(test))

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """All interactions, a user's test item after the training items.

    Raises:
      DataError: a file is missing, or a line is not as it must be; file and
        line are named.
    """
    train, test = (_read(path) for path in self.files(data_dir))
    shared = [name for name in train if name in test]
    columns = {
      name: np.concatenate([train[name], test[name]]) for name in shared
    }
    if "timestamp" not in columns:
      # Then rows keep their order inside a user, training first.
      order = np.argsort(columns["user_id"], kind="stable")
      columns = {name: values[order] for name, values in columns.items()}
    num_users, num_items = (
      int(columns[name].max()) for name in ("user_id", "item_id")
    )
    return Interactions.from_columns(
      self.name,
      columns,
      num_users=num_users,
      num_items=num_items,
      users=_raw_ids(num_users),
      items=_raw_ids(num_items),
    )


def _read(path: pathlib.Path) -> dict[str, Int64[np.ndarray, " row"]]:
  with open(path, "rb") as file:
    num_columns = file.readline().count(b"\t") + 1
  if num_columns not in (2, 4):
    raise DataError(
      f"{path}, line 1: expected user and item, or user, item, rating and"
      f" time, separated by tabs; got {num_columns} value(s)."
    )
  names = ("user_id", "item_id", "rating", "timestamp")[:num_columns]
  layout = text_blocks.TextLayout("\t", dict.fromkeys(names, pa.int64()))
  layout.types.update({"rating": pa.float64()} if num_columns == 4 else {})
  parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
  for table, start, _ in text_blocks.text_blocks(path, layout):
    for name in names:
      column = table.column(name)
      values = column.fill_null(-1).to_numpy()
      bad = np.flatnonzero(np.asarray(column.is_null()) | (values < 0))
      if len(bad):
        row = int(bad[0])
        line = text_blocks.line_of(path, layout, start, row)
        raise DataError(
          f"{path}, line {line}: {column[row].as_py()!r} in column {name!r};"
          " it must be 0 or more."
        )
      shift = 1 if name.endswith("_id") else 0
      parts[name].append(values + shift)
  return {name: np.concatenate(values) for name, values in parts.items()}


def _raw_ids(num: int) -> pa.Table:
  return pa.table({"raw_id": pa.array(np.arange(num)).cast(pa.string())})
