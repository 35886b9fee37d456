"""A command as `ahead_test.py` runs it: itself once more, as a child.

  python ahead_script.py TOPOLOGIES ROWS DIM

compiles a step on a sharded table, look-up, gradient and row-wise Adagrad.
"""

import sys

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import NamedSharding, PartitionSpec

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.row_optimizers import RowWiseAdagrad
from recjax.embeddings.sharding import ShardedCollection
from recjax.embeddings.tables import TableSpec
from recjax.train import ahead


@struct.dataclass
class State:
  tables: dict
  slots: dict


def lowering(rows, dim):
  def lower(mesh):
    print(f"lowering for {mesh.size} devices")
    tables = EmbeddingCollection(
      (TableSpec("item", rows, dim, optimizer=RowWiseAdagrad()),),
      (Lookup("item", "item"),),
    )
    sharded = ShardedCollection(tables, {"item": "row_wise"}, mesh)
    place = lambda x, where: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=where
    )
    shapes = State(
      jax.eval_shape(tables.init, jax.random.key(0)),
      jax.eval_shape(tables.init_slots),
    )
    state = jax.tree.map(place, shapes, State(*sharded.shardings()))
    cut = NamedSharding(mesh, PartitionSpec(("data", "model")))
    ids = jax.ShapeDtypeStruct((16 * mesh.size,), jnp.int32, sharding=cut)

    def step(state, ids):
      routes = sharded.routes({"item": ids})
      rows = sharded.gather(state.tables, routes)
      norm = lambda rows: jnp.sum(
        sharded.embed(rows, {"item": ids})["item"] ** 2
      )
      grads = jax.grad(norm)(rows)
      return State(
        *sharded.update(
          state.tables, state.slots, routes, grads, jnp.int32(0), rows
        )
      )

    return jax.jit(step, donate_argnums=0).lower(state, ids)

  return lower


if __name__ == "__main__":
  names, rows, dim = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])
  assert ahead.is_child()
  ahead.compile_all(lowering(rows, dim), names, model=4)
