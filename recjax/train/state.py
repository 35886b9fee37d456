"""What a step changes, and how it is laid out over a mesh."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from recjax.embeddings.sharding import ShardedCollection
from recjax.errors import ConfigError
from recjax.tasks.task import Task
from recjax.types import Params

TABLE_RULES = ((r"tables/", PartitionSpec("model", None)),)
"""Dense tables lie row-wise over the axis "model"; all else is replicated."""


@struct.dataclass
class TrainState:
  """Everything a step reads and writes.

  Attributes:
    step: how many steps were taken, an int32 scalar.
    params: of the task, trained by optax.
    opt_state: of optax; its moments follow the layout of the parameters.
    tables: sparse tables, trained by their row-wise optimizers.
    slots: what these remember of each row.
    variables: what the model keeps and no optimizer trains, such as the
      running averages of batch norm.
    rate_scale: the learning rates of optax are multiplied by it; it falls on
      plateaus.
  """

  # Any: the same tree also holds shapes or shardings.
  step: Any
  params: Params
  opt_state: Any
  tables: Any
  slots: Any
  variables: Any
  rate_scale: Any

  @property
  def weights(self) -> Params:
    """What serving needs: parameters, all tables and variables in one tree."""
    weights = dict(self.params) | dict(self.variables)
    tables = dict(self.params.get("tables", {})) | dict(self.tables)
    return weights | {"tables": tables} if tables else weights


def path_name(path: tuple[Any, ...]) -> str:
  """A key path as text, such as "tables/item"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_names(tree: Any) -> list[str]:
  """The paths of the leaves of a tree, in the order of its leaves."""
  return [path_name(path) for path, _ in jax.tree.leaves_with_path(tree)]


def init_state(
  task: Task,
  optimizer: optax.GradientTransformation,
  key: Key[Array, ""],
  sparse: ShardedCollection | None = None,
) -> TrainState:
  """The state before the first step; a pure function of the key.

  Args:
    task: draws what optax trains.
    optimizer: makes its state.
    key: of all draws.
    sparse: draws the sparse tables where they lie, the same numbers on every
      mesh; None is for one device.
  """
  params, variables = task.init(key)
  collection = task.sparse if sparse is None else sparse
  # Folded in, so that a task without sparse tables draws as it always did.
  tables = collection.init(jax.random.fold_in(key, 1))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=optimizer.init(params),
    tables=tables,
    slots=collection.init_slots(),
    variables=variables,
    rate_scale=jnp.ones(()),
  )


def state_shardings(
  state: Any,
  mesh: Mesh,
  rules: tuple[tuple[str, PartitionSpec], ...] = TABLE_RULES,
  sparse: ShardedCollection | None = None,
) -> Any:
  """The sharding of every leaf: of the first rule whose pattern is found.

  Args:
    state: arrays or their shapes; moments are found by the path of their
      parameter, which theirs contains.
    mesh: with the axes of the rules.
    rules: pattern of a path -> partition; leaves of no rule are replicated.
    sparse: says where the sparse tables and slots of a `TrainState` lie.

  Returns:
    A tree of NamedSharding.

  Raises:
    ConfigError: a mesh axis does not divide what it shall partition.
  """

  def sharding(path, leaf):
    name = path_name(path)
    for pattern, spec in rules:
      if re.search(pattern, name) and leaf.ndim == len(spec):
        _check_divides(name, leaf.shape, spec, mesh)
        return NamedSharding(mesh, spec)
    return NamedSharding(mesh, PartitionSpec())

  shardings = jax.tree.map_with_path(sharding, state)
  if sparse is None:
    return shardings
  tables, slots = sparse.shardings()
  return shardings.replace(tables=tables, slots=slots)


def _check_divides(name, shape, spec, mesh):
  for size, axis in zip(shape, spec, strict=True):
    if axis is not None and size % mesh.shape[axis]:
      raise ConfigError(
        f"{name} has {size} rows, which the {mesh.shape[axis]} devices of the"
        f" mesh axis {axis!r} do not divide."
      )


def to_host(tree: Any) -> Any:
  """A NumPy copy of a tree, gathered from wherever its shards lie."""

  def replicate(leaf):
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
      return leaf
    replicated = NamedSharding(leaf.sharding.mesh, PartitionSpec())
    return jax.jit(_same, out_shardings=replicated)(leaf)

  return jax.tree.map(lambda leaf: np.asarray(replicate(leaf)), tree)


def _same(x: Array) -> Array:
  return x
