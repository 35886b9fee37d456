r"""Weights learned as the noise of each task.

Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses
for Scene Geometry and Semantics, CVPR 2018, https://arxiv.org/abs/1705.07115

  real:    L / (2 sigma^2) + log sigma      (equation 7, L a squared error)
  binary:  L / sigma^2     + log sigma      (equation 10, L a cross-entropy)

Deviations from the paper
- s = log sigma^2 is kept within bounds. The best s of a binary task is
  log(2 L), so that a task that is solved would get a weight without end.
- A task that is absent from a batch adds no log sigma either: otherwise its s
  would sink, and its weight rise, for no reason but that it is rare.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from recjax.balancing.balancer import State
from recjax.errors import (
  ConfigError,
  check_choice,
  check_range,
  check_tuple,
)
from recjax.types import Params

FACTORS = {"binary": 1.0, "real": 0.5}
"""What 1 / sigma^2 is multiplied with, by kind of task."""


@dataclasses.dataclass(frozen=True)
class UncertaintyWeighting:
  r"""loss = sum_{t present} a_t exp(-s_t) L_t + s_t / 2, s trained.

  a_t is 1 for a binary task and 1/2 for a real one. The term s_t / 2 keeps the
  optimizer from ignoring a task; because of it the loss may be negative. The
  loss of a real task is meant to be the squared error, without a half.

  Beyond the bounds s counts as the bound, and only a gradient that leads back
  moves it: a clamp that lets none through would hold it there for good.

  Attributes:
    kinds: "binary" or "real", one a task in the order of the tasks; () is the
      form of binary tasks for all, whatever their loss.
    max_log_variance: s lies in [-max, max], a weight in a exp(-/+ max).
  """

  kinds: tuple[str, ...] = ()
  max_log_variance: float = 10.0

  needs_gradients: ClassVar[bool] = False

  def __post_init__(self):
    kinds = '("binary", "real")'
    check_tuple("UncertaintyWeighting.kinds", self.kinds, kinds)
    for index, kind in enumerate(self.kinds):
      check_choice(f"UncertaintyWeighting.kinds[{index}]", kind, FACTORS)
    check_range(
      "UncertaintyWeighting.max_log_variance", self.max_log_variance, 0.0, 60.0
    )

  def init(self, num_tasks: int) -> tuple[Params, State]:
    """For each task s = 0, that is weight a."""
    check_range("UncertaintyWeighting num_tasks", num_tasks, 1, integer=True)
    self._check_length(num_tasks)
    return {"log_variances": jnp.zeros((num_tasks,))}, {}

  def combine_losses(
    self,
    losses: Float[Array, " task"],
    present: Bool[Array, " task"],
    params: Params,
    state: State,
  ) -> tuple[Float[Array, ""], State]:
    """The weighted and penalized sum; see `LossBalancer.combine_losses`.

    Raises:
      ConfigError: there are more or fewer kinds than tasks.
    """
    num_tasks = losses.shape[0]
    self._check_length(num_tasks)
    kinds = self.kinds or ("binary",) * num_tasks
    factors = jnp.asarray([FACTORS[kind] for kind in kinds])
    # Masked first: not even NaN of an absent task may reach a gradient.
    losses = jnp.where(present, losses, 0.0)
    bounded = self._bounded(params["log_variances"], factors * losses)
    terms = factors * jnp.exp(-bounded) * losses + 0.5 * bounded
    return jnp.sum(jnp.where(present, terms, 0.0)), state

  def _bounded(self, log_variances, scaled_losses):
    """Cuts s to the bounds; outside, differentiable just on the way back."""
    limit = self.max_log_variance
    bounded = lax.stop_gradient(jnp.clip(log_variances, -limit, limit))
    slope = 0.5 - jnp.exp(-bounded) * lax.stop_gradient(scaled_losses)
    moves = jnp.where(
      log_variances < -limit, slope < 0, (log_variances <= limit) | (slope > 0)
    )
    zero = log_variances - lax.stop_gradient(log_variances)
    return bounded + jnp.where(moves, zero, 0.0)

  def _check_length(self, num_tasks):
    if self.kinds and len(self.kinds) != num_tasks:
      raise ConfigError(
        "UncertaintyWeighting.kinds must have one kind for each task, or none"
        f" at all; got {len(self.kinds)} kinds {self.kinds!r} for"
        f" {num_tasks} tasks."
      )
