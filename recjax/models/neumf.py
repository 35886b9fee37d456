"""NeuMF: neural matrix factorization, GMF and MLP in one.

Xiangnan He, Lizi Liao, Hanwang Zhang, Liqiang Nie, Xia Hu, Tat-Seng Chua:
Neural Collaborative Filtering, WWW 2017, https://arxiv.org/abs/1708.05031

  z_1 = [p'_u, q'_i];  z_{l+1} = relu(W_l z_l + b_l)
  logit = h^T [p_u * q_i, z_L] + b

p and q are the tables of the group "gmf", p' and q' those of "mlp"; all start
at N(0, 0.01^2), which is a matter of the tables. `layers` are the widths of
z_1, ..., z_L, as in the authors' code.

Deviations from the paper: W is drawn from Glorot's and h from LeCun's uniform
distribution instead of N(0, 0.01^2), and the logit has a bias; all as in the
authors' code (there, W by the default of Keras). There is no pre-training.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_range
from recjax.layers.fields import flatten_fields, model_inputs, refuse_dense
from recjax.layers.mlp import MLP, check_mlp_settings


class NeuMF(nn.Module):
  """A weighted inner product beside a perceptron, with tables of their own.

  Attributes:
    dim: width of p and q.
    layers: widths from the concatenated p' and q' to the last hidden layer;
      the first must be even.
    activation: of the hidden layers.
    dropout_rate: behind each activation.
    batch_norm: normalize before each activation.
  """

  dim: int = 8
  layers: tuple[int, ...] = (64, 32, 16, 8)
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    check_range("NeuMF.dim", self.dim, 1, integer=True)
    check_mlp_settings(
      "NeuMF", self.layers, self.activation, self.dropout_rate, field="layers"
    )
    if self.layers[0] % 2:
      raise ConfigError(
        "NeuMF.layers[0] is the width of the user's and the item's vector"
        f" together and must be even; got {self.layers[0]}."
      )

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    return {"gmf": self.dim, "mlp": self.layers[0] // 2}

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
      embeddings: "gmf" and "mlp" -> the rows of user and item, in this order.
      dense: must be None: the model knows users and items alone.
      deterministic: no dropout, running statistics of batch norm.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      "logit" -> one an example; "hidden" -> what its output layer reads.
    """
    refuse_dense("NeuMF", dense)
    rows, _ = model_inputs(embeddings, None, self.groups, num_fields=2)
    product = rows["gmf"][:, 0] * rows["gmf"][:, 1]
    hidden = MLP(
      self.layers[1:],
      self.activation,
      self.dropout_rate,
      self.batch_norm,
      kernel_init="glorot_uniform",
      name="mlp",
    )(flatten_fields(rows["mlp"]), deterministic=deterministic, where=where)
    top = jnp.concatenate([product, hidden], axis=1)
    logit = nn.Dense(
      1, kernel_init=nn.initializers.lecun_uniform(), name="prediction"
    )(top)
    return {"logit": logit[:, 0], "hidden": top}
