r"""Weights by how fast the loss of each task falls.

Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention, CVPR 2019,
equation 7, https://arxiv.org/abs/1803.10704

  w_k = T exp(r_k / temperature) / sum_i exp(r_i / temperature)
  r_k = L_k(last) / L_k(before)

Deviations from the paper
- L is the mean loss over a window of steps, where the paper takes epochs.
- A window in which a task had no rows is not one of its windows: its ratio
  stays that of the last two that had some.
- Ratios are cut at 1e6, and are 1 where the earlier loss is not above zero.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from recjax.balancing.balancer import State
from recjax.errors import check_range
from recjax.types import Params

MAX_RATIO = 1e6


@dataclasses.dataclass(frozen=True)
class DynamicWeightAveraging:
  r"""loss = sum_{t present} w_t L_t with the weights of the module's formula.

  The weights add up to T, and change when a window ends. A task with fewer
  than two windows has ratio 1, as in the paper.

  Attributes:
    temperature: the larger, the more equal are the weights.
    window_steps: steps over which a loss is averaged; the paper's are those
      of an epoch.
  """

  temperature: float = 2.0
  window_steps: int = 1000

  needs_gradients: ClassVar[bool] = False

  def __post_init__(self):
    name = "DynamicWeightAveraging"
    check_range(f"{name}.temperature", self.temperature, 1e-3, 1e6)
    check_range(f"{name}.window_steps", self.window_steps, 1, integer=True)

  def init(self, num_tasks: int) -> tuple[Params, State]:
    """The running window, the means of the last two, and how many ended."""
    check_range("DynamicWeightAveraging num_tasks", num_tasks, 1, integer=True)
    return {}, {
      "step_in_window": jnp.zeros((), jnp.int32),
      "loss_sum": jnp.zeros((num_tasks,)),
      "num_losses": jnp.zeros((num_tasks,), jnp.int32),
      "last_mean": jnp.zeros((num_tasks,)),
      "earlier_mean": jnp.zeros((num_tasks,)),
      "num_windows": jnp.zeros((num_tasks,), jnp.int32),
    }

  def weights(self, state: State) -> Float[Array, " task"]:
    """The weights of the next step."""
    earlier = state["earlier_mean"]
    has_ratio = (state["num_windows"] >= 2) & (
      earlier > jnp.finfo(earlier.dtype).tiny
    )
    ratio = state["last_mean"] / jnp.where(has_ratio, earlier, 1.0)
    ratio = jnp.where(has_ratio, jnp.clip(ratio, -MAX_RATIO, MAX_RATIO), 1.0)
    return ratio.shape[0] * jax.nn.softmax(ratio / self.temperature)

  def combine_losses(
    self,
    losses: Float[Array, " task"],
    present: Bool[Array, " task"],
    params: Params,
    state: State,
  ) -> tuple[Float[Array, ""], State]:
    """The weighted sum; see `LossBalancer.combine_losses`."""
    del params
    losses = jnp.where(present, losses, 0.0)
    loss = jnp.sum(self.weights(state) * losses)
    return loss, self._next(lax.stop_gradient(losses), present, state)

  def _next(self, losses, present, state):
    """The state with one more step, and its window closed if that is full."""
    step = state["step_in_window"] + 1
    total = state["loss_sum"] + losses
    count = state["num_losses"] + present.astype(jnp.int32)
    is_full = step >= self.window_steps
    shifts = is_full & (count > 0)
    mean = total / jnp.maximum(count, 1)
    windows = jnp.minimum(state["num_windows"] + 1, 2)
    return {
      "step_in_window": jnp.where(is_full, 0, step),
      "loss_sum": jnp.where(is_full, 0.0, total),
      "num_losses": jnp.where(is_full, 0, count),
      "last_mean": jnp.where(shifts, mean, state["last_mean"]),
      "earlier_mean": jnp.where(
        shifts, state["last_mean"], state["earlier_mean"]
      ),
      "num_windows": jnp.where(shifts, windows, state["num_windows"]),
    }
