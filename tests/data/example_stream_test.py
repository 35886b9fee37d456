"""The conversion to disk: once, whole, resumed, and the same each way."""

import dataclasses

import numpy as np
import pytest

from recjax.data.example_batches import encode_examples
from recjax.data.example_stream import (
  StreamConfig,
  StreamSplit,
  prepare_stream,
)
from recjax.data.label_columns import LabelRule
from recjax.data.prepare import prepare_examples
from recjax.data.sources.criteo import CATEGORIES, INTEGERS, Criteo
from recjax.data.sources.planted_criteo import PlantedCriteo
from recjax.errors import ConfigError, DataError
from recjax.features.encodings import Hashed, Vocabulary
from recjax.features.fitted import fit_features
from recjax.features.specs import Categorical, Cross, Numeric

NUM = 4000
SPECS = [
  *(Numeric(name, transform="log") for name in INTEGERS[:2]),
  Numeric("I4", transform="z_score"),
  *(Categorical(name, "", Vocabulary(min_count=3)) for name in CATEGORIES[:3]),
  Categorical("C7", "", Hashed(200)),
  Cross("C1xC3", ("C1", "C3"), num_buckets=300),
]
PARTS = ("train", "validation", "test")
SIZES = {"group_rows": 128, "shard_rows": 700}


@pytest.fixture(scope="module")
def data_dir_of_text(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  PlantedCriteo(NUM, validation=0, test=0).write(folder / "criteo")
  return folder


def source(**options):
  return Criteo("criteo", block_bytes=1 << 16, **options)


def columns_of(examples):
  groups = list(examples.groups())
  return {k: np.concatenate([g[k] for g in groups]) for k in examples.columns}


def convert(data_dir, cache, **options):
  return prepare_stream(source(**options), SPECS, data_dir, cache, **SIZES)


def entries(cache):
  folder = cache / "prepared"
  return sorted(p for p in folder.iterdir() if p.suffix != ".lock")


def test_shards_hold_what_encoding_in_memory_gives(data_dir_of_text, tmp_path):
  stream = convert(data_dir_of_text, tmp_path / "c")
  memory = prepare_examples(source(), data_dir_of_text, tmp_path / "c")
  features = fit_features(SPECS, memory.train.table)
  assert stream.features.names == features.names
  for part in PARTS:
    expected = encode_examples(features, getattr(memory, part))
    found = columns_of(getattr(stream, part))
    assert list(found) == list(expected)
    for name in expected:
      # Blocks add up to the same mean but for its last digits.
      np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
      assert found[name].dtype == expected[name].dtype
  assert sum(len(getattr(stream, part)) for part in PARTS) == NUM
  assert len(stream.train.shards) > 2


class Counted(Exception):
  pass


@pytest.fixture
def count_blocks(monkeypatch):
  """Counts blocks that are read, and stops at a number of them."""
  state = {"read": 0, "stop_at": None}
  real = Criteo.blocks

  def blocks(self, data_dir, position=None):
    for block in real(self, data_dir, position):
      state["read"] += 1
      if state["read"] == state["stop_at"]:
        raise Counted
      yield block

  monkeypatch.setattr(Criteo, "blocks", blocks)
  return state


def test_it_is_done_once(data_dir_of_text, tmp_path, count_blocks):
  first = convert(data_dir_of_text, tmp_path)
  num_blocks = count_blocks["read"]
  again = convert(data_dir_of_text, tmp_path)
  assert count_blocks["read"] == num_blocks > 20
  assert again.train.fingerprint == first.train.fingerprint
  assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8, 0.97])
def test_a_killed_conversion_goes_on_and_ends_with_the_same_files(
  data_dir_of_text, tmp_path, count_blocks, share
):
  whole = convert(data_dir_of_text, tmp_path / "whole")
  total = count_blocks["read"]
  # The first half of the blocks are read to fit, the second to encode.
  count_blocks.update(read=0, stop_at=int(share * total))
  with pytest.raises(Counted):
    convert(data_dir_of_text, tmp_path / "cut")
  (partial,) = entries(tmp_path / "cut")
  assert partial.name.startswith(".partial-")
  done = count_blocks["read"]
  count_blocks.update(read=0, stop_at=None)
  resumed = convert(data_dir_of_text, tmp_path / "cut")
  if share > 0.5:  # Features were fitted, and some shards were written.
    assert count_blocks["read"] <= total - done + 4
  (entry,) = entries(tmp_path / "cut")
  assert not entry.name.startswith(".")
  for part in PARTS:
    one, other = getattr(whole, part), getattr(resumed, part)
    assert one.shards == other.shards  # With their checksums.
    assert one.fingerprint == other.fingerprint
  assert not (entry / "progress.json").exists()


def kill(data_dir, cache, count_blocks):
  convert(data_dir, cache / "other")
  count_blocks.update(read=0, stop_at=int(0.8 * count_blocks["read"]))
  with pytest.raises(Counted):
    convert(data_dir, cache)
  count_blocks.update(read=0, stop_at=None)
  (partial,) = [p for p in entries(cache) if p.name.startswith(".partial")]
  return partial


