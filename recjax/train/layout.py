"""Where the sparse tables of a run lie on its mesh.

The plan is made of the first batch, which is a function of the seed, and of the
memory that a device has: every process makes the same one, and so does a run
that goes on with the same kind of devices.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from recjax.data.batches import Batches
from recjax.embeddings.choices import PlanConfig
from recjax.embeddings.planner import plan
from recjax.embeddings.plans import Plan
from recjax.embeddings.sharding import ShardedCollection
from recjax.errors import ConfigError
from recjax.tasks.task import Task
from recjax.train.state import (
  TrainState,
  init_state,
  path_name,
  state_shardings,
)
from recjax.train.step import make_step, on_one_device
from recjax.types import Batch


@dataclasses.dataclass(frozen=True)
class Layout:
  """A run, as far as it matters for where its arrays lie.

  Attributes:
    task: has the tables.
    optimizer: of all other parameters.
    batches: the data.
    constants: arrays that every step reads.
    config: memory and prices.
    key: of negatives, and of the first parameters.
  """

  task: Task
  optimizer: optax.GradientTransformation
  batches: Batches
  constants: Any
  config: PlanConfig
  key: Key[Array, ""]

  @functools.cached_property
  def shapes(self) -> TrainState:
    """Of the state."""
    init = functools.partial(init_state, self.task, self.optimizer)
    return jax.eval_shape(init, self.key)

  @functools.cached_property
  def examples(self) -> Batch:
    """What the first step looks up, in its first micro-batch."""

    def make(batch, constants, key):
      micro, _ = self.task.micro_batches(batch)
      part = jax.tree.map(lambda x: x[0], micro)
      return self.task.examples(part, constants, key)

    return jax.jit(make)(self._first_batch, self.constants, self.key)

  @functools.cached_property
  def _first_batch(self) -> dict[str, np.ndarray]:
    return self.batches.host_batch(0)

  def with_memory(self, memory_bytes: int) -> "Layout":
    """The same, where a device has so much memory unless the config says."""
    memory = self.config.memory_bytes or memory_bytes
    config = dataclasses.replace(self.config, memory_bytes=memory)
    return dataclasses.replace(self, config=config)

  def plan(self, mesh_shape: Mapping[str, int]) -> Plan:
    """Chooses how each sparse array is cut; no device is needed.

    Args:
      mesh_shape: devices along "data" and "model".

    Returns:
      The plan. It may not fit: see `Plan.check`.

    Raises:
      ConfigError: a strategy that a table asks for is not possible on the
        mesh, or the devices do not divide the batch.
    """
    num_devices = math.prod(mesh_shape.values())
    tables = self.task.sparse.tables
    for name, ids in self.examples.items() if tables else ():
      if ids.ndim and ids.shape[0] % num_devices:
        raise ConfigError(
          "batch_size, or micro_rows of a sequence model, must be a multiple of"
          f" the {num_devices} devices of a mesh with sparse tables;"
          f" {name!r} has {ids.shape[0]} examples."
        )
    other = self.config.other_bytes or other_bytes(self.shapes, mesh_shape)
    return plan(
      self.task.sparse,
      batch=self.examples,
      mesh_shape=dict(mesh_shape),
      config=dataclasses.replace(self.config, other_bytes=other),
    )

  def place(
    self, mesh: Mesh, on_plan: Callable[[Plan], object] = lambda plan: None
  ) -> ShardedCollection:
    """Plans where the sparse tables lie, and places them there.

    Args:
      mesh: of the run.
      on_plan: takes the plan, if there is anything to plan.

    Returns:
      The tables on the mesh.

    Raises:
      ConfigError: as of `plan`, or it does not fit: by how much, and what
        would.
    """
    if mesh.size == 1 or not self.task.sparse.tables:
      return on_one_device(self.task, mesh)
    found = self.plan(mesh.shape)
    on_plan(found)
    found.check()
    return ShardedCollection(
      self.task.sparse, found.strategies, mesh, found.capacities
    )

  def lower(self, mesh: Mesh) -> jax.stages.Lowered:
    """The training step, ready to be compiled for a mesh that may not be there.

    Nothing is allocated: shapes stand for all arrays.
    """
    check_divides(self.batches, mesh.shape["data"])
    sparse = self.place(mesh)
    shardings = state_shardings(self.shapes, mesh, sparse=sparse)
    replicated = NamedSharding(mesh, PartitionSpec())
    over_data = NamedSharding(mesh, PartitionSpec("data"))
    shape = lambda x, sharding: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding
    )
    everywhere = lambda tree: jax.tree.map(lambda x: shape(x, replicated), tree)
    batch = {
      name: shape(x, over_data if x.ndim else replicated)
      for name, x in self._first_batch.items()
    }
    step = make_step(self.task, self.optimizer, mesh, sparse)
    return jax.jit(
      step, out_shardings=(shardings, replicated), donate_argnums=0
    ).lower(
      jax.tree.map(shape, self.shapes, shardings),
      batch,
      everywhere(self.constants),
      everywhere(self.key),
    )


def check_divides(batches: Batches, data_shards: int) -> None:
  """Raises ConfigError unless the devices along "data" divide a batch."""
  if batches.batch_size % data_shards:
    raise ConfigError(
      f"batch_size must be a multiple of the {data_shards} devices of the mesh"
      f" axis 'data'; got {batches.batch_size}."
    )


def device_memory() -> int:
  """Bytes that a device of this machine has, 0 where it does not tell.

  Nor with several processes, which must not make different plans.
  """
  if jax.process_count() > 1:
    return 0
  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get("bytes_limit", 0)


def other_bytes(shapes: TrainState, mesh_shape: Mapping[str, int]) -> int:
  """Of a device: what no sparse table takes.

  Not counted are activations, and data that is held on the device.

  Args:
    shapes: of the state. Dense tables and their moments are cut over "model";
      all other parameters, moments and gradients lie on every device.
    mesh_shape: devices along "data" and "model".
  """
  total = 0
  for tree, copies in (
    (shapes.params, 2),  # With the gradient.
    (shapes.opt_state, 1),
    (shapes.variables, 1),
  ):
    for path, leaf in jax.tree.leaves_with_path(tree):
      is_table = "tables/" in path_name(path) and leaf.ndim == 2
      shards = mesh_shape["model"] if is_table else 1
      size = math.prod(leaf.shape) * leaf.dtype.itemsize
      total += copies * size // shards
  return total
