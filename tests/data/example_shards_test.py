import json
import os

import numpy as np
import pytest

from recjax.data import example_shards as lib
from recjax.data.example_shards import EncodedExamples, ShardWriter
from recjax.errors import DataError
from recjax.features import hashing

_rng = np.random.default_rng(0)
NUM = 1000
COLUMNS = {
  "item": _rng.integers(0, 2**31 - 1, NUM).astype(np.int32),
  "tags": _rng.integers(0, 9, (NUM, 3)).astype(np.int32),
  "age": _rng.normal(size=NUM).astype(np.float32),
  "image": _rng.normal(size=(NUM, 4)).astype(np.float32),
  "label": (np.arange(NUM) % 2).astype(np.float32),
}


def rows(start, stop):
  return {name: values[start:stop] for name, values in COLUMNS.items()}


def write(folder, block=70, group_rows=64, shard_blocks=5):
  writer = ShardWriter(folder, group_rows)
  for number, start in enumerate(range(0, NUM, block), 1):
    writer.add(rows(start, start + block))
    if number % shard_blocks == 0:
      writer.finish_shard()
  writer.finish("toy", {})
  return EncodedExamples.load(folder)


@pytest.fixture
def examples(tmp_path):
  return write(tmp_path / "toy")


def equal(found, expected):
  assert list(found) == list(expected)
  for name in expected:
    np.testing.assert_array_equal(found[name], expected[name])
    assert found[name].dtype == expected[name].dtype


def joined(parts):
  return {k: np.concatenate([part[k] for part in parts]) for k in COLUMNS}


def test_groups_hold_all_rows_in_order(examples):
  assert len(examples) == NUM and examples.name == "toy"
  # 15 blocks of 70 rows: shards of 350, 350 and 300 rows.
  sizes = [64] * 5 + [30] + [64] * 5 + [30] + [64] * 4 + [44]
  assert examples.group_rows.tolist() == sizes
  assert len(examples.shards) == 3
  equal(joined([examples.read_group(g) for g in range(len(sizes))]), COLUMNS)
  assert examples.row_bytes == 4 + 12 + 4 + 16 + 4


@pytest.mark.parametrize("cut", [(0, None), (0, 1), (100, 101), (333, 900)])
def test_a_stretch_of_rows(examples, cut):
  found = joined(list(examples.groups(*cut)))
  equal(found, rows(cut[0], cut[1] or NUM))


@pytest.mark.parametrize("sizes", [(1, 64, 9), (1000, 7, 1), (64, 64, 1)])
def test_the_fingerprint_is_of_the_values_and_not_of_their_layout(
  examples, tmp_path, sizes
):
  block, group_rows, shard_blocks = sizes
  if block == 1:
    block, shard_blocks = 11, 3
  other = write(tmp_path / "other", block, group_rows, shard_blocks)
  assert other.fingerprint == examples.fingerprint
  equal(joined(list(other.groups())), COLUMNS)


def test_the_fingerprint_sees_values_and_order():
  first = lib.content_sum(COLUMNS, 0)
  changed = {**COLUMNS, "age": COLUMNS["age"].copy()}
  changed["age"][500] += 1
  swapped = {name: values[::-1] for name, values in COLUMNS.items()}
  swapped = {name: np.ascontiguousarray(x) for name, x in swapped.items()}
  sums = {first, lib.content_sum(changed, 0), lib.content_sum(swapped, 0)}
  assert len(sums) == 3
  halves = lib.content_sum(rows(0, 400), 0) + lib.content_sum(
    rows(400, NUM), 400
  )
  assert halves % 2**64 == first


def test_the_sum_is_that_of_the_docstring():
  two = {"b": np.array([5, 6], np.int32), "a": np.array([1.0, 2.0], np.float32)}
  modulus = 2**64
  # Columns by name; the bits of 1.0 and 2.0 as float32.
  bits = {"a": [0x3F800000, 0x40000000], "b": [5, 6]}
  total = 0
  for row in range(2):
    inner = row * hashing.GOLDEN
    for number, name in enumerate(("a", "b"), 1):
      factor = int(hashing.hash_integers(np.array([number]))[0]) | 1
      inner += bits[name][row] * factor
    total += int(hashing.mix(np.array([inner % modulus], np.uint64))[0])
  assert lib.content_sum(two, 0) == total % modulus


