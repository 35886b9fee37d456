import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.batches import Batches, grain_iterator
from recjax.data.example_shards import EncodedExamples, ShardWriter
from recjax.data.stream_batches import StreamBatches, stream_evaluation_batches
from recjax.errors import ConfigError, DataError

NUM, GROUP, BATCH, LANES = 1003, 20, 24, 4


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
  folder = tmp_path_factory.mktemp("rows")
  row = np.arange(NUM, dtype=np.int32)
  writer = ShardWriter(folder, GROUP)
  for start in range(0, NUM, 100):
    part = row[start : start + 100]
    pair = np.stack([part, -part], axis=1)
    writer.add({"row": part, "pair": pair, "label": (part % 2).astype("f4")})
    if start % 300 == 0:
      writer.finish_shard()
  writer.finish("rows", {})
  return EncodedExamples.load(folder)


def make(examples, seed=3, window_rows=320, **options):
  options = {"batch_size": BATCH, "num_lanes": LANES} | options
  return StreamBatches(examples, seed=seed, window_rows=window_rows, **options)


def equal(got, want):
  assert set(got) == set(want)
  for name in want:
    np.testing.assert_array_equal(got[name], want[name])
    assert np.asarray(got[name]).dtype == np.asarray(want[name]).dtype


def epoch_rows(batches, epoch):
  first = epoch * batches.steps_per_epoch
  steps = range(first, first + batches.steps_per_epoch)
  return [batches.host_batch(step) for step in steps]


def test_facts(examples):
  batches = make(examples)
  assert isinstance(batches, Batches)
  # Lanes of at most 251 rows, of which a batch takes 6.
  assert batches.steps_per_epoch == 42 and batches.num_rows == NUM
  assert batches.num_bytes == NUM * 16
  assert batches.batch_ndims == {"row": 1, "pair": 2, "label": 1, "where": 1}
  assert batches.memory_bytes == (LANES + 2) * 4 * GROUP * 16


@pytest.mark.parametrize("lanes", [1, 4, 8])
@pytest.mark.parametrize("window_rows", [1, 320, 10**6])
def test_an_epoch_visits_each_row_once(examples, lanes, window_rows):
  batches = make(examples, window_rows=window_rows, num_lanes=lanes)
  orders = []
  for epoch in range(2):
    found = epoch_rows(batches, epoch)
    live = np.concatenate([batch["where"] for batch in found])
    rows = np.concatenate([batch["row"] for batch in found])
    assert sorted(rows[live]) == list(range(NUM))
    assert all(batch["where"].all() for batch in found[:-1])
    for batch in found:
      np.testing.assert_array_equal(batch["pair"][:, 0], batch["row"])
      np.testing.assert_array_equal(batch["label"], batch["row"] % 2)
    orders.append(rows.tolist())
  assert orders[0] != orders[1]


def test_what_fills_up_the_last_batch_are_real_rows(examples):
  last = make(examples).host_batch(41)
  # Lanes have 250 or 251 rows; 41 batches took 246 of each.
  assert last["where"].reshape(4, 6).sum(1).tolist() == [4, 5, 5, 5]
  lanes = last["row"].reshape(4, 6)
  assert np.all(lanes[:, 5] == lanes[:, 4])
  assert lanes[0, 3] == lanes[0, 4]


def test_any_batch_can_be_made_alone(examples):
  batches, fresh = make(examples), make(examples)
  for step in (17, 3, 100, 41, 42, 0):
    equal(fresh.host_batch(step), batches.host_batch(step))
    equal(make(examples).host_batch(step), batches.host_batch(step))
  other = make(examples, seed=4).host_batch(0)
  assert np.any(other["row"] != batches.host_batch(0)["row"])


def test_device_and_host_give_the_same_batches(examples):
  batches = make(examples)
  data = batches.device_data
  np.testing.assert_array_equal(data["row"], np.arange(NUM))
  gather = jax.jit(batches.gather)
  for step in (0, 1, 40, 41, 42, 83):
    epoch, index = divmod(step, 42)
    device = gather(data, batches.plan(epoch), jnp.int32(index))
    equal(jax.tree.map(np.asarray, device), batches.host_batch(step))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_make_up_the_batches_of_one(examples, count):
  whole = make(examples)
  shares = [make(examples) for _ in range(count)]
  for step in range(0, 84, 5):
    parts = [s.host_batch(step, i, count) for i, s in enumerate(shares)]
    expected = whole.host_batch(step)
    equal(
      {k: np.concatenate([p[k] for p in parts]) for k in expected}, expected
    )


def test_a_process_reads_its_own_groups_alone(examples, monkeypatch):
  reads = []
  real = EncodedExamples.read_group

  def spy(self, group):
    reads.append(group)
    return real(self, group)

  monkeypatch.setattr(EncodedExamples, "read_group", spy)
  seen = []
  for process in range(2):
    reads.clear()
    batches = make(examples)
    for step in range(42):
      batches.host_batch(step, process, 2)
    seen.append(list(reads))
  num_groups = len(examples.group_rows)
  for groups in seen:
    assert len(groups) <= num_groups / 2 + 3  # A lane's ends are cut.
    assert len(set(groups)) >= len(groups) - 1
  assert set(seen[0]) | set(seen[1]) == set(range(num_groups))


