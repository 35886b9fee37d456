from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.collectives import collectives
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.planner import plan
from recjax.embeddings.row_optimizers import (
  SGD,
  Adagrad,
  RowOptimizer,
  RowWiseAdagrad,
  SkipAwareAdam,
)
from recjax.embeddings.sharding import ShardedCollection
from recjax.embeddings.strategies import STRATEGIES
from recjax.embeddings.tables import TableSpec
from recjax.errors import ConfigError
from recjax.train.checkpoint import Checkpoints
from recjax.train.mesh import MeshConfig, make_mesh

NUM_IDS, DIM, BATCH, LEN = 20_000, 16, 32, 3
OPTIMIZERS = {
  "sgd": SGD(0.5),
  "adagrad": Adagrad(0.1),
  "row_wise_adagrad": RowWiseAdagrad(0.1),
  "skip_aware_adam": SkipAwareAdam(0.01),
  "dense": None,
}
BATCH_AXES = PartitionSpec(("data", "model"))


def make_collection(optimizers=OPTIMIZERS, num_ids=NUM_IDS, dim=DIM):
  """A stack of two tables for each optimizer, all read by the same features."""
  tables, lookups = [], []
  for name, optimizer in optimizers.items():
    for feature, combiner in (("user", "none"), ("history", "mean")):
      table = f"{name}/{feature}"
      tables.append(
        TableSpec(table, num_ids, dim, optimizer=optimizer, stack=name)
      )
      lookups.append(Lookup(feature, table, combiner, name=table))
  return EmbeddingCollection(tuple(tables), tuple(lookups))


COLLECTION = make_collection()


def batch_of(step):
  """A batch; at every third step all ids lie in the rows of one device."""
  rng = np.random.default_rng(step)
  num_ids = 200 if step % 3 == 2 else NUM_IDS
  draw = lambda *shape: rng.integers(0, num_ids, shape).astype(np.int32)
  return {
    "user": draw(BATCH),
    "history": draw(BATCH, LEN),
    "target": rng.normal(size=BATCH).astype(np.float32),
  }


def make_step(collection):
  def step(tables, slots, index, batch):
    routes = collection.routes(batch)
    dense = {"dense": tables["dense"]}
    sparse = {name: tables[name] for name in slots}
    rows = collection.gather(sparse, {name: routes[name] for name in sparse})

    def loss(rows, dense):
      rows |= collection.gather(dense, {"dense": routes["dense"]})
      embeddings = collection.embed(rows, batch)
      score = sum(
        (1 + 0.1 * place) * jnp.sum(jnp.sin(20 * embedding), axis=1)
        for place, embedding in enumerate(embeddings.values())
      )
      return jnp.sum(jnp.square(score - batch["target"])), rows

    (total, rows), (grads, dense_grads) = jax.value_and_grad(
      loss, (0, 1), has_aux=True
    )(rows, dense)
    tables, slots = collection.update(tables, slots, routes, grads, index)
    moved = tables["dense"] - 0.1 * dense_grads["dense"]
    return tables | {"dense": moved}, slots, total, rows

  return step


class Run(NamedTuple):
  """What some steps on a mesh did."""

  collection: Any
  compiled: Any
  losses: list[float]
  rows: list[Any]
  state: Any
  is_deleted: list[bool]


def run(collection, state, place, num_steps=3):
  step = jax.jit(make_step(collection), donate_argnums=(0, 1))
  first = place(batch_of(0))
  compiled = step.lower(*state, jnp.int32(0), first).compile()
  losses, rows = [], []
  for index in range(num_steps):
    before = state
    *state, loss, read = compiled(
      *state, jnp.int32(index), place(batch_of(index))
    )
    losses.append(float(loss))
    rows.append(jax.tree.map(np.asarray, read))
    deleted = [leaf.is_deleted() for leaf in jax.tree.leaves(before)]
  return Run(collection, compiled, losses, rows, tuple(state), deleted)


@pytest.fixture(scope="module")
def start():
  """Tables and slots before the first step, on the host."""
  state = COLLECTION.init(jax.random.key(0)), COLLECTION.init_slots()
  return jax.tree.map(np.asarray, state)


