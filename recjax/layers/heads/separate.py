"""Heads without sharing: an MLP for each task over the same input.

What is shared are the embeddings. With the labels of the entire space (see
`recjax.tasks.task_objectives`) this is the network of

  Xiao Ma et al.: Entire Space Multi-Task Model, SIGIR 2018,
  https://arxiv.org/abs/1804.07931.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.heads.towers import TaskTowers
from recjax.layers.mlp import check_mlp_settings


class Separate(nn.Module):
  """x_t = x.

  Attributes:
    hidden: widths of the layers of each task's MLP.
    activation: between them.
    dropout_rate: behind each.
    batch_norm: before each activation.
  """

  hidden: tuple[int, ...] = (16, 8)
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    check_mlp_settings(
      "Separate", self.hidden, self.activation, self.dropout_rate, min_layers=0
    )

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch dim"],
    *,
    num_tasks: int,
    deterministic: bool = True,
    where: Bool[Array, " batch"] | None = None,
  ) -> Float[Array, "batch task"]:
    """The logits of all tasks; see `TaskTowers`."""
    check_range("num_tasks", num_tasks, 1, integer=True)
    return TaskTowers(
      self.hidden,
      self.activation,
      self.dropout_rate,
      self.batch_norm,
      name="towers",
    )(x, num_tasks=num_tasks, deterministic=deterministic, where=where)
