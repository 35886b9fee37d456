"""AITM: what one step of a chain of events knows is passed to the next.

Dongbo Xi et al.: Modeling the Sequential Dependence among Audience Multi-step
Conversions with Multi-task Learning in Targeted Display Advertising, KDD 2021,
https://arxiv.org/abs/2105.08489

Tasks stand in the order of the chain, such as click, then conversion:

  z_1 = q_1,   p_t = act(W_t z_{t-1} + b_t)
  z_t = sum_{u in {p_t, q_t}} w_u v(u),
  w_u = softmax_u(<k(u), s(u)> / sqrt(d))

with q_t an MLP of task t over x, and v, k, s linear, shared by all tasks. That
a step is not more probable than the one before is asked for by a term of the
loss, see `recjax.tasks.task_objectives`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.layers.experts import Experts
from recjax.layers.heads.towers import TaskTowers
from recjax.layers.mlp import ACTIVATIONS, check_mlp_settings


class AITM(nn.Module):
  """An MLP for each task, a transfer from the one before, an output.

  Attributes:
    hidden: widths of the layers of each task's MLP.
    tower: widths of the layers of a tower behind the transfer.
    activation: between all layers.
    dropout_rate: behind each.
    batch_norm: before each activation of the MLPs and towers.
  """

  hidden: tuple[int, ...] = (16, 8)
  tower: tuple[int, ...] = ()
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    settings = self.activation, self.dropout_rate
    check_mlp_settings("AITM", self.hidden, *settings)
    check_mlp_settings(
      "AITM", self.tower, *settings, field="tower", min_layers=0
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
    bottoms = Experts(self.hidden, num_tasks, *settings, name="bottoms")
    own = bottoms(x, **options)
    size = self.hidden[-1]
    value, key, query = (
      nn.Dense(size, use_bias=False, name=name)
      for name in ("value", "key", "query")
    )
    states = [own[:, 0]]
    for task in range(1, num_tasks):
      passed = nn.Dense(size, name=f"pass_{task}")(states[-1])
      passed = ACTIVATIONS[self.activation](passed)
      both = jnp.stack([passed, own[:, task]], axis=1)
      score = jnp.sum(key(both) * query(both), axis=-1) / size**0.5
      weight = jax.nn.softmax(score, axis=1)
      states.append(jnp.einsum("bu,bud->bd", weight, value(both)))
    towers = TaskTowers(self.tower, *settings, name="towers")
    return towers(jnp.stack(states, axis=1), num_tasks=num_tasks, **options)