@pytest.fixture(scope="module")
def reference(start):
  """The same steps of the plain collection on one device."""
  state = jax.tree.map(jnp.array, start)
  return run(COLLECTION, state, lambda batch: batch)


@pytest.fixture(scope="module")
def mesh():
  return make_mesh(MeshConfig(data=4, model=2))


@pytest.fixture(scope="module", params=STRATEGIES)
def planned(request, mesh):
  strategies = dict.fromkeys(COLLECTION.arrays, request.param)
  return plan(
    COLLECTION,
    batch=batch_of(0),
    mesh_shape=mesh.shape,
    strategies=strategies,
  )


@pytest.fixture(scope="module")
def sharded(planned, mesh, start):
  collection = ShardedCollection(
    COLLECTION, planned.strategies, mesh, planned.capacities
  )
  place = lambda batch: jax.device_put(batch, NamedSharding(mesh, BATCH_AXES))
  return run(collection, jax.device_put(start, collection.shardings()), place)


def piece_bytes(collection, name):
  part = collection.partitions[name]
  return 4 * part.block * part.width


def test_rows_losses_tables_and_slots_are_those_of_one_device(
  sharded, reference
):
  np.testing.assert_allclose(sharded.losses, reference.losses, rtol=1e-5)
  assert reference.losses[0] != reference.losses[1]
  for ours, theirs in zip(sharded.rows, reference.rows, strict=True):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
      ours,
      theirs,
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-6
    ),
    sharded.state,
    reference.state,
  )


def test_arrays_and_slots_lie_as_planned(sharded):
  planned = sharded.collection.shardings()
  for array, sharding in zip(
    jax.tree.leaves(sharded.state), jax.tree.leaves(planned), strict=True
  ):
    assert array.sharding.is_equivalent_to(sharding, array.ndim)
  for name, table in sharded.state[0].items():
    bytes_here = table.addressable_shards[0].data.nbytes
    assert bytes_here == piece_bytes(sharded.collection, name)


def test_donated_buffers_are_gone_and_no_temporary_is_of_table_size(sharded):
  assert all(sharded.is_deleted)
  memory = sharded.compiled.memory_analysis()
  pieces = sum(
    leaf.addressable_shards[0].data.nbytes
    for leaf in jax.tree.leaves(sharded.state)
  )
  assert memory.alias_size_in_bytes >= pieces
  # The dense table has a gradient of its size; all others have none.
  dense = piece_bytes(sharded.collection, "dense")
  smallest = min(
    piece_bytes(sharded.collection, name) for name in sharded.state[1]
  )
  assert memory.temp_size_in_bytes < dense + smallest


def test_no_collective_is_over_a_table_and_bytes_are_as_planned(
  sharded, planned, reference
):
  found = collectives(sharded.compiled.as_text())
  assert found and not collectives(reference.compiled.as_text())
  smallest = min(
    piece_bytes(sharded.collection, name) for name in COLLECTION.arrays
  )
  assert max(collective.bytes for collective in found) < smallest
  measured = sum(collective.bytes for collective in found)
  assert abs(measured / planned.exchanged_bytes - 1) < 0.2


# --- One strategy is enough for these ---------------------------------------


SMALL = make_collection({"row_wise_adagrad": RowWiseAdagrad(0.1)}, 500, 8)
SMALL_BATCH = {
  "user": np.arange(BATCH, dtype=np.int32),
  "history": np.arange(3 * BATCH, dtype=np.int32).reshape(BATCH, 3),
}


def shard(config, strategy="row_wise", collection=SMALL):
  strategies = dict.fromkeys(collection.arrays, strategy)
  return ShardedCollection(collection, strategies, make_mesh(config))


