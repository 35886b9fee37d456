import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.choices import PlanConfig
from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.planner import plan
from recjax.embeddings.row_optimizers import Adagrad, RowWiseAdagrad
from recjax.embeddings.tables import TableSpec
from recjax.errors import ConfigError

GIB = 2**30
SHAPE = {"data": 4, "model": 2}
NUM_IDS, DIM, BATCH = 10_000_000, 64, 1024


def collection(optimizer=Adagrad(), num_ids=NUM_IDS, **fields):  # noqa: B008
  specs = (
    TableSpec("item", num_ids, DIM, optimizer=optimizer, **fields),
    TableSpec("user", 1_000, DIM, optimizer=optimizer),
  )
  return EmbeddingCollection(
    specs, (Lookup("item", "item"), Lookup("user", "user"))
  )


SHAPES = {
  name: jax.ShapeDtypeStruct((BATCH,), jnp.int32) for name in ("item", "user")
}


def planned(memory_bytes=0, tables=None, shape=None, **fields):
  return plan(
    tables or collection(),
    batch=SHAPES,
    mesh_shape=shape or SHAPE,
    config=PlanConfig(memory_bytes),
    **fields,
  )


def test_a_plan_needs_no_devices():
  found = planned(shape={"data": 16, "model": 8})
  assert found.num_devices == 128
  assert found.strategies["item"] == "row_wise"
  assert found.batch_size == BATCH
  # 10,000,000 ids are 10,002,432 rows, a multiple of 4,096, cut into 128
  # pieces, and as many sums.
  item = found.arrays[0].cost
  assert item.table_bytes == item.slot_bytes == 78_144 * DIM * 4
  assert "128 devices (data=16 x model=8)" in found.describe()


def test_strategies_are_asked_for_by_table_or_by_array():
  tables = collection(sharding="column_wise")
  assert planned(tables=tables).strategies["item"] == "column_wise"
  found = planned(tables=tables, strategies={"item": "two_dimensional"})
  assert found.strategies["item"] == "two_dimensional"
  free = planned(tables=tables, strategies={"item": "auto"})
  assert free.strategies["item"] == planned().strategies["item"]
  with pytest.raises(ConfigError, match="Did you mean 'item'"):
    planned(strategies={"items": "row_wise"})


def test_capacity_and_imbalance_are_measured_on_a_batch():
  rng = np.random.default_rng(0)
  batch = {
    # Three of four of the first million rows: those of the first device.
    "item": np.where(
      rng.random(BATCH) < 0.75,
      rng.integers(1, 1_000_000, BATCH),
      rng.integers(1, NUM_IDS, BATCH),
    ).astype(np.int32),
    "user": rng.integers(1, 1_000, BATCH).astype(np.int32),
  }
  measured = plan(collection(), batch=batch, mesh_shape=SHAPE)
  assumed = planned()
  # The first of 8 devices is asked for 3 / 4 + 1 / 32 of all.
  item = measured.arrays[0].cost
  assert 0.7 * 8 < item.imbalance < 0.85 * 8
  assert 0.7 * BATCH / 8 < item.capacity < BATCH / 8
  assert assumed.arrays[0].cost.imbalance == pytest.approx(1.0, abs=0.01)
  assert item.exchanged_bytes > assumed.arrays[0].cost.exchanged_bytes


def test_a_mesh_that_does_not_divide_the_columns_is_no_remedy():
  spec = TableSpec("item", 1000, 6, optimizer=Adagrad(), sharding="column_wise")
  tables = EmbeddingCollection((spec,), (Lookup("item", "item"),))
  found = planned(
    tables=tables, shape={"data": 2, "model": 2}, memory_bytes=100
  )
  assert found.shortfall_bytes
  (more,) = [line for line in found.remedies if " devices (" in line]
  assert more.startswith("8 devices (data=4 x model=2): ")


def test_remedies_are_tried_and_say_what_is_left():
  # 10,000,000 x 64 x 4 bytes on 8 devices twice is .6 GiB.
  found = planned(int(0.35 * GIB))
  assert 0.2 * GIB < found.shortfall_bytes < 0.3 * GIB
  with pytest.raises(ConfigError) as error:
    found.check()
  lines = str(error.value).splitlines()
  assert "does not fit by" in lines[0]
  half, rows, more, fewer = lines[1:]
  assert half.startswith("- dtype='bfloat16' for all tables: ")
  assert "still" in half and half.endswith("too much")
  assert rows.startswith("- optimizer=RowWiseAdagrad()")
  assert rows.endswith("a device, which fits")
  assert more.startswith("- 16 devices (data=4 x model=4): ")
  assert more.endswith("a device, which fits")
  assert fewer.startswith("- compression=Hashing(")
  assert "'item', which has 10,000,000 rows" in fewer
  assert fewer.endswith("a device, which fits")


def test_what_was_asked_for_may_be_what_does_not_fit():
  found = planned(GIB, strategies={"item": "data_parallel"})
  remedies = "\n".join(found.remedies)
  assert "sharding='row_wise' for all tables" in remedies
  (row_wise,) = [line for line in found.remedies if "row_wise" in line]
  assert row_wise.endswith("which fits")


def test_what_helps_is_what_fits_when_it_is_done():
  found = planned(int(0.35 * GIB))
  (line,) = [line for line in found.remedies if "RowWiseAdagrad" in line]
  done = planned(int(0.35 * GIB), collection(RowWiseAdagrad()))
  assert done.shortfall_bytes == 0 and not done.remedies
  assert line.endswith(
    f"{done.device_bytes / 2**20:,.1f} MiB a device, which fits"
  )


def test_compression_alone_may_not_do_it():
  found = planned(1000)
  assert "compression of 'item' alone does not do it" in found.remedies


def test_a_collection_without_tables_needs_nothing():
  empty = EmbeddingCollection((), ())
  found = plan(empty, batch={}, mesh_shape=SHAPE, config=PlanConfig(1))
  assert found.device_bytes == 0 and found.strategies == {}
