"""How far the gradients of tasks pull apart."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from recjax.balancing.balancer import TaskGradients
from recjax.balancing.task_gradients import along_leaf
from recjax.errors import ConfigError


def gradient_conflict(
  grads: TaskGradients, present: Bool[Array, " task"] | None = None
) -> tuple[Float[Array, "task task"], Float[Array, " task"]]:
  r"""Cosines between the tasks' gradients, and the gradients' norms.

  cos_ij = <g_i, g_j> / (|g_i| |g_j|), over all leaves together

  Two tasks are in conflict where the cosine is negative. Each gradient is
  divided by its largest entry before anything is squared, so that neither
  tiny nor huge ones are lost.

  Args:
    grads: any tree of arrays with a leading axis of tasks.
    present: which tasks have rows in the batch; None if all have.

  Returns:
    Cosines in [-1, 1] and norms. A task that is absent or whose gradient is
    zero has norm 0 and cosine 0 with all, itself included; the others have
    exactly 1 with themselves.

  Raises:
    ConfigError: the tree has no leaves.

  References:
    Yu et al.: Gradient Surgery for Multi-Task Learning, NeurIPS 2020,
    definition 1, https://arxiv.org/abs/2001.06782
  """
  leaves = jax.tree.leaves(grads)
  if not leaves:
    raise ConfigError(
      "The gradients of tasks must have at least one array; got an empty tree."
      " Do the tasks share any parameters?"
    )
  leaves = [leaf.astype(jnp.float32) for leaf in leaves]
  if present is not None:
    leaves = [jnp.where(along_leaf(present, x), x, 0.0) for x in leaves]
  num_tasks = leaves[0].shape[0]
  rows = [leaf.reshape(num_tasks, -1) for leaf in leaves]
  largest = [jnp.max(jnp.abs(x), axis=1, initial=0.0) for x in rows]
  scale = jnp.max(jnp.stack(largest), axis=0)
  is_zero = scale < jnp.finfo(jnp.float32).tiny
  divisor = jnp.where(is_zero, 1.0, scale)[:, None]
  products = jnp.zeros((num_tasks, num_tasks))
  for row in rows:
    row = jnp.where(is_zero[:, None], 0.0, row / divisor)
    products += jnp.matmul(row, row.T, precision=lax.Precision.HIGHEST)
  lengths = jnp.sqrt(jnp.diagonal(products))
  safe = jnp.where(is_zero, 1.0, lengths)
  cosines = jnp.clip(products / (safe[:, None] * safe[None, :]), -1.0, 1.0)
  itself = jnp.eye(num_tasks, dtype=bool)
  cosines = jnp.where(itself & ~is_zero[None, :], 1.0, cosines)
  return cosines, scale * lengths
