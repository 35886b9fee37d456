"""The first rows of a source that is too large to be read whole."""

import dataclasses
import pathlib
from collections.abc import Iterator

from recjax import files
from recjax.data.example_blocks import Block, BlockSource, read_blocks
from recjax.data.examples import ExampleSplit
from recjax.data.prepare import FileSource
from recjax.errors import ConfigError, check_range


@dataclasses.dataclass(frozen=True)
class _FirstBlocks:
  """The blocks of a source up to a number of rows."""

  source: BlockSource
  num_rows: int

  @property
  def name(self) -> str:
    return self.source.name

  @property
  def label_column(self) -> str:
    return self.source.label_column

  @property
  def weight_column(self) -> str:
    return self.source.weight_column

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    return self.source.files(data_dir)

  def blocks(
    self, data_dir: pathlib.Path, position: dict[str, int] | None = None
  ) -> Iterator[Block]:
    left = self.num_rows
    for block in self.source.blocks(data_dir, position):
      num_block = sum(table.num_rows for table in block.parts.values())
      if num_block < left:
        left -= num_block
        yield block
        continue
      # Each part gives its share, for in which order they came is not known.
      kept, before = {}, 0
      for part, table in block.parts.items():
        after = before + table.num_rows
        num_kept = left * after // num_block - left * before // num_block
        kept[part], before = table.slice(0, num_kept), after
      yield Block(kept, block.position)
      return


def read_first_rows(
  source: FileSource, data_dir: files.PathLike, num_rows: int
) -> ExampleSplit:
  """The first rows of a source, in memory; nothing is read beyond their block.

  Where validation and test are files of their own they come after all training
  rows, so they are empty if `num_rows` ends before them.

  Args:
    source: read block by block.
    data_dir: the folder in which it looks for its files.
    num_rows: of all parts together; the source may have fewer.

  Raises:
    ConfigError: the source can not be read block by block.
    DataError: what the source finds, or there is no training row.
  """
  check_range("the number of rows", num_rows, 1, integer=True)
  if not isinstance(source, BlockSource):
    raise ConfigError(
      "the first rows alone can be had of sources that are read block by block,"
      f" such as Criteo or ExampleTable; {type(source).__name__} is read whole."
    )
  # The source has checked its labels; "real" admits them all.
  first = _FirstBlocks(source, num_rows)
  return read_blocks(first, pathlib.Path(data_dir), label_kind="real")
