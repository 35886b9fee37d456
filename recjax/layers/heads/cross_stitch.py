"""Cross-stitch units: each task's layer reads all tasks' layers.

Ishan Misra, Abhinav Shrivastava, Abhinav Gupta, Martial Hebert: Cross-Stitch
Networks for Multi-task Learning, CVPR 2016, https://arxiv.org/abs/1604.03539

  h_t^l = act(W_t^l x_t^l + b_t^l),   x_t^{l+1} = sum_s a_ts^l h_s^l

with a^l learned, one number for a pair of tasks and a layer. It starts at
`own` on the diagonal, and what is left to 1 is shared by the others.

Deviations from the paper: it starts from networks that were trained apart;
here all start together. Its units have a number for each channel as well.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.experts import Experts
from recjax.layers.heads.towers import TaskTowers
from recjax.layers.mlp import check_mlp_settings


class CrossStitch(nn.Module):
  """Layers of each task that are mixed after each layer, then towers.

  Attributes:
    hidden: widths of the mixed layers of each task.
    tower: widths of the layers of a tower.
    own: a_tt at the start, in [0, 1].
    activation: between all layers.
    dropout_rate: behind each.
    batch_norm: before each activation.
  """

  hidden: tuple[int, ...] = (16,)
  tower: tuple[int, ...] = (8,)
  own: float = 0.9
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    settings = self.activation, self.dropout_rate
    check_mlp_settings("CrossStitch", self.hidden, *settings)
    check_mlp_settings(
      "CrossStitch", self.tower, *settings, field="tower", min_layers=0
    )
    check_range("CrossStitch.own", self.own, 0.0, 1.0)

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
    for number, size in enumerate(self.hidden):
      layer = Experts((size,), num_tasks, *settings, name=f"layer_{number}")
      stitch = self.param(f"stitch_{number}", self._start, num_tasks)
      x = jnp.einsum("ts,bsd->btd", stitch, layer(x, **options))
    towers = TaskTowers(self.tower, *settings, name="towers")
    return towers(x, num_tasks=num_tasks, **options)

  def _start(self, key, num_tasks: int) -> Float[Array, "task task"]:
    del key
    if num_tasks == 1:
      return jnp.ones((1, 1))
    other = (1.0 - self.own) / (num_tasks - 1)
    return jnp.full((num_tasks, num_tasks), other) + (
      self.own - other
    ) * jnp.eye(num_tasks)
