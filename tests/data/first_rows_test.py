import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.example_blocks import Block, RandomParts
from recjax.data.first_rows import read_first_rows
from recjax.data.sources.frappe import Frappe
from recjax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Numbered:
  """Rows 0, 1, ... in blocks of 64, forever; labels are numbers."""

  parts: RandomParts = RandomParts(0.2, 0.1, 3)
  num_train_blocks: int | None = None
  name: str = "numbered"
  label_column: str = "label"
  weight_column: str = "weight"

  def files(self, data_dir):
    return ()

  def blocks(self, data_dir, position=None):
    for number in itertools.count():
      rows = np.arange(64 * number, 64 * number + 64)
      label = rows.astype(np.float32)
      table = pa.table({"label": label, "weight": label, "row": rows})
      made = self.parts.split(table, int(rows[0]))
      if self.num_train_blocks is not None:
        made = {"test" if number >= self.num_train_blocks else "train": table}
      yield Block(made, {"row": int(rows[-1]) + 1})


@pytest.mark.parametrize("num_rows", [64, 100, 128, 1000])
def test_so_many_rows_are_read_and_the_parts_stay(num_rows):
  split = read_first_rows(Numbered(), ".", num_rows)
  parts = (split.train, split.validation, split.test)
  assert sum(map(len, parts)) == num_rows
  dealt = RandomParts(0.2, 0.1, 3).of_rows(0, num_rows + 64)
  for place, part in enumerate(parts):
    rows = part.column("row")
    assert np.all(dealt[rows] == place)
    # All of whole blocks, and of the last block the first ones of each part.
    expected = np.flatnonzero(dealt == place)[: len(rows)]
    np.testing.assert_array_equal(rows, expected)
    whole = np.sum(dealt[: num_rows // 64 * 64] == place)
    assert whole <= len(rows)
  assert split.train.weight == "weight" and split.train.labels.max() > 1


def test_held_out_files_come_after_the_training_rows():
  split = read_first_rows(Numbered(num_train_blocks=2), ".", 128)
  assert (len(split.train), len(split.test)) == (128, 0)
  split = read_first_rows(Numbered(num_train_blocks=2), ".", 150)
  assert (len(split.train), len(split.test)) == (128, 22)
  with pytest.raises(DataError, match="no training row"):
    read_first_rows(Numbered(num_train_blocks=0), ".", 10)


def test_a_source_without_blocks_and_a_wrong_number():
  with pytest.raises(ConfigError, match="Frappe is read whole"):
    read_first_rows(Frappe(), ".", 10)
  with pytest.raises(ConfigError, match="number of rows must lie in"):
    read_first_rows(Numbered(), ".", 0)
