import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from recjax.embeddings.collection import (
  ArrayLayout,
  EmbeddingCollection,
  Lookup,
)
from recjax.embeddings.compression import QuotientRemainder
from recjax.embeddings.strategies import (
  STRATEGIES,
  lookup_columns,
  make_partition,
)
from recjax.embeddings.tables import TableSpec
from recjax.errors import ConfigError
from recjax.train.mesh import MeshConfig, make_mesh

SHAPE = {"data": 4, "model": 2}


def layout(num_rows=1024, dim=16):
  spec = TableSpec("t", num_rows, dim)
  return ArrayLayout("t", (spec,), (0,), num_rows)


@pytest.mark.parametrize(
  ("strategy", "piece", "replicas"),
  [
    ("data_parallel", (1024, 16), 8),
    ("row_wise", (128, 16), 1),
    ("row_wise_replicated", (512, 16), 4),
    ("column_wise", (1024, 8), 4),
    ("table_wise", (128, 16), 1),
    ("two_dimensional", (256, 8), 1),
  ],
)
def test_pieces_are_those_that_jax_makes_of_the_spec(strategy, piece, replicas):
  mesh = make_mesh(MeshConfig(**SHAPE))
  part = make_partition(layout(), strategy, mesh.shape)
  array = jax.device_put(
    np.zeros((1024, 16), np.float32), NamedSharding(mesh, part.spec)
  )
  shards = array.addressable_shards
  assert (part.block, part.width) == shards[0].data.shape == piece
  copies = sum(shard.index == shards[0].index for shard in shards)
  assert part.num_replicas == copies == replicas
  assert part.by_table == (strategy == "table_wise")


def test_axes_of_one_device_cut_nothing():
  for strategy in STRATEGIES:
    part = make_partition(layout(), strategy, {"data": 1, "model": 1})
    assert part.spec == PartitionSpec(None, None)
    assert part.num_replicas == 1
  line = {"data": 8, "model": 1}
  of = lambda strategy: make_partition(layout(), strategy, line)
  assert of("column_wise") == of("data_parallel")
  assert of("two_dimensional") == of("row_wise")


def test_a_slot_of_whole_rows_is_not_cut_along_its_column():
  part = make_partition(layout(), "two_dimensional", SHAPE)
  assert part.slot_spec(2) == PartitionSpec(("data",), ("model",))
  assert part.slot_spec(1) == PartitionSpec(("data",))


@pytest.mark.parametrize(
  ("strategy", "num_rows", "dim", "shape", "message"),
  [
    ("row_vise", 1024, 16, SHAPE, "'row_vise'. Did you mean 'row_wise'"),
    ("row_wise", 1024, 16, {"data": 4}, "axes data, model; got data"),
    ("column_wise", 1024, 9, SHAPE, "the 9 columns .* 2 devices along model"),
    (
      "row_wise",
      128,
      16,
      {"data": 16, "model": 16},
      "the 128 rows .* 256 devices along data and model for 'row_wise'",
    ),
  ],
)
def test_what_can_not_be_cut_is_refused(
  strategy, num_rows, dim, shape, message
):
  with pytest.raises(ConfigError, match=message):
    make_partition(layout(num_rows, dim), strategy, shape)


def test_lookups_stand_in_the_order_of_their_rows():
  compressed = QuotientRemainder(10)
  collection = EmbeddingCollection(
    (
      TableSpec("a", 50, 4, stack="s"),
      TableSpec("q", 60, 4, stack="s", compression=compressed),
      TableSpec("alone", 70, 4),
    ),
    (
      Lookup("y", "q", "mean"),
      Lookup("x", "a"),
      Lookup("y", "alone", name="z"),
      Lookup("x", "q", name="again"),
    ),
  )
  batch = {
    "x": jnp.array([7, 8], jnp.int32),
    "y": jnp.array([[1, 2, 3], [4, 5, 6]], jnp.int32),
  }
  columns = lookup_columns(collection, batch)
  assert columns == {
    "s": (1, 1, 1, 1, 1, 1, 0, 1, 1),
    "alone": (0, 0, 0),
  }
  rows = np.asarray(collection.routes(batch)["s"]).reshape(2, -1)
  start = collection.arrays["s"].starts[1]
  np.testing.assert_array_equal(
    rows >= start, [np.array(columns["s"]) == 1] * 2
  )
  with pytest.raises(ConfigError, match=r"Lookup\('x'\).feature"):
    lookup_columns(collection, {"y": batch["y"]})