@pytest.mark.parametrize(
  "damage",
  [
    lambda p: next((p / "train").glob("*.arrow")).write_bytes(b"x"),
    lambda p: (p / "progress.json").write_text("{broken"),
    lambda p: (p / "features.npz").write_bytes(b"x"),
  ],
)
def test_broken_remains_are_not_used(
  data_dir_of_text, tmp_path, count_blocks, damage, caplog
):
  partial = kill(data_dir_of_text, tmp_path, count_blocks)
  damage(partial)
  made = convert(data_dir_of_text, tmp_path)
  expected = convert(data_dir_of_text, tmp_path / "other")
  for part in PARTS:
    found = getattr(made, part)
    assert found.fingerprint == getattr(expected, part).fingerprint
    assert sum(1 for _ in found.groups()) == len(found.group_rows)


def test_a_broken_entry_is_made_again(data_dir_of_text, tmp_path, caplog):
  first = convert(data_dir_of_text, tmp_path)
  next(first.train.directory.glob("*.arrow")).unlink()
  again = convert(data_dir_of_text, tmp_path)
  assert "is missing" in caplog.text and "rebuilt" in caplog.text
  assert again.train.fingerprint == first.train.fingerprint


def test_other_settings_make_another_entry(data_dir_of_text, tmp_path):
  convert(data_dir_of_text, tmp_path)
  convert(data_dir_of_text, tmp_path, seed=1)
  prepare_stream(source(), SPECS[:2], data_dir_of_text, tmp_path, **SIZES)
  # The size of blocks is no property of the data.
  same = dataclasses.replace(source(), block_bytes=1 << 20)
  prepare_stream(same, SPECS, data_dir_of_text, tmp_path, **SIZES)
  assert len(entries(tmp_path)) == 3


def test_further_labels_are_encoded_and_checked(data_dir_of_text, tmp_path):
  rules = (LabelRule("I1", "real"), LabelRule("I2", "number"))
  make = lambda labels: prepare_stream(
    source(), SPECS[:2], data_dir_of_text, tmp_path, labels=labels, **SIZES
  )
  split = make(rules[:1])
  assert split.labels == {"label/I1"}
  table = prepare_examples(source(), data_dir_of_text, tmp_path).train.table
  expected = table.column("I1").to_pylist()
  found = columns_of(split.train)["label/I1"]
  assert found.dtype == np.float32 and None in expected
  nan = [np.nan if value is None else value for value in expected]
  np.testing.assert_array_equal(found, nan)
  # The same columns under other rules are the same entry.
  known = len(entries(tmp_path))
  assert make((LabelRule("I1"),)).train.fingerprint == split.train.fingerprint
  assert len(entries(tmp_path)) == known
  row = table.column("I2").to_pylist().index(None)
  with pytest.raises(
    DataError, match=f"criteo train, row {row}: column 'I2' holds None"
  ):
    make(rules)
  with pytest.raises(DataError, match="criteo train has no column 'I99'"):
    make((LabelRule("I99"),))


def test_a_source_that_is_generated(tmp_path):
  planted = PlantedCriteo(3000, validation=0.0, test=0.25)
  split = prepare_stream(planted, SPECS, tmp_path, tmp_path, **SIZES)
  assert isinstance(split, StreamSplit)
  assert len(split.train) + len(split.test) == 3000
  assert len(split.validation) == 0
  assert split.validation.columns == split.train.columns


def test_errors_name_the_source(data_dir_of_text, tmp_path):
  strict = [Categorical("C3", "", Vocabulary(oov="error"))]
  message = "criteo: feature 'C3': row .* of column 'C3' holds"
  with pytest.raises(DataError, match=message):
    prepare_stream(source(), strict, data_dir_of_text, tmp_path)
  with pytest.raises(ConfigError, match="two features are named 'C3'"):
    prepare_stream(source(), strict * 2, data_dir_of_text, tmp_path)
  with pytest.raises(ConfigError, match="group_rows must lie"):
    prepare_stream(source(), SPECS, data_dir_of_text, tmp_path, group_rows=0)


def test_the_real_criteo_sample(data_dir, tmp_path):
  real = Criteo(
    *(
      f"ctr-format-samples/criteo/{part}.csv"
      for part in ("train", "dev", "test")
    )
  )
  split = prepare_stream(real, SPECS, data_dir, tmp_path)
  assert [len(getattr(split, part)) for part in PARTS] == [7200, 409, 391]
  labels = columns_of(split.train)["label"]
  # `cut -f1 train.csv | sort | uniq -c` counts 1,549 clicks.
  assert labels.sum() == 1549


def test_the_fingerprint_is_of_the_encoded_rows(data_dir_of_text, tmp_path):
  whole = convert(data_dir_of_text, tmp_path)
  same = prepare_stream(
    source(), SPECS, data_dir_of_text, tmp_path, group_rows=77, shard_rows=999
  )
  other = prepare_stream(source(), SPECS[:3], data_dir_of_text, tmp_path)
  shares = convert(data_dir_of_text, tmp_path, test_fraction=0.2)
  assert whole.fingerprint == same.fingerprint
  found = {split.fingerprint for split in (whole, other, shares)}
  assert len(found) == 3


@pytest.mark.parametrize(
  "name",
  ["window_rows", "num_lanes", "group_rows", "shard_rows", "exact_rows"],
)
def test_a_stream_needs_positive_sizes(name):
  with pytest.raises(ConfigError, match=f"StreamConfig.{name} must lie in"):
    StreamConfig(**{name: 0})
