"""The training step, and many of them in one dispatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from recjax.data.batches import SequenceBatches, gather_batch
from recjax.tasks.next_item import NextItem
from recjax.train.state import TrainState
from recjax.types import Batch

Step = Callable[[TrainState, Batch, Any, Key[Array, ""]], tuple[Any, Any]]


def make_step(
  task: NextItem, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Step:
  """The pure step (state, batch, constants, base_key) -> (state, metrics).

  The batch goes through in micro-batches whose gradients are summed; their
  number follows the work in the batch and not its worst case. The key of a
  step is `fold_in(base_key, step)` and that of a micro-batch is folded in
  once more, so that nothing random has to be saved.

  Args:
    task: gives the micro-batches and the sum of losses of one.
    optimizer: gets the gradient of the mean loss of the batch.
    mesh: rows of a micro-batch are laid out over its axis "data".

  Returns:
    The step. Its metrics are "loss", the mean over targets, and
    "gradient_norms", one of each leaf of the parameters.
  """
  rows_sharding = NamedSharding(mesh, PartitionSpec(None, "data", None))
  gradient = jax.value_and_grad(task.loss, has_aux=True)

  def step(state: TrainState, batch: Batch, constants, base_key):
    key = jax.random.fold_in(base_key, state.step)
    micro, num_micro = task.micro_batches(batch)
    micro = lax.with_sharding_constraint(micro, rows_sharding)

    def micro_gradient(index):
      rows = jax.tree.map(lambda x: x[index], micro)
      micro_key = jax.random.fold_in(key, index)
      (total, weight), grads = gradient(
        state.params, rows, constants, micro_key
      )
      return total, weight, grads

    # The first one starts the sums: no pass over zeros of the table's size.
    total, weight, grads = lax.fori_loop(
      1,
      num_micro,
      lambda index, sums: jax.tree.map(jnp.add, sums, micro_gradient(index)),
      micro_gradient(0),
    )
    # A product is fused into the optimizer's own passes, a quotient is not,
    # and a norm as a dot product reads the table once.
    scale = 1.0 / weight
    norms = scale * jnp.stack(
      [jnp.sqrt(jnp.vdot(g, g)) for g in jax.tree.leaves(grads)]
    )
    grads = jax.tree.map(lambda g: g * scale, grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": total / weight, "gradient_norms": norms}
    return TrainState(state.step + 1, params, opt_state), metrics

  return step


def make_many_steps(
  step: Step, batches: SequenceBatches, max_steps: int
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
  """Steps of one epoch on data that lies on the device, in one dispatch.

  Args:
    step: of `make_step`.
    batches: the data.
    max_steps: room for the metrics of so many steps.

  Returns:
    (state, plan, items, offsets, first index in the epoch, number of steps,
    constants, base_key) -> (state, metrics with a leading axis [max_steps]).
  """

  def many(state, plan, items, offsets, first, num_steps, constants, base_key):
    def one(state, index):
      batch = gather_batch(
        items, offsets, plan, first + index, max_len=batches.max_len
      )
      return step(state, batch, constants, base_key)

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

  return many
