"""Rows in memory and rows on disk answer alike."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.example_batches import ExampleBatches
from recjax.data.example_blocks import Block, read_blocks
from recjax.data.example_parts import ExampleParts, MemoryParts, StreamParts
from recjax.data.example_stream import StreamConfig, prepare_stream
from recjax.data.label_columns import LabelRule
from recjax.data.stream_batches import StreamBatches
from recjax.errors import DataError
from recjax.features.fitted import fit_features
from recjax.features.specs import Categorical, Numeric

COLORS = np.array(["red", "green", "blue"])
SPECS = (Categorical("color"), Numeric("x"))
CONFIG = StreamConfig(window_rows=64, num_lanes=4, group_rows=16)
SIZES = {"train": 300, "validation": 70, "test": 50}


@dataclasses.dataclass(frozen=True)
class Colors:
  """Blocks of 60 rows; every third row is not for training."""

  weight_column: str = "weight"
  num_rows: int = 420
  name: str = "colors"
  label_column: str = "label"

  def files(self, data_dir):
    return ()

  def blocks(self, data_dir, position=None):
    rng = np.random.default_rng(0)
    label = (rng.random(420) < 0.3).astype(np.float32)
    table = pa.table(
      {
        "label": label,
        "color": COLORS[rng.integers(0, 3, 420)],
        "x": np.arange(420, dtype=np.float32),
        "weight": rng.integers(1, 5, 420).astype(np.float32) + 2 * label,
      }
    )
    for start in range(0, self.num_rows, 60):
      part = table.slice(start, 60)
      cut = {
        "train": part.slice(0, 43 if start < 360 else 42),
        "validation": part.slice(43 if start < 360 else 42, 10),
      }
      cut["test"] = part.slice(sum(len(rows) for rows in cut.values()))
      yield Block(cut, {"row": start + 60})


@pytest.fixture(scope="module", params=["weight", ""])
def both(request, tmp_path_factory):
  source = Colors(request.param)
  folder = tmp_path_factory.mktemp("colors")
  labels = (LabelRule("x", "real"), LabelRule("label", in_batch=False))
  split = prepare_stream(
    source, SPECS, folder, folder, labels=labels, group_rows=16
  )
  columns = ("color", "x")
  disk = StreamParts(split, source, folder, CONFIG, columns, ("x",))
  examples = read_blocks(source, folder)
  features = fit_features(SPECS, examples.train.table)
  return MemoryParts(examples, features, ("x", "label")), disk


def test_they_hold_the_same_rows(both):
  for parts in both:
    assert isinstance(parts, ExampleParts)
    assert [parts.num_rows(part) for part in SIZES] == [300, 70, 50]
  memory, disk = both
  for part in SIZES:
    np.testing.assert_array_equal(memory.labels(part), disk.labels(part))
    weights = memory.weights(part), disk.weights(part)
    if not disk.source.weight_column:
      assert weights == (None, None)
    else:
      np.testing.assert_array_equal(*weights)
    pairs = zip(memory.batches(part, 32), disk.batches(part, 32), strict=True)
    for one, other in pairs:
      assert one.keys() == other.keys()
      for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_columns_of_labels(both):
  memory, disk = both
  raw = memory.split.validation.table
  for parts in both:
    for name in ("label", "x"):
      found = parts.numbers("validation", name)
      np.testing.assert_array_equal(found, raw.column(name).to_numpy())
    blocks = list(parts.number_blocks("train", ("x", "label")))
    assert all(list(block) == ["x", "label"] for block in blocks)
    joined = np.concatenate([block["x"] for block in blocks])
    np.testing.assert_array_equal(joined, memory.numbers("train", "x"))
    pairs = list(parts.weighted_blocks("train", ("x",)))
    joined = np.concatenate([block["x"] for block, _ in pairs])
    np.testing.assert_array_equal(joined, memory.numbers("train", "x"))
    weights = [weight for _, weight in pairs]
    if parts.weights("train") is None:
      assert weights == [None] * len(pairs)
    else:
      joined = np.concatenate(weights)
      np.testing.assert_array_equal(joined, memory.weights("train"))
  assert len(blocks) == len(pairs) == 19  # Of 16 rows each, on disk.
  batch = disk.training_batches(8, 0).host_batch(0)
  assert "label/x" in batch and "label/label" not in batch
  np.testing.assert_array_equal(batch["label/x"], batch["x"])


def test_a_part_that_is_too_large(both):
  memory, disk = both
  less = dataclasses.replace(CONFIG, exact_rows=69)
  few = dataclasses.replace(disk, config=less)
  assert few.in_passing("validation") and not few.in_passing("test")
  assert not disk.in_passing("validation")
  assert not memory.in_passing("validation")


def test_the_base_rate_is_that_of_the_training_rows(both):
  memory, _ = both
  label = memory.split.train.table.column("label").to_numpy()
  weight = memory.split.train.table.column("weight").to_numpy()
  expected = [label.mean(), (label * weight).sum() / weight.sum()]
  if not memory.split.train.weight:
    expected[1] = expected[0]
  assert expected[1] >= expected[0]
  for parts in both:
    found = [parts.base_rate(weighted=weighted) for weighted in (False, True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_raw_columns_as_text(both):
  memory, _ = both
  for parts in both:
    for part in ("validation", "test"):
      table = getattr(memory.split, part).table
      for column in ("color", "x"):
        texts = parts.texts(part, column)
        shown = [texts.values[code] for code in texts.codes]
        assert shown == [str(v) for v in table.column(column).to_pylist()]
    assert parts.texts("test", "x") is parts.texts("test", "x")


def test_batches_of_training(both):
  memory, disk = (parts.training_batches(8, 3) for parts in both)
  assert isinstance(memory, ExampleBatches)
  assert isinstance(disk, StreamBatches)
  assert (disk.num_lanes, disk.window_rows) == (4, 64)
  for batches in (memory, disk):
    steps = range(batches.steps_per_epoch)
    parts = [batches.host_batch(step) for step in steps]
    rows = np.concatenate([part["x"][part["where"]] for part in parts])
    assert len(rows) == len(set(rows)) == 300


def test_another_length_of_the_source_is_noticed(both):
  _, disk = both
  less = dataclasses.replace(disk.source, num_rows=360)
  changed = dataclasses.replace(disk, source=less)
  with pytest.raises(DataError, match="colors has 60 rows for validation"):
    changed.texts("validation", "color")
