import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.collectives import collectives
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.rows import PADDING_ROW
from recjax.embeddings.strategies import lookup_columns, make_partition
from recjax.embeddings.table_exchange import (
  TableExchange,
  TableRoute,
  sent_columns,
  table_owners,
)
from recjax.embeddings.tables import TableSpec
from recjax.train.mesh import MeshConfig, make_mesh

SIZES = {"a": 100, "b": 28, "c": 260, "d": 120}
BATCH, DIM = 24, 4
COLLECTION = EmbeddingCollection(
  tuple(TableSpec(name, n, DIM, stack="s") for name, n in SIZES.items()),
  (
    Lookup("d", "d"),
    Lookup("a", "a"),
    Lookup("c", "c", "sum"),
    Lookup("b", "b"),
  ),
)
LAYOUT = COLLECTION.arrays["s"]
SHAPES = {
  "a": (BATCH,),
  "b": (BATCH,),
  "c": (BATCH, 3),
  "d": (BATCH,),
}
COLUMNS = (3, 0, 2, 2, 2, 1)


def partition(data, model):
  return make_partition(LAYOUT, "table_wise", {"data": data, "model": model})


def test_columns_name_the_table_of_each_lookup():
  shapes = {
    name: jax.ShapeDtypeStruct(shape, jnp.int32)
    for name, shape in SHAPES.items()
  }
  assert lookup_columns(COLLECTION, shapes) == {"s": COLUMNS}


def test_a_table_lies_where_its_rows_do():
  # 512 rows in 4 blocks of 128: a and b in the first, c in three, d in two.
  assert LAYOUT.num_rows == 512 and LAYOUT.starts == (0, 100, 128, 388)
  part = partition(2, 2)
  assert [list(owners) for owners in table_owners(LAYOUT, part)] == [
    [0],
    [0],
    [1, 2, 3],
    [3],
  ]
  assert sent_columns(LAYOUT, part, COLUMNS) == [
    [1, 5],
    [2, 3, 4],
    [2, 3, 4],
    [0, 2, 3, 4],
  ]


def functions(data, model):
  mesh = make_mesh(MeshConfig(data, model))
  exchange = TableExchange(partition(data, model), LAYOUT)
  batch_axes = PartitionSpec(("data", "model"))

  def local(table, route, grads):
    add = lambda total, rows, sums: total.at[rows].add(sums, mode="drop")
    zeros = jnp.zeros(table.shape)
    fetched = exchange.fetch(table, route)
    return fetched, exchange.deliver(zeros, route, grads, add)

  mapped = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(exchange.partition.spec, batch_axes, batch_axes),
    out_specs=(batch_axes, exchange.partition.spec),
    check_vma=False,
  )
  place = lambda x: jax.device_put(x, NamedSharding(mesh, batch_axes))
  return jax.jit(mapped), place


@pytest.mark.parametrize(("data", "model"), [(4, 2), (1, 4)])
def test_any_ids_are_served_in_one_exchange(data, model):
  call, place = functions(data, model)
  rng = np.random.default_rng(0)
  table = rng.normal(size=(LAYOUT.num_rows, DIM)).astype(np.float32)
  starts, sizes = np.array(LAYOUT.starts), np.array(list(SIZES.values()))
  columns = np.array(COLUMNS)
  grads = rng.normal(size=(BATCH * len(columns), DIM)).astype(np.float32)
  even = rng.integers(0, sizes[columns], (BATCH, len(columns)))
  for ids in (
    even,
    np.zeros_like(even),
    np.broadcast_to(sizes[columns] - 1, even.shape),
  ):
    rows = (starts[columns] + ids).reshape(-1).astype(np.int32)
    rows[rng.random(len(rows)) < 0.2] = PADDING_ROW
    inside = rows < LAYOUT.num_rows
    route = TableRoute(rows, COLUMNS)
    fetched, sums = call(*map(place, (table, route, grads)))
    expected = np.where(inside[:, None], table[np.minimum(rows, 511)], 0.0)
    np.testing.assert_array_equal(fetched, expected)
    expected = np.zeros_like(table)
    np.add.at(expected, rows[inside], grads[inside])
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-5)
  text = call.lower(*map(place, (table, route, grads))).compile().as_text()
  # Ids once, rows, and gradients.
  assert [c.kind for c in collectives(text)] == ["all-to-all"] * 3
