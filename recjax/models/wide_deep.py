"""Wide & Deep: a linear model beside a perceptron.

Heng-Tze Cheng, Levent Koc, Jeremiah Harmsen, Tal Shaked, Tushar Chandra, et
al.: Wide & Deep Learning for Recommender Systems, DLRS 2016,
https://arxiv.org/abs/1606.07792

  logit = b + sum_i w_i + sum_j u_j x_j + w_deep^T a_L
  a_0 = [e_1, ..., e_n, x],  a_{l+1} = relu(W_l a_l + b_l)

The wide part sums the rows of the group "linear": one for each field and one
for each declared cross of fields, so this group may have more fields than
"embedding", whose rows feed the deep part.

Deviations from the paper: which optimizer trains which part (FTRL with L1 the
wide one, Adagrad the deep one) is a matter of the run. Batch norm and dropout
are options; by default the layers are those of BARS, not of the paper.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.fields import LinearTerms, flatten_fields, model_inputs
from recjax.layers.mlp import MLP, check_mlp_settings


class WideDeep(nn.Module):
  """Linear terms with declared crosses, and a perceptron.

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
    check_range("WideDeep.dim", self.dim, 1, integer=True)
    check_mlp_settings(
      "WideDeep", self.hidden, self.activation, self.dropout_rate
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
      embeddings: "linear" -> the weight of each field and cross,
         "embedding" -> the vector of each field.
      dense: the dense columns, if there are any.
      deterministic: no dropout, running statistics of batch norm.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      "logit" -> one an example; "hidden" -> what its output layer reads.
    """
    rows, dense = model_inputs(embeddings, dense, self.groups)
    hidden = MLP(
      self.hidden,
      self.activation,
      self.dropout_rate,
      self.batch_norm,
      name="mlp",
    )(
      flatten_fields(rows["embedding"], dense),
      deterministic=deterministic,
      where=where,
    )
    deep = nn.Dense(
      1,
      use_bias=False,
      kernel_init=nn.initializers.glorot_normal(),
      name="output",
    )(hidden)
    wide = LinearTerms(name="linear")(rows["linear"], dense)
    top = jnp.concatenate([wide[:, None], hidden], axis=1)
    return {"logit": wide + deep[:, 0], "hidden": top}
