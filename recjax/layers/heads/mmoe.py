"""MMoE: experts for all tasks, a gate over them for each; and OMoE.

Jiaqi Ma, Zhe Zhao, Xinyang Yi, Jilin Chen, Lichan Hong, Ed H. Chi: Modeling
Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts,
KDD 2018, https://doi.org/10.1145/3219819.3220007

  x_t = sum_e g_t(x)_e f_e(x),   g_t(x) = softmax(W_t x)

With `one_gate` all tasks share the gate, so that x_t is one vector: OMoE.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.experts import Experts, mix_experts
from recjax.layers.heads.gates import ExpertGate
from recjax.layers.heads.towers import TaskTowers
from recjax.layers.mlp import check_mlp_settings


class MMoE(nn.Module):
  """Experts, gates and towers.

  Attributes:
    num_experts: experts.
    expert: widths of the layers of an expert.
    tower: widths of the layers of a tower.
    one_gate: one gate for all tasks.
    gate_dropout_rate: at which an expert is left out for a row in training.
    activation: between all layers.
    dropout_rate: behind each.
    batch_norm: before each activation.
  """

  num_experts: int = 8
  expert: tuple[int, ...] = (4,)
  tower: tuple[int, ...] = (8,)
  one_gate: bool = False
  gate_dropout_rate: float = 0.0
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    settings = self.activation, self.dropout_rate
    check_range("MMoE.num_experts", self.num_experts, 1, integer=True)
    check_range("MMoE.gate_dropout_rate", self.gate_dropout_rate, 0.0, 0.99)
    check_mlp_settings("MMoE", self.expert, *settings, field="expert")
    check_mlp_settings(
      "MMoE", self.tower, *settings, field="tower", min_layers=0
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
    experts = Experts(self.expert, self.num_experts, *settings, name="experts")
    gate = ExpertGate(
      self.num_experts,
      1 if self.one_gate else num_tasks,
      self.gate_dropout_rate,
      name="gate",
    )
    gates = gate(x, deterministic=deterministic)
    mixed = mix_experts(gates, experts(x, **options))
    towers = TaskTowers(self.tower, *settings, name="towers")
    return towers(
      mixed[:, 0] if self.one_gate else mixed, num_tasks=num_tasks, **options
    )
