"""The files that hold the parts of a data set of examples."""

import dataclasses
import glob
import pathlib
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from recjax.data.example_blocks import Block, RandomParts
from recjax.errors import ConfigError, DataError

Reader = Callable[[pathlib.Path, int], Iterable[tuple[pa.Table, int]]]


@dataclasses.dataclass(frozen=True)
class PartFiles:
  """Which files are for training, validation and test.

  A pattern is a file, a folder (all its files, in the order of their names)
  or a glob such as "day_*.gz", within the data folder or absolute.

  Attributes:
    train: pattern of the training files.
    validation: pattern, or "" to take validation rows out of training files.
    test: pattern, or "" likewise.
    validation_fraction: share of the rows of the training files that is for
      validation; None is 0.1 where no file is named for it, else 0.
    test_fraction: the same for test.
    seed: deals the rows out.
  """

  train: str
  validation: str = ""
  test: str = ""
  validation_fraction: float | int | None = None
  test_fraction: float | int | None = None
  seed: int = 0

  def __post_init__(self):
    if not self.train:
      raise ConfigError("the training files must be named; got ''.")
    for part in ("validation", "test"):
      fraction = getattr(self, f"{part}_fraction")
      if getattr(self, part) and fraction:
        raise ConfigError(
          f"{part}={getattr(self, part)!r} names files, so no rows are dealt"
          f" out for it: leave {part}_fraction={fraction} away."
        )
    self.random_parts()

  def random_parts(self) -> RandomParts:
    """How rows of the training files are dealt out."""
    shares = []
    for part in ("validation", "test"):
      fraction = getattr(self, f"{part}_fraction")
      given = 0.0 if getattr(self, part) else 0.1
      shares.append(given if fraction is None else float(fraction))
    return RandomParts(shares[0], shares[1], self.seed)

  def find(
    self, data_dir: pathlib.Path, name: str
  ) -> tuple[tuple[str, pathlib.Path], ...]:
    """(part, file) of all files, in order.

    Raises:
      DataError: a pattern matches nothing, or a file is in two parts.
    """
    found: list[tuple[str, pathlib.Path]] = []
    for part in ("train", "validation", "test"):
      if pattern := getattr(self, part):
        paths = find_files(data_dir, pattern, name)
        found += [(part, path) for path in paths]
    owners: dict[pathlib.Path, str] = {}
    for part, path in found:
      if path in owners:
        raise DataError(f"{path} is both for {owners[path]} and for {part}.")
      owners[path] = part
    return tuple(found)

  def blocks(
    self,
    data_dir: pathlib.Path,
    name: str,
    read: Reader,
    position: dict[str, int] | None,
  ) -> Iterator[Block]:
    """The rows of all files, dealt out where that is asked for.

    Args:
      data_dir: where patterns start.
      name: of the data set, for messages.
      read: (file, offset) -> (table, offset after it), again and again.
      position: where to go on; of a block.
    """
    deal = self.random_parts()
    place = position or {"file": 0, "offset": 0, "row": 0}
    first, offset, row = place["file"], place["offset"], place["row"]
    for number, (part, path) in enumerate(self.find(data_dir, name)):
      if number < first:
        continue
      for table, after in read(path, offset):
        parts = {part: table}
        if part == "train":
          parts = deal.split(table, row)
        row += table.num_rows
        yield Block(parts, {"file": number, "offset": after, "row": row})
      offset = 0


def find_files(
  data_dir: pathlib.Path, pattern: str, name: str
) -> tuple[pathlib.Path, ...]:
  """The files that a pattern stands for, in the order of their names.

  Raises:
    DataError: there is none.
  """
  path = pathlib.Path(data_dir) / pattern
  if path.is_file():
    return (path,)
  if path.is_dir():
    inside = (entry for entry in path.iterdir() if entry.is_file())
    found = sorted(file for file in inside if file.name[0] not in "._")
  else:
    found = sorted(pathlib.Path(match) for match in glob.glob(str(path)))
    found = [match for match in found if match.is_file()]
  if not found:
    raise DataError(
      f"no file {pattern!r} for the data set {name!r}: looked for"
      f" {path.absolute()}. Set --data_dir or RECJAX_DATA_DIR to the folder"
      " that holds it."
    )
  return tuple(found)
