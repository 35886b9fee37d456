r"""The direction near the mean gradient that helps the worst task most.

Liu, Liu, Jin, Stone, Liu: Conflict-Averse Gradient Descent, NeurIPS 2021,
equation 4 and algorithm 1, https://arxiv.org/abs/2110.14048

  max_d min_t <g_t, d>  with |d - g_0| <= c |g_0|,  g_0 the mean of the g_t
  d = g_0 + c |g_0| g_w / |g_w|,  where w on the simplex minimizes
  F(w) = <g_w, g_0> + c |g_0| |g_w|,  g_w = sum_t w_t g_t

F is convex and needs the products of the gradients alone. It is minimized by
pairwise steps: weight goes from one task to another, as much as is best, which
has a closed form, for the pair that lowers F most. One step solves two tasks.

Deviations from the paper
- The mean and the simplex are over the tasks that are present.
- d is multiplied by their number, as balancers are scaled like a sum, and
  unless `rescale` is off divided by 1 + c: tasks that agree give their sum.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from recjax.balancing.balancer import Gradients, State, TaskGradients
from recjax.balancing.conflict import gradient_conflict
from recjax.balancing.task_gradients import weighted_sum
from recjax.errors import check_range
from recjax.types import Params


@dataclasses.dataclass(frozen=True)
class CAGrad:
  """The direction d of the module's formula.

  Attributes:
    c: how far from the mean, in [0, 1); 0 is the sum of the gradients.
    num_steps: pairwise steps for more than two tasks. 50 are plenty for up to
      five; eight in hard conflict want 100.
    rescale: whether d is divided by 1 + c.
  """

  c: float = 0.5
  num_steps: int = 50
  rescale: bool = True

  needs_gradients: ClassVar[bool] = True

  def __post_init__(self):
    check_range("CAGrad.c", self.c, 0.0, 0.999999)
    check_range("CAGrad.num_steps", self.num_steps, 1, integer=True)

  def init(self, num_tasks: int) -> tuple[Params, State]:
    """Nothing is trained, nothing is kept."""
    check_range("CAGrad num_tasks", num_tasks, 1, integer=True)
    return {}, {}

  def combine_gradients(
    self,
    grads: TaskGradients,
    losses: Float[Array, " task"],
    present: Bool[Array, " task"],
    state: State,
  ) -> tuple[Gradients, State]:
    """T d; see `GradientBalancer.combine_gradients`."""
    del losses
    cosines, norms = gradient_conflict(grads, present)
    largest = jnp.max(norms)
    norms = norms / jnp.where(largest > 0, largest, 1.0)
    products = cosines * (norms[:, None] * norms[None, :])
    counts = present.astype(products.dtype)
    number = jnp.maximum(jnp.sum(counts), 1.0)
    mean = counts / number
    radius = self.c * _norm(products, mean)
    weights = self._simplex_weights(products, mean, radius, present)
    # Formed, not taken from the products: of sums that nearly cancel these
    # would give the wrong lengths, and d would leave the ball.
    mixes = jax.tree.map(
      lambda *leaves: jnp.stack(leaves),
      weighted_sum(grads, mean, present),
      weighted_sum(grads, weights, present),
    )
    _, (of_mean, of_mixed) = gradient_conflict(mixes)
    is_mixed = of_mixed > 0
    pull = self.c * of_mean / jnp.where(is_mixed, of_mixed, 1.0)
    shares = jnp.stack([jnp.ones(()), jnp.where(is_mixed, pull, 0.0)])
    scale = number / (1.0 + self.c) if self.rescale else number
    both = jnp.ones(2, bool)
    return weighted_sum(mixes, scale * shares, both), state

  def _simplex_weights(self, products, mean, radius, present):
    """The weights that minimize F, from equal ones."""
    num_tasks = present.shape[0]
    num_steps = {1: 0, 2: 1}.get(num_tasks, self.num_steps)
    # Of a pair [giver, taker]; absent givers have nothing to give.
    change = lambda values: values[None, :] - values[:, None]
    lengths = jnp.diagonal(products)
    square = lengths[:, None] + lengths[None, :] - 2 * products
    linear = change(_times(products, mean))

    def step(_, weights):
      cross = change(_times(products, weights))
      length = _norm(products, weights)
      most = jnp.broadcast_to(weights[:, None], square.shape)
      amount = _best_amount(linear, radius, length**2, cross, square, most)
      growth = amount * (2 * cross + square * amount)
      after = jnp.sqrt(jnp.maximum(length**2 + growth, 0.0))
      # The difference of two roots, without their cancellation.
      growth = growth / jnp.maximum(after + length, 1e-30)
      gain = jnp.where(present[None, :], amount * linear + radius * growth, 0.0)
      best = jnp.argmin(gain)
      giver, taker = best // num_tasks, best % num_tasks
      moved = jnp.where(gain[giver, taker] < 0, amount[giver, taker], 0.0)
      return weights.at[giver].add(-moved).at[taker].add(moved)

    return lax.fori_loop(0, num_steps, step, mean)


def _times(products, weights):
  """Products of every gradient with a weighted sum of them."""
  return jnp.sum(products * weights[None, :], axis=1)


def _norm(products, weights):
  square = jnp.sum(weights * _times(products, weights))
  return jnp.sqrt(jnp.maximum(square, 0.0))


def _best_amount(linear, radius, constant, cross, square, most):
  r"""Least a t + k sqrt(A + 2 B t + C t^2) for t in [0, most].

  With y = B + C t and D = A C - B^2 the slope is zero where
  y / sqrt(y^2 + D) = -a / (k sqrt C); if that is not in (-1, 1), nowhere.
  """
  is_flat = square < 1e-12
  square = jnp.where(is_flat, 1.0, square)
  steepness = radius * jnp.sqrt(square)
  turns = jnp.abs(linear) < steepness
  ratio = jnp.where(turns, -linear / jnp.where(turns, steepness, 1.0), 0.0)
  determinant = jnp.maximum(constant * square - jnp.square(cross), 0.0)
  rest = jnp.maximum((1.0 - ratio) * (1.0 + ratio), 1e-12)
  inner = ratio * jnp.sqrt(determinant / rest)
  amount = jnp.clip((inner - cross) / square, 0.0, most)
  end = jnp.where(linear < 0, most, 0.0)
  return jnp.where(is_flat, 0.0, jnp.where(turns, amount, end))
