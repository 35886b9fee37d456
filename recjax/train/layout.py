"""Where the sparse tables of a run lie on its mesh.

The plan is made of the first batch, which is a function of the seed: every
process makes the same one, and so does a run that goes on.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import optax
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Array, Key

from recjax.data.batches import Batches
from recjax.embeddings.choices import PlanConfig
from recjax.embeddings.planner import plan
from recjax.embeddings.plans import Plan
from recjax.embeddings.sharding import ShardedCollection
from recjax.tasks.task import Task
from recjax.train.state import TrainState, init_state
from recjax.types import Batch


def place_tables(
  task: Task,
  optimizer: optax.GradientTransformation,
  batches: Batches,
  mesh: Mesh,
  config: PlanConfig,
  constants: Any,
  key: Key[Array, ""],
) -> ShardedCollection:
  """Plans where the sparse tables of a run lie, and places them there.

  Args:
    task: has the tables.
    optimizer: of all other parameters.
    batches: the data.
    mesh: of the run.
    config: memory and prices.
    constants: arrays that every step reads.
    key: of the run.

  Returns:
    The tables on the mesh.

  Raises:
    ConfigError: a strategy that a table asks for is not possible on the mesh,
      the devices do not divide the batch, or the plan does not fit: by how
      much, and what would.
  """
  if mesh.size == 1 or not task.sparse.tables:
    return on_one_device(task, mesh)
  shapes = jax.eval_shape(functools.partial(init_state, task, optimizer), key)
  examples = first_examples(task, batches, constants, key)
  found = plan_tables(task, examples, shapes, mesh, config)
  logging.info("the plan of the tables:\n%s", found.describe())
  found.check()
  return shard_tables(task, found, mesh)


def on_one_device(task: Task, mesh: Mesh) -> ShardedCollection:
  """The sparse tables of a task, if it has any, on a mesh of one device."""
  strategies = dict.fromkeys(task.sparse.arrays, "row_wise")
  return ShardedCollection(task.sparse, strategies, mesh)


def first_examples(
  task: Task, batches: Batches, constants: Any, key: Key[Array, ""]
) -> Batch:
  """What the first step looks up: the examples of its first micro-batch.

  Args:
    task: makes them.
    batches: the data.
    constants: arrays that every step reads.
    key: of negatives.

  Returns:
    The same arrays on every process.
  """

  def make(batch, constants, key):
    micro, _ = task.micro_batches(batch)
    return task.examples(jax.tree.map(lambda x: x[0], micro), constants, key)

  return jax.jit(make)(batches.host_batch(0), constants, key)


def plan_tables(
  task: Task,
  examples: Any,
  shapes: TrainState,
  mesh: Mesh,
  config: PlanConfig,
) -> Plan:
  """Chooses how each sparse array is cut.

  Args:
    task: has the tables.
    examples: of `first_examples`, or their shapes.
    shapes: of the state.
    mesh: of the run; its devices are asked how much memory they have, unless
      the config says it.
    config: memory and prices.

  Returns:
    The plan. It may not fit: see `Plan.check`.

  Raises:
    ConfigError: a strategy that is asked for is not possible on the mesh, or
      the devices do not divide the batch.
  """
  config = dataclasses.replace(
    config,
    memory_bytes=config.memory_bytes or _device_memory(mesh),
    other_bytes=config.other_bytes or _other_bytes(shapes, mesh),
  )
  return plan(
    task.sparse, batch=examples, mesh_shape=dict(mesh.shape), config=config
  )


def shard_tables(task: Task, plan: Plan, mesh: Mesh) -> ShardedCollection:
  """The sparse tables of a task, cut as planned."""
  return ShardedCollection(task.sparse, plan.strategies, mesh, plan.capacities)


def _device_memory(mesh: Mesh) -> int:
  """Bytes of a device, 0 where it does not tell."""
  stats = mesh.local_devices[0].memory_stats() if mesh.local_devices else None
  return (stats or {}).get("bytes_limit", 0)


def _other_bytes(shapes: TrainState, mesh: Mesh) -> int:
  """Of a device: parameters, their gradient, moments; no activations."""
  size = lambda tree: sum(
    math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )
  tables = size(shapes.params.get("tables", {}))
  moments = size(shapes.opt_state)
  rest = size((shapes.params, shapes.variables)) + size(shapes.params)
  # Dense tables and their moments are cut over "model".
  of_tables = 2 * tables + (
    moments * tables // max(1, size(shapes.params)) if tables else 0
  )
  whole = rest + moments - of_tables
  return whole + of_tables // mesh.shape["model"]