def test_a_writer_goes_on_where_another_stopped(examples, tmp_path):
  folder = tmp_path / "resumed"
  writer = ShardWriter(folder, 64)
  for start in range(0, 350, 70):
    writer.add(rows(start, start + 70))
  writer.finish_shard()
  state = json.loads(json.dumps(writer.state))
  writer.add(rows(350, 350 + 70))  # Lost: its shard is not finished.
  writer.close()
  assert any(p.name.startswith(".writing") for p in folder.iterdir())
  writer = ShardWriter(folder, 64, state)
  assert not any(p.name.startswith(".writing") for p in folder.iterdir())
  for number, start in enumerate(range(350, NUM, 70), 1):
    writer.add(rows(start, start + 70))
    if number == 5:
      writer.finish_shard()
  writer.finish("toy", {})
  resumed = EncodedExamples.load(folder)
  assert resumed.fingerprint == examples.fingerprint
  assert resumed.shards == examples.shards


def test_no_rows(tmp_path):
  writer = ShardWriter(tmp_path / "none", 64)
  writer.add(rows(0, 0))
  writer.finish("none", {"item": ["int32", []]})
  none = EncodedExamples.load(tmp_path / "none")
  assert len(none) == 0 and list(none.groups()) == []
  assert none.columns == {"item": ("int32", ())}


# -- Damage --------------------------------------------------------------------


def _shard(examples, number=1):
  return examples.directory / list(examples.shards)[number]


def test_a_truncated_or_missing_shard_is_found_at_once(examples):
  path = _shard(examples)
  path.write_bytes(path.read_bytes()[:-10])
  with pytest.raises(DataError, match=r"shard-00001\.arrow has \d+ bytes"):
    EncodedExamples.load(examples.directory)
  path.unlink()
  with pytest.raises(DataError, match=r"shard-00001\.arrow is missing"):
    EncodedExamples.load(examples.directory)


def test_an_altered_shard_is_found_when_it_is_read(examples):
  path = _shard(examples)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))
  altered = EncodedExamples.load(examples.directory)
  altered.read_group(0)
  with pytest.raises(
    DataError, match=r"shard-00001\.arrow does not have the c"
  ):
    altered.read_group(6)


def test_no_more_than_so_many_files_are_open(examples, monkeypatch):
  monkeypatch.setattr(lib, "_OPEN_FILES", 1)
  for group in (0, 6, 12, 0, 6):
    examples.read_group(group)
    assert len(examples._readers) == 1
  equal(joined(list(examples.groups())), COLUMNS)


def test_another_version(examples, monkeypatch):
  monkeypatch.setattr(lib, "FORMAT", 2)
  with pytest.raises(DataError, match="has format 1; .* reads format 2"):
    EncodedExamples.load(examples.directory)


def test_shards_are_compressed(tmp_path):
  writer = ShardWriter(tmp_path / "zeros", 50_000)
  writer.add({"a": np.zeros(50_000, np.int32)})
  writer.finish("zeros", {})
  (path,) = (tmp_path / "zeros").glob("*.arrow")
  assert os.path.getsize(path) < 20_000


def test_scan_reads_some_columns_of_all_rows(examples):
  found = list(examples.scan(["tags", "label"]))
  assert [len(g["label"]) for g in found] == examples.group_rows.tolist()
  for name in ("tags", "label"):
    joined_up = np.concatenate([group[name] for group in found])
    np.testing.assert_array_equal(joined_up, COLUMNS[name])
    assert joined_up.dtype == COLUMNS[name].dtype
  assert all(list(group) == ["tags", "label"] for group in found)


def test_scan_checks_the_shards(examples):
  path = examples.directory / next(iter(examples.shards))
  path.write_bytes(bytes(path.stat().st_size))
  with pytest.raises(DataError, match="does not have the checksum"):
    list(examples.scan(["label"]))
