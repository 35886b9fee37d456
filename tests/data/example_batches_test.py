import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from recjax.data import example_batches as lib
from recjax.data.batches import Batches, grain_iterator
from recjax.data.example_batches import ExampleBatches
from recjax.data.examples import Examples
from recjax.errors import ConfigError, DataError
from recjax.features.fitted import fit_features
from recjax.features.specs import Categorical, MultiHot, Numeric

NUM, BATCH = 22, 8
_rng = np.random.default_rng(0)
COLUMNS = {
  "row": np.arange(NUM, dtype=np.int32),
  "tags": _rng.integers(0, 9, (NUM, 3)).astype(np.int32),
  "age": _rng.normal(size=NUM).astype(np.float32),
  "label": (np.arange(NUM) % 2).astype(np.float32),
}


def make(seed=3, columns=COLUMNS, batch_size=BATCH):
  return ExampleBatches(columns, batch_size=batch_size, seed=seed)


@pytest.fixture(scope="module")
def batches():
  return make()


def equal(got, want):
  assert set(got) == set(want)
  for name in want:
    np.testing.assert_array_equal(got[name], want[name])
    assert np.asarray(got[name]).dtype == np.asarray(want[name]).dtype


def test_facts(batches):
  assert isinstance(batches, Batches)
  assert batches.steps_per_epoch == 3 and batches.num_rows == NUM
  assert batches.num_bytes == NUM * (4 + 12 + 4 + 4)
  assert batches.batch_ndims == {
    "row": 1,
    "tags": 2,
    "age": 1,
    "label": 1,
    "where": 1,
  }


def test_an_epoch_visits_each_row_once_and_keeps_rows_together(batches):
  for epoch in range(3):
    seen = []
    for index in range(3):
      batch = batches.host_batch(3 * epoch + index)
      rows, live = batch["row"], batch["where"]
      assert live.dtype == bool and len(rows) == BATCH
      for name, column in COLUMNS.items():
        np.testing.assert_array_equal(batch[name], column[rows])
      seen += rows[live].tolist()
      assert live.all() or index == 2
    assert sorted(seen) == list(range(NUM))


def test_the_last_batch_is_filled_up_with_real_rows(batches):
  first, last = batches.host_batch(0), batches.host_batch(2)
  assert last["where"].tolist() == [True] * 6 + [False] * 2
  assert last["row"][6:].tolist() == first["row"][:2].tolist()
  few = make(columns={"row": np.arange(3, dtype=np.int32)})
  batch = few.host_batch(0)
  assert batch["where"].tolist() == [True] * 3 + [False] * 5
  assert sorted(batch["row"][:3]) == [0, 1, 2]


def test_device_and_host_give_the_same_batches(batches):
  data = batches.device_data
  gather = jax.jit(lib.gather_examples, static_argnames="batch_size")
  for step in range(6):
    epoch, index = divmod(step, 3)
    plan = batches.plan(epoch)
    device = gather(data, plan, index, batch_size=BATCH)
    equal(jax.tree.map(np.asarray, device), batches.host_batch(step))
    same = batches.gather(data, plan, jnp.int32(index))
    equal(jax.tree.map(np.asarray, same), batches.host_batch(step))


def test_seed_and_epoch_fix_the_order(batches):
  equal(make().host_batch(4), batches.host_batch(4))
  rows = [batches.host_batch(step)["row"].tolist() for step in (0, 3)]
  assert rows[0] != rows[1] != make(seed=4).host_batch(0)["row"].tolist()


@pytest.mark.parametrize("count", [2, 4])
def test_shares_of_processes_make_up_the_batch(batches, count):
  for step in range(3):
    parts = [batches.host_batch(step, i, count) for i in range(count)]
    whole = batches.host_batch(step)
    joined = {k: np.concatenate([part[k] for part in parts]) for k in whole}
    equal(joined, whole)


def test_grain_goes_on_from_a_saved_state(batches):
  iterator = grain_iterator(batches, 7)
  for step in range(4):
    equal(next(iterator), batches.host_batch(step))
  fresh = grain_iterator(make(), 7)
  fresh.set_state(iterator.get_state())
  rest = list(fresh)
  assert len(rest) == 3
  for step, batch in enumerate(rest, 4):
    equal(batch, batches.host_batch(step))


# -- Evaluation ----------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [4, 8, 22, 64])
def test_evaluation_covers_all_rows_in_order(size, count):
  if size % count:
    return
  streams = [
    lib.evaluation_batches(COLUMNS, size, process_index=i, process_count=count)
    for i in range(count)
  ]
  rows = []
  for parts in zip(*streams, strict=True):
    batch = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    assert all(len(values) == size for values in batch.values())
    live = batch["where"]
    np.testing.assert_array_equal(
      batch["tags"][live], COLUMNS["tags"][batch["row"][live]]
    )
    rows += batch["row"][live].tolist()
  assert rows == list(range(NUM))


# -- Encoding ------------------------------------------------------------------


def test_examples_are_encoded_with_label_and_weight():
  table = pa.table(
    {
      "city": ["a", "b", "a", None],
      "tags": [["x"], [], ["x", "y"], None],
      "age": [1.0, 2.0, None, 4.0],
      "click": [1, 0, 0, 1],
      "w": [1.0, 2.0, 3.0, 4.0],
    }
  )
  examples = Examples.from_table("toy", table, label="click", weight="w")
  specs = [Categorical("city"), MultiHot("tags", max_len=2), Numeric("age")]
  columns = lib.encode_examples(fit_features(specs, table), examples)
  assert list(columns) == ["city", "tags", "age", "label", "weight"]
  assert columns["city"].tolist() == [2, 3, 2, 0]
  assert columns["tags"].tolist() == [[2, 0], [0, 0], [2, 3], [0, 0]]
  assert columns["age"].tolist() == [1, 2, 0, 4]
  assert columns["label"].tolist() == [1, 0, 0, 1]
  assert columns["weight"].tolist() == [1, 2, 3, 4]
  batch = make(columns=columns, batch_size=4).host_batch(0)
  assert sorted(batch["weight"]) == [1, 2, 3, 4]


# -- Errors --------------------------------------------------------------------


@pytest.mark.parametrize(
  ("columns", "message"),
  [
    ({}, "need columns, and none named 'where'; got none"),
    ({"where": np.ones(3)}, "none named 'where'; got where"),
    ({"a": np.ones(3), "b": np.ones(4)}, "'a' has 3 and 'b' has 4"),
    ({"a": np.ones(0)}, "not one example"),
  ],
)
def test_bad_columns(columns, message):
  with pytest.raises(DataError, match=message):
    make(columns=columns)
  with pytest.raises(DataError, match=message):
    next(lib.evaluation_batches(columns, 4))


def test_bad_sizes(batches):
  with pytest.raises(ConfigError, match="batch_size must lie in"):
    make(batch_size=0)
  with pytest.raises(ConfigError, match="multiple of the 3 processes; got 8"):
    grain_iterator(batches, 1, process_count=3)
  with pytest.raises(ConfigError, match="multiple of the 3 processes; got 8"):
    next(lib.evaluation_batches(COLUMNS, 8, process_count=3))


def test_too_many_rows_for_an_index_of_32_bits():
  one = np.broadcast_to(np.zeros(1, np.int8), (2**31,))
  with pytest.raises(DataError, match="fewer than 2\\^31 examples"):
    make(columns={"a": one})
