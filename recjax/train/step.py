"""The training step, and many of them in one dispatch."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from recjax.data.batches import Batches
from recjax.embeddings.rows import PADDING_ROW
from recjax.embeddings.sharding import ShardedCollection
from recjax.embeddings.strategies import MESH_AXES
from recjax.tasks.task import Task
from recjax.train.state import TrainState
from recjax.types import Batch

Step = Callable[[TrainState, Batch, Any, Key[Array, ""]], tuple[Any, Any]]


def make_step(
  task: Task,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  sparse: ShardedCollection | None = None,
) -> Step:
  """The pure step (state, batch, constants, base_key) -> (state, metrics).

  The batch goes through in micro-batches whose gradients are summed; their
  number follows the work in the batch and not its worst case. The key of a
  step is `fold_in(base_key, step)` and that of a micro-batch is folded in
  once more, so that nothing random has to be saved.

  Args:
    task: gives the micro-batches and the sum of losses of one.
    optimizer: gets the gradient of the mean loss of the batch.
    mesh: examples of a micro-batch are laid out over its axis "data"; over all
      its devices, if there are sparse tables.
    sparse: the sparse tables of the task on the mesh; None is for one device.

  Returns:
    The step. Its metrics are "loss", the mean over targets, and
    "gradient_norms", one of each leaf of the parameters and after them one
    of each sparse array, there over lookups and not yet over rows.
  """
  sparse = sparse or on_one_device(task, mesh)
  summed_gradients = _make_summed_gradients(task, sparse)

  def step(state: TrainState, batch: Batch, constants, base_key):
    key = jax.random.fold_in(base_key, state.step)
    (total, weight, grads), variables, lookups = summed_gradients(
      state, batch, constants, key
    )
    routes, row_grads, rows = lookups
    # A product is fused into the optimizer's own passes, a quotient is not, and
    # a norm as a dot product reads the table once. No weight moves nothing.
    scale = jnp.where(weight == 0, 0.0, 1.0 / weight)
    norms = scale * jnp.stack(
      [jnp.sqrt(jnp.vdot(g, g)) for g in jax.tree.leaves((grads, row_grads))]
    )
    grads, row_grads = jax.tree.map(lambda g: g * scale, (grads, row_grads))
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda u: u * state.rate_scale, updates)
    tables, slots = sparse.update(
      state.tables, state.slots, routes, row_grads, state.step, rows
    )
    new_state = TrainState(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      opt_state=opt_state,
      tables=tables,
      slots=slots,
      variables=variables,
      rate_scale=state.rate_scale,
    )
    return new_state, {"loss": total * scale, "gradient_norms": norms}

  return step


def on_one_device(task: Task, mesh: Mesh) -> ShardedCollection:
  """The sparse tables of a task, if it has any, on a mesh of one device."""
  strategies = dict.fromkeys(task.sparse.arrays, "row_wise")
  return ShardedCollection(task.sparse, strategies, mesh)


def _make_summed_gradients(task: Task, sparse: ShardedCollection):
  """The sums over the micro-batches of a batch, and all its lookups."""
  mesh = sparse.mesh
  axes = MESH_AXES if sparse.arrays else "data"
  sharding = NamedSharding(mesh, PartitionSpec(None, axes))

  def loss(params, rows, variables, examples, constants, key):
    embeddings = sparse.embed(rows, examples)
    return task.loss(params, embeddings, variables, examples, constants, key)

  # A task may look at the gradients of its objectives one by one.
  default = functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
  gradient = getattr(task, "differentiate", default)(loss)

  def summed_gradients(state: TrainState, batch: Batch, constants, key):
    micro, num_micro = task.micro_batches(batch)
    micro = lax.with_sharding_constraint(micro, sharding)

    def micro_gradient(index, variables):
      micro_key = jax.random.fold_in(key, index)
      part = jax.tree.map(lambda x: x[index], micro)
      examples = task.examples(part, constants, micro_key)
      routes = sparse.routes(examples)
      rows = sparse.gather(state.tables, routes)
      (total, (weight, variables)), (grads, row_grads) = gradient(
        state.params, rows, variables, examples, constants, micro_key
      )
      return (total, weight, grads), variables, (routes, row_grads, rows)

    def body(index, carry):
      sums, variables, lookups = carry
      new, variables, part = micro_gradient(index, variables)
      put = lambda room, x: room.at[:, index].set(_by_device(x, mesh))
      sums = jax.tree.map(jnp.add, sums, new)
      return sums, variables, jax.tree.map(put, lookups, part)

    # The first one starts the sums: no pass over zeros of the table's size.
    sums, variables, lookups = micro_gradient(0, state.variables)
    max_micro = jax.tree.leaves(micro)[0].shape[0]
    if max_micro == 1:
      return sums, variables, lookups
    lookups = _with_room(lookups, max_micro, mesh)
    sums, variables, lookups = lax.fori_loop(
      1, num_micro, body, (sums, variables, lookups)
    )
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), lookups)
    return sums, variables, flat

  return summed_gradients


def _with_room(lookups, max_micro: int, mesh: Mesh):
  """Room for the lookups of all micro-batches; these of the first are in.

  Arrays [device, micro, n / devices, ...]: those of a device lie together, so
  that none moves to another when all are laid end to end.
  """
  routes, *floats = lookups

  def join(x, fill):
    first = _by_device(x, mesh)[:, None]
    shape = (first.shape[0], max_micro - 1, *first.shape[2:])
    return jnp.concatenate([first, jnp.full(shape, fill, x.dtype)], axis=1)

  return (
    jax.tree.map(lambda x: join(x, PADDING_ROW), routes),
    *jax.tree.map(lambda x: join(x, 0), floats),
  )


def _by_device(x: Array, mesh: Mesh) -> Array:
  """[n, ...] as [device, n / devices, ...]."""
  return x.reshape(mesh.size, -1, *x.shape[1:])


def make_many_steps(
  step: Step, batches: Batches, max_steps: int
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
  """Steps of one epoch on data that lies on the device, in one dispatch.

  Args:
    step: of `make_step`.
    batches: the data.
    max_steps: room for the metrics of so many steps.

  Returns:
    (state, plan, data, first index in the epoch, number of steps, constants,
    base_key) -> (state, metrics with a leading axis [max_steps]).
  """

  def many(state, plan, data, first, num_steps, constants, base_key):
    def one(state, index):
      batch = batches.gather(data, plan, first + index)
      return step(state, batch, constants, base_key)

    return _repeat(one, state, num_steps, max_steps)

  return many


def make_steps_of(
  step: Step, max_steps: int
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
  """Steps on batches that were made on the host, in one dispatch.

  Args:
    step: of `make_step`.
    max_steps: batches that are handed over, the last ones maybe not used.

  Returns:
    (state, batches with a leading axis [max_steps], number of steps,
    constants, base_key) -> (state, metrics with that axis).
  """

  def many(state, stacked, num_steps, constants, base_key):
    def one(state, index):
      batch = jax.tree.map(lambda x: x[index], stacked)
      return step(state, batch, constants, base_key)

    return _repeat(one, state, num_steps, max_steps)

  return many


def _repeat(one, state, num_steps, max_steps: int):
  """(state, index) -> (state, metrics), again and again."""
  shapes = jax.eval_shape(one, state, 0)[1]
  room = jax.tree.map(
    lambda x: jnp.zeros((max_steps, *x.shape), x.dtype), shapes
  )

  def body(index, carry):
    state, metrics = carry
    state, new = one(state, index)
    metrics = jax.tree.map(lambda m, x: m.at[index].set(x), metrics, new)
    return state, metrics

  return lax.fori_loop(0, num_steps, body, (state, room))
