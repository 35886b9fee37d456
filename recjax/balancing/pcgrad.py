r"""Gradients without the parts that work against another task.

Yu et al.: Gradient Surgery for Multi-Task Learning, NeurIPS 2020, algorithm 1,
https://arxiv.org/abs/2001.06782

  for each i, for all j in random order:
    p_i <- p_i - <p_i, g_j> / |g_j|^2 g_j  where <p_i, g_j> < 0;  p_i starts g_i
  g = sum_i p_i

All p lie in the span of the g, so that coefficients are enough: the gradients
themselves are read once for their cosines and once for the sum.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from recjax.balancing.balancer import Gradients, State, TaskGradients
from recjax.balancing.conflict import gradient_conflict
from recjax.balancing.task_gradients import weighted_sum
from recjax.errors import check_range
from recjax.types import Params


@dataclasses.dataclass(frozen=True)
class PCGrad:
  """The sum of gradients, each projected off those that it conflicts with.

  Without conflicts it is exactly the sum. The order of projections is drawn
  from `seed` and a count of steps in the state: a run that is resumed draws
  the same.

  Attributes:
    seed: of the random orders.
  """

  seed: int = 0

  needs_gradients: ClassVar[bool] = True

  def __post_init__(self):
    check_range("PCGrad.seed", self.seed, 0, 2**31 - 1, integer=True)

  def init(self, num_tasks: int) -> tuple[Params, State]:
    """The number of steps taken."""
    check_range("PCGrad num_tasks", num_tasks, 1, integer=True)
    return {}, {"step": jnp.zeros((), jnp.int32)}

  def orders(
    self, step: Int[Array, ""], num_tasks: int
  ) -> Int[Array, "task task"]:
    """In row i, the tasks in the order in which i is projected off them.

    Args:
      step: how many steps were taken before.
      num_tasks: T.

    Returns:
      A permutation a row; i itself is in it, and is to be passed over.
    """
    key = jax.random.fold_in(jax.random.key(self.seed), step)
    keys = jax.random.split(key, num_tasks)
    return jax.vmap(lambda key: jax.random.permutation(key, num_tasks))(keys)

  def combine_gradients(
    self,
    grads: TaskGradients,
    losses: Float[Array, " task"],
    present: Bool[Array, " task"],
    state: State,
  ) -> tuple[Gradients, State]:
    """The sum of projections; see `GradientBalancer.combine_gradients`."""
    num_tasks = losses.shape[0]
    cosines, norms = gradient_conflict(grads, present)
    orders = self.orders(state["step"], num_tasks)
    changes = _changes(cosines, orders)
    # In terms of g: a unit vector is g / |g|. A zero gradient has no changes.
    safe = jnp.where(norms > 0, norms, 1.0)
    changes = changes * norms[:, None] / safe[None, :]
    weights = 1.0 + jnp.sum(changes, axis=0)
    combined = weighted_sum(grads, weights, present)
    return combined, {"step": state["step"] + 1}


def _changes(cosines, orders):
  """What projections add to p_i / |g_i|, as coefficients of all g_k / |g_k|."""
  num_tasks = cosines.shape[0]
  task = jnp.arange(num_tasks)

  def project(place, changes):
    other = orders[:, place]
    towards = cosines[:, other]  # [k, i]: of g_k and the other task of i.
    along = cosines[task, other] + jnp.sum(changes * towards.T, axis=1)
    is_conflict = (along < 0) & (other != task)
    return changes.at[task, other].add(jnp.where(is_conflict, -along, 0.0))

  return lax.fori_loop(0, num_tasks, project, jnp.zeros_like(cosines))
