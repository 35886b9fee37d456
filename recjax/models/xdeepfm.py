"""xDeepFM: a compressed interaction network, a perceptron and linear terms.

Jianxun Lian, Xiaohuan Zhou, Fuzheng Zhang, Zhongxia Chen, Xing Xie, Guangzhong
Sun: xDeepFM: Combining Explicit and Implicit Feature Interactions for
Recommender Systems, KDD 2018, https://arxiv.org/abs/1803.05170

  X^k_h = sum_ij W^{k,h}_ij (X^{k-1}_i * X^0_j),  p^k_h = sum_d X^k_{h,d}
  logit = b + sum_i w_i + sum_j u_j x_j + w_cin^T [p^1, ..., p^K] + w^T a_L
  a_0 = [e_1, ..., e_n],  a_{l+1} = relu(W_l a_l + b_l)

X^0 holds the rows e_i of the group "embedding" and, for a dense column x_j,
the vector x_j v_j; w_i are the rows of "linear".

Deviations from the paper: none. `cin_bias` adds a bias to each feature map,
as FuxiCTR has; the authors' code can keep half of the maps for the output
alone, which this has not. Batch norm and dropout are options of the deep part.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_choice, check_range
from recjax.layers.fields import (
  FieldVectors,
  LinearTerms,
  flatten_fields,
  model_inputs,
)
from recjax.layers.interactions import CIN
from recjax.layers.mlp import (
  ACTIVATIONS,
  MLP,
  check_layer_sizes,
  check_mlp_settings,
)


class XDeepFM(nn.Module):
  """Linear terms, a compressed interaction network and a perceptron.

  Attributes:
    dim: width of the vectors of fields.
    cin_layers: feature maps of each layer of the CIN.
    cin_activation: of the feature maps.
    cin_bias: a bias for each feature map.
    hidden: widths of the deep part; () leaves it out.
    activation: of the deep part.
    dropout_rate: behind each activation of the deep part.
    batch_norm: normalize before each activation of the deep part.
  """

  dim: int = 10
  cin_layers: tuple[int, ...] = (200, 200, 200)
  cin_activation: str = "identity"
  cin_bias: bool = False
  hidden: tuple[int, ...] = (400, 400, 400)
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    check_range("XDeepFM.dim", self.dim, 1, integer=True)
    check_layer_sizes("XDeepFM.cin_layers", self.cin_layers)
    check_choice("XDeepFM.cin_activation", self.cin_activation, ACTIVATIONS)
    check_mlp_settings(
      "XDeepFM",
      self.hidden,
      self.activation,
      self.dropout_rate,
      min_layers=0,
    )

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    return {"linear": 1, "embedding": self.dim}

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
      embeddings: "linear" -> w and "embedding" -> e of each field.
      dense: the dense columns, if there are any.
      deterministic: no dropout, running statistics of batch norm.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      "logit" -> one an example; "hidden" -> what its output layer reads.
    """
    rows, dense = model_inputs(embeddings, dense, self.groups)
    vectors = FieldVectors(name="vectors")(rows["embedding"], dense)
    top = CIN(self.cin_layers, self.cin_activation, self.cin_bias, name="cin")(
      vectors
    )
    if self.hidden:
      hidden = MLP(
        self.hidden,
        self.activation,
        self.dropout_rate,
        self.batch_norm,
        name="mlp",
      )(flatten_fields(vectors), deterministic=deterministic, where=where)
      top = jnp.concatenate([top, hidden], axis=1)
    deep = nn.Dense(
      1,
      use_bias=False,
      kernel_init=nn.initializers.glorot_normal(),
      name="output",
    )(top)
    linear = LinearTerms(name="linear")(rows["linear"], dense)
    hidden = jnp.concatenate([linear[:, None], top], axis=1)
    return {"logit": linear + deep[:, 0], "hidden": hidden}
