"""The cache of prepared data: when it is used, rebuilt and left alone."""

import dataclasses
import logging
import multiprocessing
import os
import pathlib
import time

import numpy as np
import pyarrow as pa
import pytest

from recjax import files
from recjax.data.examples import Examples, ExampleSplit
from recjax.data.interactions import Interactions
from recjax.data.prepare import (
  cache_entry,
  default_cache_dir,
  prepare,
  prepare_examples,
)
from recjax.data.sources.sequence_file import SequenceFile
from recjax.errors import DataError
from recjax.features.encodings import Vocabulary


@dataclasses.dataclass(frozen=True)
class Generated:
  """A source without files that notes every time it is read."""

  seed: int = 0
  rates: tuple[float, ...] = (0.5,)
  name: str = "generated: a/b"
  log: str = dataclasses.field(default="", metadata={"changes_data": False})
  secs: float = dataclasses.field(default=0, metadata={"changes_data": False})
  fail: bool = dataclasses.field(
    default=False, metadata={"changes_data": False}
  )

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    return ()

  def read(self, data_dir: pathlib.Path) -> Interactions:
    with open(self.log, "a") as file:
      file.write("read\n")
    time.sleep(self.secs)
    if self.fail:
      raise KeyboardInterrupt
    random = np.random.default_rng(self.seed)
    return Interactions.from_columns(
      self.name,
      {
        "user_id": random.integers(1, 9, 100),
        "item_id": random.integers(1, 9, 100),
      },
    )


@pytest.fixture
def log(tmp_path):
  return tmp_path / "log"


def _num_reads(log):
  return len(log.read_text().splitlines())


def _entries(cache):
  folder = cache / "prepared"
  return sorted(path for path in folder.iterdir() if path.suffix != ".lock")


def test_a_source_is_read_once(tmp_path, log):
  cache = tmp_path / "cache"
  first = prepare(Generated(log=str(log)), tmp_path, cache)
  second = prepare(Generated(log=str(log)), tmp_path, cache)
  assert _num_reads(log) == 1
  assert first.fingerprint == second.fingerprint
  assert first.table.equals(second.table)
  expected = Generated(log=str(log)).read(tmp_path)
  assert second.fingerprint == expected.fingerprint


def test_settings_that_change_the_data_make_an_entry_of_their_own(
  tmp_path, log
):
  cache = tmp_path / "cache"
  for source in (
    Generated(log=str(log)),
    Generated(seed=1, log=str(log)),
    Generated(rates=(0.5, 0.25), log=str(log)),
    Generated(name="other", log=str(log)),
    Generated(log=str(log), secs=0.001),  # Says nothing about the data.
  ):
    prepare(source, tmp_path, cache)
  assert _num_reads(log) == 4 == len(_entries(cache))


def _write(folder, text):
  (folder / "pairs.txt").write_text(text)


def test_a_changed_file_is_read_again(tmp_path):
  cache = tmp_path / "cache"
  source = SequenceFile("pairs.txt")
  _write(tmp_path, "1 1\n1 2\n")
  assert prepare(source, tmp_path, cache).item_id.tolist() == [1, 2]
  # Same size, changed at once: the time of change may be the same.
  _write(tmp_path, "1 2\n1 1\n")
  assert prepare(source, tmp_path, cache).item_id.tolist() == [2, 1]
  _write(tmp_path, "1 1\n1 2\n")
  assert prepare(source, tmp_path, cache).item_id.tolist() == [1, 2]
  assert len(_entries(cache)) == 2


def test_hashes_of_files_are_remembered(tmp_path, monkeypatch):
  cache = tmp_path / "cache"
  _write(tmp_path, "1 1\n1 2\n")
  clock = time.time_ns()
  monkeypatch.setattr(
    "recjax.data.prepare.time.time_ns", lambda: clock + 10 * 10**9
  )
  prepare(SequenceFile("pairs.txt"), tmp_path, cache)
  hashed = []
  real = files.sha256_of_file

  def spy(path):
    hashed.append(pathlib.Path(path).name)
    return real(path)

  monkeypatch.setattr("recjax.files.sha256_of_file", spy)
  prepare(SequenceFile("pairs.txt"), tmp_path, cache)
  assert "pairs.txt" not in hashed
  # A broken note is no trouble: the file is hashed again.
  for note in (cache / "file_hashes").iterdir():
    note.write_text("{broken")
  prepare(SequenceFile("pairs.txt"), tmp_path, cache)
  assert hashed.count("pairs.txt") == 1


def test_the_data_folder_may_move(tmp_path):
  for folder in ("here", "there"):
    (tmp_path / folder).mkdir()
    _write(tmp_path / folder, "1 1\n1 2\n")
    prepare(SequenceFile("pairs.txt"), tmp_path / folder, tmp_path / "cache")
  assert len(_entries(tmp_path / "cache")) == 1


def test_a_corrupt_entry_is_named_and_rebuilt(tmp_path, log, caplog):
  cache = tmp_path / "cache"
  source = Generated(log=str(log))
  expected = prepare(source, tmp_path, cache).fingerprint
  (entry,) = _entries(cache)
  path = entry / "interactions.arrow"
  path.write_bytes(path.read_bytes()[:-8])
  with caplog.at_level(logging.WARNING):
    assert prepare(source, tmp_path, cache).fingerprint == expected
  assert str(path) in caplog.text and "rebuilt" in caplog.text
  assert _num_reads(log) == 2
  prepare(source, tmp_path, cache)
  assert _num_reads(log) == 2


