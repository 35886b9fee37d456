"""CGC and PLE: experts of each task beside shared ones, in layers.

Hongyan Tang, Junning Liu, Ming Zhao, Xudong Gong: Progressive Layered
Extraction (PLE), RecSys 2020, https://doi.org/10.1145/3383313.3412236

With f_t the experts of task t and f_s the shared ones, a layer gives

  x_t' = sum_e g_t(x_t)_e [f_t(x_t); f_s(x_s)]_e
  x_s' = sum_e g_s(x_s)_e [f_1(x_1); ...; f_T(x_T); f_s(x_s)]_e

and x_t = x_s = x before the first. The last layer has no x_s'. One layer is
CGC, customized gate control.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.experts import Experts, mix_experts
from recjax.layers.heads.gates import ExpertGate
from recjax.layers.heads.towers import TaskTowers
from recjax.layers.mlp import check_mlp_settings


class PLE(nn.Module):
  """Layers of own and shared experts, then towers.

  Attributes:
    num_layers: layers of extraction; 1 is CGC.
    task_experts: experts of each task in a layer.
    shared_experts: shared ones.
    expert: widths of the layers of an expert.
    tower: widths of the layers of a tower.
    gate_dropout_rate: at which an expert is left out for a row in training.
    activation: between all layers.
    dropout_rate: behind each.
    batch_norm: before each activation.
  """

  num_layers: int = 2
  task_experts: int = 3
  shared_experts: int = 2
  expert: tuple[int, ...] = (4,)
  tower: tuple[int, ...] = (8,)
  gate_dropout_rate: float = 0.0
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    settings = self.activation, self.dropout_rate
    for name in ("num_layers", "task_experts", "shared_experts"):
      check_range(f"PLE.{name}", getattr(self, name), 1, integer=True)
    check_range("PLE.gate_dropout_rate", self.gate_dropout_rate, 0.0, 0.99)
    check_mlp_settings("PLE", self.expert, *settings, field="expert")
    check_mlp_settings(
      "PLE", self.tower, *settings, field="tower", min_layers=0
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
    own, shared = [x] * num_tasks, x
    for number in range(self.num_layers):
      own_out, shared_out = self._experts(
        own, shared, number, deterministic, where
      )
      gate = lambda name, x, experts: self._mixed(
        name, x, experts, deterministic
      )
      both = [jnp.concatenate([each, shared_out], axis=1) for each in own_out]
      new = [
        gate(f"gate_{number}_{task}", own[task], both[task])
        for task in range(num_tasks)
      ]
      if number + 1 < self.num_layers:
        every = jnp.concatenate([*own_out, shared_out], axis=1)
        shared = gate(f"gate_{number}_shared", shared, every)
      own = new
    towers = TaskTowers(
      self.tower,
      self.activation,
      self.dropout_rate,
      self.batch_norm,
      name="towers",
    )
    return towers(
      jnp.stack(own, axis=1),
      num_tasks=num_tasks,
      deterministic=deterministic,
      where=where,
    )

  def _experts(
    self,
    own: list[Float[Array, "batch _dim"]],
    shared: Float[Array, "batch _dim"],
    number: int,
    deterministic: bool,
    where: Bool[Array, " batch"] | None,
  ) -> tuple[list[Array], Float[Array, "batch _expert _hidden"]]:
    """What the experts of each task, and the shared ones, give."""
    settings = self.activation, self.dropout_rate, self.batch_norm
    options = {"deterministic": deterministic, "where": where}
    num, tasks = self.task_experts, len(own)
    of_tasks = Experts(
      self.expert, num * tasks, *settings, name=f"experts_{number}"
    )
    of_all = Experts(
      self.expert, self.shared_experts, *settings, name=f"shared_{number}"
    )
    # Before the first layer all inputs are one, and one product serves all.
    inputs = own[0] if number == 0 else jnp.repeat(jnp.stack(own, 1), num, 1)
    out = of_tasks(inputs, **options)
    return jnp.split(out, tasks, axis=1), of_all(shared, **options)

  def _mixed(
    self,
    name: str,
    x: Float[Array, "batch _dim"],
    experts: Float[Array, "batch expert hidden"],
    deterministic: bool,
  ) -> Float[Array, "batch hidden"]:
    gate = ExpertGate(experts.shape[1], 1, self.gate_dropout_rate, name=name)
    weights = gate(x, deterministic=deterministic)
    return mix_experts(weights, experts)[:, 0]
