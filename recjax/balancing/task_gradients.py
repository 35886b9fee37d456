"""Sums over the leading axis of tasks in a tree of gradients."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.balancing.balancer import Gradients, TaskGradients


def along_leaf(
  values: Float[Array, " task"] | Bool[Array, " task"],
  leaf: Float[Array, "task ..."],
) -> Array:
  """The values with as many axes as the leaf, to scale or mask its tasks."""
  return values.reshape(values.shape + (1,) * (leaf.ndim - 1))


def weighted_sum(
  grads: TaskGradients,
  weights: Float[Array, " task"],
  present: Bool[Array, " task"],
) -> Gradients:
  r"""Weighted sum of the tasks' gradients: sum_{t present} w_t g_t.

  Args:
    grads: gradients of the tasks.
    weights: w; those of absent tasks do not count.
    present: which tasks do. Not even NaN of the others comes through.

  Returns:
    The tree without the axis of tasks, in the types of its leaves.
  """

  def sum_of(leaf):
    scaled = leaf.astype(weights.dtype) * along_leaf(weights, leaf)
    scaled = jnp.where(along_leaf(present, leaf), scaled, 0.0)
    return jnp.sum(scaled, axis=0).astype(leaf.dtype)

  return jax.tree.map(sum_of, grads)
