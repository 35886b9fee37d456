"""Hard sharing: one MLP below the towers of all tasks.

Rich Caruana: Multitask Learning, Machine Learning 28, 1997,
https://doi.org/10.1023/A:1007379606734

  x_t = MLP(x)
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from recjax.layers.heads.towers import TaskTowers
from recjax.layers.mlp import MLP, check_mlp_settings


class SharedBottom(nn.Module):
  """A shared MLP, then a tower for each task.

  Attributes:
    hidden: widths of the shared layers.
    tower: widths of the layers of a tower.
    activation: between all layers.
    dropout_rate: behind each.
    batch_norm: before each activation.
  """

  hidden: tuple[int, ...] = (16,)
  tower: tuple[int, ...] = (8,)
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    settings = self.activation, self.dropout_rate
    check_mlp_settings("SharedBottom", self.hidden, *settings)
    check_mlp_settings(
      "SharedBottom", self.tower, *settings, field="tower", min_layers=0
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
    settings = self.activation, self.dropout_rate, self.batch_norm
    options = {"deterministic": deterministic, "where": where}
    x = MLP(self.hidden, *settings, name="bottom")(x, **options)
    towers = TaskTowers(self.tower, *settings, name="towers")
    return towers(x, num_tasks=num_tasks, **options)
