import dataclasses
import pathlib
import threading

import numpy as np
import pyarrow as pa
import pytest

from recjax.data import example_blocks as lib
from recjax.data.example_blocks import Block, RandomParts
from recjax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Counting:
  """Rows 0, 1, ..., cut into blocks."""

  num_rows: int = 1000
  block_rows: int = 64
  parts: RandomParts = RandomParts(0.2, 0.1, 3)
  name: str = "counting"
  label_column: str = "label"
  weight_column: str = ""

  def files(self, data_dir):
    return ()

  def blocks(self, data_dir, position=None):
    for start in range(0, self.num_rows, self.block_rows):
      rows = np.arange(start, min(start + self.block_rows, self.num_rows))
      table = pa.table({"label": (rows % 2).astype(np.float32), "row": rows})
      yield Block(self.parts.split(table, start), {"row": int(rows[-1]) + 1})


def test_rows_are_dealt_out_by_their_number():
  parts = RandomParts(0.2, 0.1, 3).of_rows(0, 100_000)
  counts = np.bincount(parts)
  # Binomial: deviations are 145, 126 and 95.
  assert np.all(np.abs(counts - [70_000, 20_000, 10_000]) < 4 * 145)
  again = RandomParts(0.2, 0.1, 3).of_rows(40_000, 500)
  np.testing.assert_array_equal(again, parts[40_000:40_500])
  assert np.any(RandomParts(0.2, 0.1, 4).of_rows(0, 100) != parts[:100])
  assert not RandomParts(0, 0).of_rows(0, 100).any()


def test_shares_only_grow():
  # A larger share keeps the rows of a smaller one.
  small, large = (RandomParts(0.0, s).of_rows(0, 1000) for s in (0.1, 0.3))
  assert np.all(large[small == 2] == 2)


@pytest.mark.parametrize(
  ("shares", "message"),
  [
    ((1.0, 0.0), "share of validation must lie"),
    ((0.1, -0.1), "share of test must lie"),
    ((0.6, 0.6), "together must lie"),
    ((0.1, 0.1, -1), "seed must lie"),
  ],
)
def test_bad_shares(shares, message):
  with pytest.raises(ConfigError, match=message):
    RandomParts(*shares)


@pytest.mark.parametrize("block_rows", [1, 64, 5000])
def test_blocks_in_memory(block_rows):
  data_dir = pathlib.Path()
  split = lib.read_blocks(Counting(block_rows=block_rows), data_dir)
  expected = RandomParts(0.2, 0.1, 3).of_rows(0, 1000)
  for place, part in enumerate(("train", "validation", "test")):
    examples = getattr(split, part)
    rows = np.flatnonzero(expected == place)
    np.testing.assert_array_equal(examples.column("row"), rows)
    np.testing.assert_array_equal(examples.labels, rows % 2)
    assert examples.name == f"counting {part}"


def test_parts_may_be_empty_but_for_training():
  split = lib.read_blocks(Counting(parts=RandomParts(0, 0)), pathlib.Path())
  assert (len(split.train), len(split.validation), len(split.test)) == (
    1000,
    0,
    0,
  )
  with pytest.raises(DataError, match="counting: there is no training row"):
    lib.read_blocks(Counting(num_rows=0), pathlib.Path())


def test_training_blocks():
  tables = list(lib.training_blocks(Counting(), pathlib.Path()))
  rows = np.concatenate([table.column("row").to_numpy() for table in tables])
  expected = RandomParts(0.2, 0.1, 3).of_rows(0, 1000)
  np.testing.assert_array_equal(rows, np.flatnonzero(expected == 0))


def test_one_element_is_made_ahead():
  made = []
  second = threading.Event()

  def numbers():
    for number in range(4):
      made.append(number)
      if number == 1:
        second.set()
      yield number

  coming = lib.ahead(numbers())
  assert next(coming) == 0
  assert second.wait(timeout=60)  # Made though nobody has asked for it.
  assert made == [0, 1]
  assert list(coming) == [1, 2, 3]


def test_errors_come_through():
  def broken():
    yield 1
    raise DataError("line 7 is broken")

  coming = lib.ahead(broken())
  assert next(coming) == 1
  with pytest.raises(DataError, match="line 7"):
    next(coming)


# -- Raw columns as text ------------------------------------------------------


def texts_of(*blocks):
  builder = lib.TextsBuilder()
  for block in blocks:
    builder.add(pa.chunked_array([block]))
  made = builder.finish()
  assert made.codes.dtype == np.int32
  return [made.values[code] for code in made.codes], made.values


@pytest.mark.parametrize(
  ("blocks", "expected"),
  [
    ([["b", "a", None], ["a", "c"]], ["b", "a", "missing", "a", "c"]),
    ([[3, None], [3, 1]], ["3", "missing", "3", "1"]),
    ([[0.5, float("nan")], [float("nan")]], ["0.5", "nan", "nan"]),
    ([[True, False]], ["True", "False"]),
  ],
)
def test_texts(blocks, expected):
  found, values = texts_of(*(pa.array(block) for block in blocks))
  assert found == expected
  assert values == tuple(dict.fromkeys(expected))


def test_texts_of_a_dictionary():
  column = pa.array(["b", "a", None, "b"]).dictionary_encode()
  assert texts_of(column)[0] == ["b", "a", "missing", "b"]
  assert texts_of() == ([], ())


def test_read_texts_gives_the_rows_of_a_part_in_order(tmp_path):
  source = Counting()
  split = lib.read_blocks(source, tmp_path)
  found = lib.read_texts(source, tmp_path, ["row", "label"])
  assert set(found) == {"validation", "test"}
  for part, texts in found.items():
    table = getattr(split, part).table
    for name in ("row", "label"):
      shown = [texts[name].values[code] for code in texts[name].codes]
      assert shown == [str(v) for v in table.column(name).to_pylist()]


def test_first_schema(tmp_path):
  assert lib.first_schema(Counting(), tmp_path).names == ["label", "row"]
  with pytest.raises(DataError, match="counting: there is not one row"):
    lib.first_schema(Counting(num_rows=0), tmp_path)