def test_memory_holds_a_window_of_each_lane(examples):
  batches = make(examples)
  for step in range(60):
    batches.host_batch(step)
    held = [columns for _, columns in batches._held.values()]
    total = sum(x.nbytes for columns in held for x in columns.values())
    assert len(held) == LANES
    assert total <= batches.memory_bytes * LANES / (LANES + 2)


def test_memory_holds_no_lanes_of_other_processes(examples):
  batches = make(examples)
  batches.host_batch(0)
  assert set(batches._held) == set(range(LANES))
  batches.host_batch(0, 1, 2)
  assert set(batches._held) == {2, 3}


def test_lanes_do_not_all_read_at_the_same_step(examples, monkeypatch):
  batches = make(examples)
  read = []
  real = StreamBatches._read_window
  monkeypatch.setattr(
    StreamBatches,
    "_read_window",
    lambda self, *place: read.append(place) or real(self, *place),
  )
  counts = []
  for step in range(42):
    read.clear()
    batches.host_batch(step)
    counts.append(len(read))
  assert counts[0] == LANES and max(counts[1:]) < LANES


def test_batches_mix_rows_from_far_apart(examples):
  rows = make(examples, window_rows=320).host_batch(5)["row"]
  groups = rows // GROUP
  assert len(set(groups.tolist())) > 8
  # Spearman's correlation of place and row in an epoch: deviation .03.
  batches = epoch_rows(make(examples), 0)
  order = np.concatenate([batch["row"] for batch in batches[:-1]])
  assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.25


# -- Grain ---------------------------------------------------------------------


def test_grain_goes_on_from_a_saved_state(examples):
  batches = make(examples)
  iterator = grain_iterator(batches, 90)
  for step in range(50):
    equal(next(iterator), batches.host_batch(step))
  fresh = grain_iterator(make(examples), 90)
  fresh.set_state(iterator.get_state())
  rest = list(fresh)
  assert len(rest) == 40
  for step, batch in enumerate(rest, 50):
    equal(batch, batches.host_batch(step))


# -- Evaluation ----------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("size", [4, 24, 100, 2000])
def test_evaluation_covers_all_rows(examples, size, count):
  seen, lengths = [], []
  for process in range(count):
    found = list(
      stream_evaluation_batches(
        examples, size, process_index=process, process_count=count
      )
    )
    lengths.append(len(found))
    for batch in found:
      assert all(len(values) == size // count for values in batch.values())
      live = batch["where"]
      np.testing.assert_array_equal(batch["pair"][:, 1], -batch["row"])
      seen += batch["row"][live].tolist()
  assert seen == list(range(NUM))
  assert len(set(lengths)) == 1


# -- Errors --------------------------------------------------------------------


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"batch_size": 0}, "batch_size must lie"),
    (
      {"batch_size": 10},
      "batch_size must be a multiple of num_lanes=4; got 10",
    ),
    ({"num_lanes": 0}, "num_lanes must lie"),
    ({"window_rows": 0}, "window_rows must lie"),
  ],
)
def test_bad_sizes(examples, options, message):
  with pytest.raises(ConfigError, match=message):
    make(examples, **options)


def test_processes_must_share_the_lanes(examples):
  with pytest.raises(ConfigError, match="multiple of the 3 processes; got 4"):
    make(examples).host_batch(0, 0, 3)
  with pytest.raises(ConfigError, match="batch_size must be a multiple of"):
    next(stream_evaluation_batches(examples, 10, process_count=3))


def test_too_few_rows(tmp_path):
  writer = ShardWriter(tmp_path, 5)
  writer.add({"row": np.arange(3, dtype=np.int32)})
  writer.finish("few", {})
  few = EncodedExamples.load(tmp_path)
  with pytest.raises(DataError, match="few has 3 rows, .* num_lanes=4: set"):
    make(few)
  with pytest.raises(DataError, match="few has 3 rows for 4 process"):
    next(stream_evaluation_batches(few, 4, process_count=4))
  batches = make(few, num_lanes=3, batch_size=6)
  rows = [batches.host_batch(step) for step in range(2)]
  for batch in rows:
    assert sorted(batch["row"][batch["where"]]) == [0, 1, 2]


def test_a_broken_shard_is_named_in_the_middle_of_training(examples, tmp_path):
  import shutil

  shutil.copytree(examples.directory, tmp_path / "copy")
  copy = EncodedExamples.load(tmp_path / "copy")
  path = sorted((tmp_path / "copy").glob("*.arrow"))[-1]
  path.write_bytes(bytes(path.stat().st_size))
  with pytest.raises(DataError, match="does not have the checksum"):
    epoch_rows(make(copy), 0)