def test_an_interrupt_leaves_nothing(tmp_path, log):
  cache = tmp_path / "cache"
  with pytest.raises(KeyboardInterrupt):
    prepare(Generated(log=str(log), fail=True), tmp_path, cache)
  assert _entries(cache) == []
  prepare(Generated(log=str(log)), tmp_path, cache)
  assert len(_entries(cache)) == 1


def test_what_a_killed_process_left_is_cleared_away(tmp_path, log):
  cache = tmp_path / "cache"
  prepare(Generated(log=str(log)), tmp_path, cache)
  (entry,) = _entries(cache)
  entry.rename(entry.parent / f".writing-{entry.name}-abc")
  prepare(Generated(log=str(log)), tmp_path, cache)
  assert _entries(cache) == [entry] and _num_reads(log) == 2


def test_a_full_disk_leaves_nothing(tmp_path, log, monkeypatch):
  cache = tmp_path / "cache"

  def full(path, value):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("recjax.files.write_json_atomically", full)
  with pytest.raises(OSError, match="No space"):
    prepare(Generated(log=str(log)), tmp_path, cache)
  assert _entries(cache) == []


def _prepare_elsewhere(log, cache, queue):
  data = prepare(Generated(log=log, secs=0.5), ".", cache)
  queue.put(data.fingerprint)


def test_processes_at_the_same_time_prepare_once(tmp_path, log):
  context = multiprocessing.get_context("spawn")
  queue = context.Queue()
  arguments = (str(log), str(tmp_path / "cache"), queue)
  processes = [
    context.Process(target=_prepare_elsewhere, args=arguments) for _ in "ab"
  ]
  for process in processes:
    process.start()
  prints = {queue.get(timeout=120) for _ in processes}
  for process in processes:
    process.join(timeout=60)
    assert process.exitcode == 0
  assert len(prints) == 1 and _num_reads(log) == 1


def test_the_cache_folder_comes_from_the_environment(tmp_path, monkeypatch):
  monkeypatch.setenv("RECJAX_CACHE_DIR", str(tmp_path / "named"))
  assert default_cache_dir() == tmp_path / "named"
  _write(tmp_path, "1 1\n")
  prepare(SequenceFile("pairs.txt"), tmp_path)
  assert len(_entries(tmp_path / "named")) == 1
  monkeypatch.delenv("RECJAX_CACHE_DIR")
  assert default_cache_dir() == pathlib.Path.home() / ".cache/recjax"


def test_a_cache_that_can_not_be_made(tmp_path, log):
  (tmp_path / "file").write_text("")
  with pytest.raises(DataError, match="RECJAX_CACHE_DIR"):
    prepare(Generated(log=str(log)), tmp_path, tmp_path / "file" / "cache")
  assert not os.path.exists(log)


def test_real_sequences(data_dir, tmp_path):
  # The counts are those of the papers that use the two files.
  for path, counts in (
    ("sasrec-ml-1m/ml-1m.txt", (999_611, 6_040, 3_416)),
    ("bert4rec-beauty/beauty.txt", (353_962, 40_226, 54_542)),
  ):
    data = prepare(SequenceFile(path), data_dir, tmp_path)
    assert (len(data), data.num_users, data.num_items) == counts


# -- Examples ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class GeneratedExamples:
  """A source of labelled rows that notes every time it is read."""

  log: str = dataclasses.field(default="", metadata={"changes_data": False})
  seed: int = 0
  name: str = "clicks"

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    return ()

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    with open(self.log, "a") as file:
      file.write("read\n")
    random = np.random.default_rng(self.seed)
    parts = [
      pa.table({"label": random.integers(0, 2, 9), "x": random.random(9)})
      for _ in range(3)
    ]
    return ExampleSplit(*(Examples.from_table("clicks", t) for t in parts))


def test_examples_are_read_once(tmp_path, log):
  cache = tmp_path / "cache"
  source = GeneratedExamples(str(log))
  first = prepare_examples(source, tmp_path, cache)
  second = prepare_examples(source, tmp_path, cache)
  assert _num_reads(log) == 1 == len(_entries(cache))
  for part in ("train", "validation", "test"):
    assert getattr(first, part).table.equals(getattr(second, part).table)
  prepare_examples(GeneratedExamples(str(log), seed=1), tmp_path, cache)
  assert _num_reads(log) == 2 == len(_entries(cache))


def test_corrupt_examples_are_named_and_rebuilt(tmp_path, log, caplog):
  source = GeneratedExamples(str(log))
  first = prepare_examples(source, tmp_path, tmp_path / "cache")
  (entry,) = _entries(tmp_path / "cache")
  path = entry / "validation" / "examples.arrow"
  path.write_bytes(path.read_bytes()[:-8])
  with caplog.at_level(logging.WARNING):
    again = prepare_examples(source, tmp_path, tmp_path / "cache")
  assert str(path) in caplog.text and _num_reads(log) == 2
  assert again.fingerprint == first.fingerprint


def test_further_settings_have_a_part_in_the_name_of_an_entry(tmp_path):
  source = GeneratedExamples()
  names = {
    cache_entry(source, tmp_path, tmp_path, more).name
    for more in (None, 1, [Vocabulary(min_count=2)], [Vocabulary(min_count=3)])
  }
  assert len(names) == 4
  entry = cache_entry(source, tmp_path, tmp_path)
  assert entry.parent == tmp_path / "prepared"
  assert entry.name.startswith("clicks-")