@pytest.mark.parametrize("strategy", ["row_wise", "two_dimensional"])
def test_a_mesh_draws_the_tables_of_one_device(mesh, strategy):
  sharded = ShardedCollection(SMALL, {"row_wise_adagrad": strategy}, mesh)
  tables, slots = sharded.init(jax.random.key(7)), sharded.init_slots()
  expected = SMALL.init(jax.random.key(7)), SMALL.init_slots()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, np.asarray(b), rtol=1e-6),
    (tables, slots),
    expected,
  )
  for array, sharding in zip(
    jax.tree.leaves((tables, slots)),
    jax.tree.leaves(sharded.shardings()),
    strict=True,
  ):
    assert array.sharding.is_equivalent_to(sharding, array.ndim)


def test_one_device_is_the_plain_collection():
  sharded = shard(MeshConfig())
  batch = jax.tree.map(jnp.asarray, SMALL_BATCH)
  tables, slots = sharded.init(jax.random.key(7)), sharded.init_slots()
  np.testing.assert_array_equal(
    tables["row_wise_adagrad"],
    SMALL.init(jax.random.key(7))["row_wise_adagrad"],
  )

  def all_of(collection, batch):
    routes = collection.routes(batch)
    rows = collection.gather(tables, routes)
    embeddings = collection.embed(rows, batch)
    moved = collection.update(tables, slots, routes, rows, jnp.int32(0))
    return routes, rows, embeddings, moved

  jax.tree.map(
    np.testing.assert_array_equal,
    *(jax.jit(all_of, static_argnums=0)(c, batch) for c in (sharded, SMALL)),
  )


def predictions(sharded, tables):
  def predict(tables, batch):
    rows = sharded.gather(tables, sharded.routes(batch))
    return sharded.embed(rows, batch)

  return jax.tree.map(np.asarray, jax.jit(predict)(tables, SMALL_BATCH))


def test_a_checkpoint_of_eight_devices_restores_on_two_and_on_one(tmp_path):
  eight = shard(MeshConfig(data=4, model=2))
  state = eight.init(jax.random.key(0)), eight.init_slots()
  checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
  checkpoints.save(1, state, {})
  expected = predictions(eight, state[0])
  for config in (MeshConfig(model=2), MeshConfig()):
    fewer = shard(config)
    template = jax.tree.map(
      lambda x, sharding: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=sharding
      ),
      state,
      fewer.shardings(),
    )
    restored, _ = checkpoints.restore(template)
    (table,) = restored[0].values()
    assert len(table.sharding.device_set) == config.data * config.model
    jax.tree.map(
      np.testing.assert_array_equal, predictions(fewer, restored[0]), expected
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)),
      restored,
      state,
    )
  checkpoints.close()


class Unknown(RowOptimizer):
  def _move(self, rows, slots, grads, rate, step):
    return rate * jnp.max(grads, axis=1, keepdims=True), slots


@pytest.mark.parametrize(
  ("strategies", "message"),
  [
    ({}, "there is none for s"),
    ({"s": "row_wize"}, "'row_wize'. Did you mean 'row_wise'?"),
    ({"s": "row_wise", "t": "row_wise"}, "must be one of 's'; got 't'"),
    ({"s": "column_wise"}, "the 9 columns of the array 's' must be a"),
  ],
)
def test_what_is_not_possible_is_refused(mesh, strategies, message):
  collection = make_collection({"s": SGD()}, 500, 9)
  with pytest.raises(ConfigError, match=message):
    ShardedCollection(collection, strategies, mesh)


def test_an_optimizer_that_is_not_known_has_whole_rows(mesh):
  collection = make_collection({"s": Unknown()}, 500, 8)
  with pytest.raises(ConfigError, match="of Unknown it is not known what"):
    ShardedCollection(collection, {"s": "column_wise"}, mesh)
  ShardedCollection(collection, {"s": "row_wise"}, mesh)


def test_a_batch_that_the_devices_do_not_divide_is_refused(mesh):
  sharded = ShardedCollection(SMALL, {"row_wise_adagrad": "row_wise"}, mesh)
  batch = jax.tree.map(lambda x: jnp.asarray(x[:30]), SMALL_BATCH)
  with pytest.raises(
    ConfigError, match="multiple of the 8 devices .* has 30 examples"
  ):
    sharded.routes(batch)
