"""Files of "user item item ..." lines, one for training and one for test.

This is the form in which the authors of NGCF (Wang et al., 2019,
https://arxiv.org/abs/1905.08108) and LightGCN (He et al., 2020,
https://arxiv.org/abs/2002.02126) hand out Gowalla, Yelp2018 and Amazon-Book.
Ids in the files count from 0, in recjax from 1; `raw_id` of users and items
tells those of the files, so that `splits.GivenFiles` finds them.
"""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from recjax.data.interactions import Interactions
from recjax.data.sources.example_files import find_files
from recjax.data.splits import GivenFiles
from recjax.errors import ConfigError, DataError

_MAX_ID = np.iinfo(np.int32).max - 2


@dataclasses.dataclass(frozen=True)
class UserLines:
  """The union of a training and a test file; a user's test items come last.

  The order of the items in a line is kept, but means nothing in these files.
  A line of a user alone has no items.

  Attributes:
    train: path of the training file, in the data folder or absolute.
    test: path of the test file; "" where there is none.
    user_list: path of lines "original_id id" after a header: the table of
      users then has the original ids as the text column `original_id`; "" for
      none.
    item_list: the same of items.
    name: how reports call it; by default the folder.
  """

  train: str
  test: str = ""
  user_list: str = ""
  item_list: str = ""
  name: str = ""

  def __post_init__(self):
    if not self.train:
      raise ConfigError("UserLines.train must name a file; got ''.")
    if not self.name:
      path = pathlib.PurePath(self.train)
      object.__setattr__(self, "name", path.parent.name or path.stem)

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files that `read` reads.

    Raises:
      DataError: one is missing.
    """
    named = (self.train, self.test, self.user_list, self.item_list)
    return tuple(
      find_files(data_dir, path, self.name)[0] for path in named if path
    )

  def splitter(self, data_dir: pathlib.Path) -> GivenFiles:
    """The split of the files; ConfigError where there is no test file."""
    return GivenFiles(
      train=self.train,
      test=self.test,
      layout="user_lines",
      data_dir=str(data_dir),
    )

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """All interactions.

    Raises:
      DataError: a file is missing, or a line is not as it must be; file and
        line are named.
    """
    paths = iter(self.files(data_dir))
    named = (self.train, self.test, self.user_list, self.item_list)
    train, test, user_list, item_list = (
      next(paths) if path else None for path in named
    )
    parts = [_read_lines(path) for path in (train, test) if path]
    users, items = (np.concatenate(column) for column in zip(*parts))
    if not len(users):
      raise DataError(f"{train}: there is not one interaction.")
    num_users, num_items = int(users.max()) + 1, int(items.max()) + 1
    # Rows keep their order inside a user, training first.
    order = np.argsort(users, kind="stable")
    return Interactions.from_columns(
      self.name,
      {"user_id": users[order] + 1, "item_id": items[order] + 1},
      num_users=num_users,
      num_items=num_items,
      users=_table(num_users, user_list),
      items=_table(num_items, item_list),
    )


def _read_lines(
  path: pathlib.Path,
) -> tuple[Int64[np.ndarray, " row"], Int64[np.ndarray, " row"]]:
  """The user and the item of every mention; ids as in the file."""
  fields = [line.split() for line in path.read_bytes().splitlines()]
  lengths = np.array([len(values) for values in fields], np.int64)
  texts = [value for values in fields for value in values]
  try:
    ids = np.array(texts, "S").astype(np.int64)
  except (ValueError, OverflowError):
    ids = np.full(len(texts), -1, np.int64)
  if len(ids) and (ids.min() < 0 or ids.max() > _MAX_ID):
    _refuse(path, fields)
  ends = np.cumsum(lengths)
  filled = lengths > 0
  is_user = np.zeros(len(ids), bool)
  is_user[(ends - lengths)[filled]] = True
  users = np.repeat(ids[is_user], lengths[filled] - 1)
  return users, ids[~is_user]


def _refuse(path: pathlib.Path, fields: list[list[bytes]]) -> None:
  """Raises DataError at the first value that is no id."""
  for number, values in enumerate(fields, start=1):
    for value in values:
      if not value.isdigit() or int(value) > _MAX_ID:
        text = value.decode("utf-8", "replace")[:40]
        raise DataError(
          f"{path}, line {number}: ids must be integers in [0, {_MAX_ID}];"
          f" got {text!r}."
        )


def _table(num: int, path: pathlib.Path | None) -> pa.Table:
  """`raw_id`, and `original_id` where a list tells it."""
  raw = [str(number) for number in range(num)]
  if path is None:
    return pa.table({"raw_id": raw})
  known = {}
  for number, line in enumerate(path.read_text().splitlines(), start=1):
    fields = line.split()
    if number == 1 or not fields:
      continue
    if len(fields) != 2:
      raise DataError(
        f"{path}, line {number}: expected 'original_id id', got {line[:40]!r}."
      )
    known[fields[1]] = fields[0]
  missing = [text for text in raw if text not in known]
  if missing:
    raise DataError(
      f"{path} does not list the id {missing[0]} ({len(missing):,} such ids)."
    )
  return pa.table({"raw_id": raw, "original_id": [known[text] for text in raw]})
