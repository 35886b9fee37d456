"""DCN-V2: a cross network with matrices, beside or below a perceptron.

Ruoxi Wang, Rakesh Shivanna, Derek Z. Cheng, Sagar Jain, Dong Lin, Lichan
Hong, Ed H. Chi: DCN V2: Improved Deep & Cross Network and Practical Lessons
for Web-scale Learning to Rank Systems, WWW 2021,
https://arxiv.org/abs/2008.13535

  x_0 = [e_1, ..., e_n, x],  x_{l+1} = x_0 * (W_l x_l + b_l) + x_l
  parallel  logit = w^T [x_L, MLP(x_0)] + b
  stacked   logit = w^T MLP(x_L) + b
  cross     logit = w^T x_L + b

The matrix may be low-rank, or a mixture of low-rank experts; see
recjax/layers/cross.py.

Deviations from the paper: none. Batch norm and dropout are options of the
deep part; by default the layers are those of BARS.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_choice, check_range
from recjax.layers.cross import GATES, KINDS, CrossNetworkV2
from recjax.layers.fields import flatten_fields, model_inputs
from recjax.layers.mlp import ACTIVATIONS, MLP, check_mlp_settings

STRUCTURES = ("parallel", "stacked", "cross")


class DCNv2(nn.Module):
  """A cross network of the second kind and a perceptron.

  Attributes:
    dim: width of the vectors of fields.
    structure: "parallel", "stacked" or "cross" (which uses no perceptron).
    num_cross_layers: layers of the cross network.
    cross_kind: "full", "low_rank" or "mixture".
    rank: width of the low-rank maps.
    num_experts: low-rank maps of a mixture.
    gate: of a mixture, "softmax" or "sigmoid".
    expert_activation: the non-linear map within an expert of a mixture.
    hidden: widths of the deep part.
    activation: of the deep part.
    dropout_rate: behind each activation of the deep part.
    batch_norm: normalize before each activation of the deep part.
  """

  dim: int = 10
  structure: str = "parallel"
  num_cross_layers: int = 3
  cross_kind: str = "full"
  rank: int = 32
  num_experts: int = 4
  gate: str = "softmax"
  expert_activation: str = "tanh"
  hidden: tuple[int, ...] = (400, 400, 400)
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    for name in ("dim", "num_cross_layers", "rank", "num_experts"):
      check_range(f"DCNv2.{name}", getattr(self, name), 1, integer=True)
    check_choice("DCNv2.structure", self.structure, STRUCTURES)
    check_choice("DCNv2.cross_kind", self.cross_kind, KINDS)
    check_choice("DCNv2.gate", self.gate, GATES)
    check_choice("DCNv2.expert_activation", self.expert_activation, ACTIVATIONS)
    check_mlp_settings("DCNv2", self.hidden, self.activation, self.dropout_rate)

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    return {"embedding": self.dim}

  @nn.compact
  def __call__(
    self,
    embeddings: Mapping[str, Float[Array, "batch _field _dim"]],
    dense: Float[Array, "batch num_dense"] | None = None,
    *,
    deterministic: bool = True,
    where: Bool[Array, " batch"] | None = None,
  ) -> dict[str, Float[Array, "batch *_dim"]]:
    """Scores a batch.

    Args:
      embeddings: "embedding" -> the vector of each field.
      dense: the dense columns, if there are any.
      deterministic: no dropout, running statistics of batch norm.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      "logit" -> one an example; "hidden" -> what its output layer reads.
    """
    rows, dense = model_inputs(embeddings, dense, self.groups)
    x = flatten_fields(rows["embedding"], dense)
    top = CrossNetworkV2(
      self.num_cross_layers,
      self.cross_kind,
      self.rank,
      self.num_experts,
      self.gate,
      self.expert_activation,
      name="cross",
    )(x)
    mlp = MLP(
      self.hidden,
      self.activation,
      self.dropout_rate,
      self.batch_norm,
      name="mlp",
    )
    if self.structure == "stacked":
      top = mlp(top, deterministic=deterministic, where=where)
    elif self.structure == "parallel":
      hidden = mlp(x, deterministic=deterministic, where=where)
      top = jnp.concatenate([top, hidden], axis=1)
    logit = nn.Dense(
      1, kernel_init=nn.initializers.glorot_normal(), name="output"
    )(top)
    return {"logit": logit[:, 0], "hidden": top}
