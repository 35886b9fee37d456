"""DCN: a cross network beside a perceptron.

Ruoxi Wang, Bin Fu, Gang Fu, Mingliang Wang: Deep & Cross Network for Ad Click
Predictions, ADKDD 2017, https://arxiv.org/abs/1708.05123

  x_0 = [e_1, ..., e_n, x],  x_{l+1} = x_0 (w_l . x_l) + b_l + x_l
  h_0 = x_0,                 h_{l+1} = relu(W_l h_l + b_l)
  logit = w^T [x_{L1}, h_{L2}] + b

Deviations from the paper: none. Batch norm (which the paper uses) and dropout
are options of the deep part; by default the layers are those of BARS, and the
vectors of all fields have one width.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.cross import CrossNetwork
from recjax.layers.fields import flatten_fields, model_inputs
from recjax.layers.mlp import MLP, check_mlp_settings


class DCN(nn.Module):
  """A cross network and a perceptron, concatenated.

  Attributes:
    dim: width of the vectors of fields.
    num_cross_layers: layers of the cross network.
    hidden: widths of the deep part.
    activation: of the deep part.
    dropout_rate: behind each activation.
    batch_norm: normalize before each activation.
  """

  dim: int = 10
  num_cross_layers: int = 3
  hidden: tuple[int, ...] = (400, 400, 400)
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    for name in ("dim", "num_cross_layers"):
      check_range(f"DCN.{name}", getattr(self, name), 1, integer=True)
    check_mlp_settings("DCN", self.hidden, self.activation, self.dropout_rate)

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
    crossed = CrossNetwork(self.num_cross_layers, name="cross")(x)
    hidden = MLP(
      self.hidden,
      self.activation,
      self.dropout_rate,
      self.batch_norm,
      name="mlp",
    )(x, deterministic=deterministic, where=where)
    top = jnp.concatenate([crossed, hidden], axis=1)
    logit = nn.Dense(
      1, kernel_init=nn.initializers.glorot_normal(), name="output"
    )(top)
    return {"logit": logit[:, 0], "hidden": top}
