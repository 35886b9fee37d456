"""DeepFM: a factorization machine and a perceptron over the same vectors.

Huifeng Guo, Ruiming Tang, Yunming Ye, Zhenguo Li, Xiuqiang He: DeepFM: A
Factorization-Machine based Neural Network for CTR Prediction, IJCAI 2017,
https://arxiv.org/abs/1703.04247

  logit = b + sum_i w_i + sum_j u_j x_j + sum_{i<j} <e_i, e_j> + w^T a_L
  a_0 = [e_1, ..., e_n],  a_{l+1} = relu(W_l a_l + b_l)

w_i are the rows of the group "linear", e_i those of "embedding"; a dense
column x_j adds the vector x_j v_j.

Deviations from the paper: none. Batch norm and dropout are options; by
default the layers are those of BARS, which are the paper's as well.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.fields import (
  FieldVectors,
  LinearTerms,
  flatten_fields,
  model_inputs,
)
from recjax.layers.interactions import fm_interaction
from recjax.layers.mlp import MLP, check_mlp_settings


class DeepFM(nn.Module):
  """A factorization machine plus a perceptron.

  Attributes:
    dim: width of the vectors of fields.
    hidden: widths of the deep part.
    activation: of the deep part.
    dropout_rate: behind each activation.
    batch_norm: normalize before each activation.
  """

  dim: int = 10
  hidden: tuple[int, ...] = (400, 400, 400)
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    check_range("DeepFM.dim", self.dim, 1, integer=True)
    check_mlp_settings(
      "DeepFM", self.hidden, self.activation, self.dropout_rate
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
    hidden = MLP(
      self.hidden,
      self.activation,
      self.dropout_rate,
      self.batch_norm,
      name="mlp",
    )(flatten_fields(vectors), deterministic=deterministic, where=where)
    deep = nn.Dense(
      1,
      use_bias=False,
      kernel_init=nn.initializers.glorot_normal(),
      name="output",
    )(hidden)
    linear = LinearTerms(name="linear")(rows["linear"], dense)
    pairs = fm_interaction(vectors)
    top = jnp.concatenate([linear[:, None], pairs[:, None], hidden], axis=1)
    return {"logit": linear + pairs + deep[:, 0], "hidden": top}
