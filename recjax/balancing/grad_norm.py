r"""Weights that bring the tasks' gradients to one scale and one pace.

Chen, Badrinarayanan, Lee, Rabinovich: GradNorm, ICML 2018, equations 1 and 2,
https://arxiv.org/abs/1711.02257

  G_t = w_t |g_t|,  r_t = (L_t / L_t(0)) / mean_i (L_i / L_i(0))
  L_grad = sum_t |G_t - mean_i(G_i) r_t^alpha|,  the target held constant
  w <- w - rate dL_grad / dw,  then scaled to sum T

Deviations from the paper
- The norm is that of all shared gradients that are given, not of the last
  shared layer alone; what is no shared parameter is not weighted.
- Weights are trained by plain gradient descent and stay positive.
- Means are over the tasks that are present. Absent ones keep their weight and
  the others share what is left of T.
- L_t(0) is the loss of the first batch in which the task is present; L_t over
  L_t(0) is cut to [0, 1e6], and is 1 where L_t(0) is not above zero.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.balancing.balancer import Gradients, State, TaskGradients
from recjax.balancing.conflict import gradient_conflict
from recjax.balancing.task_gradients import weighted_sum
from recjax.errors import check_range
from recjax.types import Params

MIN_WEIGHT = 1e-4
MAX_WEIGHT = 1e30
MAX_PACE = 1e6


@dataclasses.dataclass(frozen=True)
class GradNorm:
  r"""g = sum_{t present} w_t g_t, w moved by the module's formula.

  A step is taken with the weights from before their update, as in the paper.

  Attributes:
    rate: of the weights. One step moves a weight by the rate times the norm of
      its task's gradient: choose it for the size of the norms.
    alpha: how strongly tasks that learn slowly are pulled up; 0 asks for
      equal norms.
  """

  rate: float = 0.025
  alpha: float = 1.5

  needs_gradients: ClassVar[bool] = True

  def __post_init__(self):
    check_range("GradNorm.rate", self.rate, 0.0, 1e6)
    check_range("GradNorm.alpha", self.alpha, 0.0, 10.0)

  def init(self, num_tasks: int) -> tuple[Params, State]:
    """Weights of 1, and first losses that are not known yet."""
    check_range("GradNorm num_tasks", num_tasks, 1, integer=True)
    return {}, {
      "weights": jnp.ones((num_tasks,)),
      "first_losses": jnp.zeros((num_tasks,)),
      "was_present": jnp.zeros((num_tasks,), bool),
    }

  def combine_gradients(
    self,
    grads: TaskGradients,
    losses: Float[Array, " task"],
    present: Bool[Array, " task"],
    state: State,
  ) -> tuple[Gradients, State]:
    """The weighted sum; see `GradientBalancer.combine_gradients`."""
    weights = state["weights"]
    combined = weighted_sum(grads, weights, present)
    losses = jnp.where(present, losses, 0.0)
    is_first = present & ~state["was_present"]
    first = jnp.where(is_first, losses, state["first_losses"])
    pace = jnp.where(first > 0, losses / jnp.where(first > 0, first, 1.0), 1.0)
    pace = jnp.clip(pace, 0.0, MAX_PACE)
    _, norms = gradient_conflict(grads, present)
    slope = self._weight_gradient(weights, norms, pace, present)
    return combined, {
      "weights": self._moved(weights, slope, present),
      "first_losses": first,
      "was_present": state["was_present"] | present,
    }

  def _weight_gradient(self, weights, norms, pace, present):
    """dL_grad / dw, 0 for absent tasks."""
    mean = lambda values: (
      jnp.sum(jnp.where(present, values, 0.0))
      / jnp.maximum(jnp.sum(present.astype(values.dtype)), 1.0)
    )
    mean_pace = mean(pace)
    inverse_rate = jnp.where(
      mean_pace > 0, pace / jnp.where(mean_pace > 0, mean_pace, 1.0), 1.0
    )
    scaled = weights * norms
    target = mean(scaled) * inverse_rate**self.alpha
    return jnp.where(present, jnp.sign(scaled - target) * norms, 0.0)

  def _moved(self, weights, slope, present):
    """One step, then all weights scaled to sum to their number."""
    moved = jnp.clip(weights - self.rate * slope, MIN_WEIGHT, MAX_WEIGHT)
    moved = jnp.where(present, moved, 0.0)
    left = weights.shape[0] - jnp.sum(jnp.where(present, 0.0, weights))
    total = jnp.sum(moved)
    scale = left / jnp.where(total > 0, total, 1.0)
    return jnp.where(present, moved * scale, weights)
