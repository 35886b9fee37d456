"""Weights that are set and stay."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.balancing.balancer import State
from recjax.errors import ConfigError, check_range, check_tuple
from recjax.types import Params

MAX_WEIGHT = 1e30


@dataclasses.dataclass(frozen=True)
class FixedWeights:
  r"""loss = sum_{t present} w_t L_t.

  The baseline that every other balancer has to beat.

  Attributes:
    weights: w, one a task in the order of the tasks; () is 1 for each.
  """

  weights: tuple[float, ...] = ()

  needs_gradients: ClassVar[bool] = False

  def __post_init__(self):
    check_tuple("FixedWeights.weights", self.weights, "(1.0, 0.5)")
    for index, weight in enumerate(self.weights):
      check_range(f"FixedWeights.weights[{index}]", weight, 0.0, MAX_WEIGHT)
    if self.weights and not any(self.weights):
      raise ConfigError(
        "FixedWeights.weights must have one that is not 0; got"
        f" {self.weights!r}: nothing would be trained."
      )

  def init(self, num_tasks: int) -> tuple[Params, State]:
    """Nothing is trained, nothing is kept."""
    check_range("FixedWeights num_tasks", num_tasks, 1, integer=True)
    self._check_length(num_tasks)
    return {}, {}

  def combine_losses(
    self,
    losses: Float[Array, " task"],
    present: Bool[Array, " task"],
    params: Params,
    state: State,
  ) -> tuple[Float[Array, ""], State]:
    """The weighted sum; see `LossBalancer.combine_losses`.

    Raises:
      ConfigError: there are more or fewer weights than tasks.
    """
    del params
    self._check_length(losses.shape[0])
    weights = jnp.asarray(self.weights or (1.0,) * losses.shape[0])
    return jnp.sum(weights * jnp.where(present, losses, 0.0)), state

  def _check_length(self, num_tasks):
    if self.weights and len(self.weights) != num_tasks:
      raise ConfigError(
        "FixedWeights.weights must have one weight for each task, or none at"
        f" all; got {len(self.weights)} weights {self.weights!r} for"
        f" {num_tasks} tasks."
      )
