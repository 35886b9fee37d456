import re

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.example_blocks import RandomParts
from recjax.data.sources.example_files import PartFiles, find_files
from recjax.errors import ConfigError, DataError


@pytest.fixture
def data_dir(tmp_path):  # Not the folder of real data.
  for name in ("b.txt", "a.txt", ".hidden", "_SUCCESS", "c.gz"):
    (tmp_path / "days").mkdir(exist_ok=True)
    (tmp_path / "days" / name).write_text(name)
  (tmp_path / "days" / "sub").mkdir()
  return tmp_path


def test_patterns(data_dir):
  names = lambda pattern: [
    path.name for path in find_files(data_dir, pattern, "x")
  ]
  assert names("days") == ["a.txt", "b.txt", "c.gz"]
  assert names("days/*.txt") == ["a.txt", "b.txt"]
  assert names("days/b.txt") == ["b.txt"]
  assert names(str(data_dir / "days" / "a.txt")) == ["a.txt"]
  for pattern in ("days/*.csv", "nights", "days/sub"):
    with pytest.raises(DataError, match=f"no file {re.escape(repr(pattern))}"):
      names(pattern)


def test_the_random_shares():
  shares = lambda **options: PartFiles("t", **options).random_parts()
  assert shares() == RandomParts(0.1, 0.1, 0)
  assert shares(test="x") == RandomParts(0.1, 0.0, 0)
  assert shares(test="x", validation="y") == RandomParts(0.0, 0.0, 0)
  assert shares(test_fraction=0, seed=4) == RandomParts(0.1, 0.0, 4)
  assert shares(test="x", test_fraction=0) == RandomParts(0.1, 0.0, 0)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"train": ""}, "training files must be named"),
    (
      {"test": "x", "test_fraction": 0.1},
      "test='x' names files.*leave test_fraction=0.1 away",
    ),
    ({"validation_fraction": 0.6, "test_fraction": 0.6}, "together must lie"),
  ],
)
def test_bad_settings(options, message):
  with pytest.raises(ConfigError, match=message):
    PartFiles(**{"train": "t"} | options)


def test_a_file_can_not_be_in_two_parts(data_dir):
  parts = PartFiles("days/*.txt", test="days/a.txt")
  with pytest.raises(DataError, match="a.txt is both for train and for test"):
    parts.find(data_dir, "x")


def read(path, offset):
  """Ten rows of each file, three at a time."""
  for start in range(offset, 10, 3):
    rows = [f"{path.name}{n}" for n in range(start, min(start + 3, 10))]
    yield pa.table({"row": rows}), start + len(rows)


def collect(blocks):
  out = {}
  for block in blocks:
    for part, table in block.parts.items():
      out[part] = out.get(part, []) + table.column("row").to_pylist()
  return out


def test_blocks_of_given_files(data_dir):
  parts = PartFiles("days/a.txt", "days/c.gz", "days/b.txt")
  found = collect(parts.blocks(data_dir, "x", read, None))
  rows = lambda name: [f"{name}{n}" for n in range(10)]
  assert found == {
    "train": rows("a.txt"),
    "validation": rows("c.gz"),
    "test": rows("b.txt"),
  }


def test_blocks_are_dealt_out_by_the_number_of_the_row(data_dir):
  parts = PartFiles("days/*.txt", validation_fraction=0.3, test_fraction=0.2)
  found = collect(parts.blocks(data_dir, "x", read, None))
  deal = RandomParts(0.3, 0.2, 0).of_rows(0, 20)
  rows = np.array(
    [f"{name}{n}" for name in ("a.txt", "b.txt") for n in range(10)]
  )
  for place, part in enumerate(("train", "validation", "test")):
    assert found.get(part, []) == rows[deal == place].tolist()


def test_reading_goes_on_from_any_block(data_dir):
  parts = PartFiles("days/*.txt", test="days/c.gz")
  blocks = list(parts.blocks(data_dir, "x", read, None))
  for place, block in enumerate(blocks):
    rest = parts.blocks(data_dir, "x", read, block.position)
    assert collect(rest) == collect(blocks[place + 1 :])
