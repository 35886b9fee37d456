"""What all heads of several tasks end in: a tower for each task.

A head turns the vector x of an example, [batch, dim], into one logit a task,

  logit_t = w_t^T tower_t(x_t) + b_t,   tower_t an MLP,

and differs from others in how x_t comes about. All heads are called alike,
`head(x, num_tasks=..., deterministic=..., where=...)`, and the towers of all
tasks are one batched product a layer.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError
from recjax.layers.experts import Experts, each_by_itself
from recjax.layers.mlp import INITIALIZERS, check_mlp_settings


class TaskTowers(nn.Module):
  """An MLP and a linear output for each task.

  Attributes:
    hidden: widths of the layers of a tower; () is the output alone.
    activation: between them.
    dropout_rate: behind each.
    batch_norm: before each activation.
  """

  hidden: tuple[int, ...] = (8,)
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    check_mlp_settings(
      "TaskTowers",
      self.hidden,
      self.activation,
      self.dropout_rate,
      min_layers=0,
    )

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch *task dim"],
    *,
    num_tasks: int,
    deterministic: bool = True,
    where: Bool[Array, " batch"] | None = None,
  ) -> Float[Array, "batch task"]:
    """The logits of all tasks.

    Args:
      x: one vector for all tasks, [batch, dim], or one for each.
      num_tasks: how many there are.
      deterministic: no dropout, and batch norm by its running statistics.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      One logit an example and task.

    Raises:
      ConfigError: x has vectors for another number of tasks.
    """
    if x.ndim == 3 and x.shape[1] != num_tasks:
      raise ConfigError(
        f"there must be a vector for each of the {num_tasks} tasks; got"
        f" {x.shape[1]}."
      )
    if self.hidden:
      x = Experts(
        self.hidden,
        num_tasks,
        self.activation,
        self.dropout_rate,
        self.batch_norm,
        name="layers",
      )(x, deterministic=deterministic, where=where)
    kernel = self.param(
      "kernel",
      each_by_itself(INITIALIZERS["glorot_normal"]),
      (num_tasks, x.shape[-1], 1),
    )[..., 0]
    bias = self.param("bias", nn.initializers.zeros, (num_tasks,))
    if x.ndim == 2:
      return x @ kernel.T + bias[None]
    return jnp.einsum("btd,td->bt", x, kernel) + bias[None]
