"""GMF: generalized matrix factorization.

Xiangnan He, Lizi Liao, Hanwang Zhang, Liqiang Nie, Xia Hu, Tat-Seng Chua:
Neural Collaborative Filtering, WWW 2017, https://arxiv.org/abs/1708.05031

  logit = h^T (p_u * q_i) + b

The tables of the group "gmf" hold p (field 0) and q (field 1); they start at
N(0, 0.01^2), which is a matter of the tables.

Deviations from the paper: the bias b, and h drawn from LeCun's uniform
distribution instead of N(0, 0.01^2); both as in the authors' code.
"""

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.fields import model_inputs, refuse_dense


class GMF(nn.Module):
  """A weighted inner product of a user's and an item's vector.

  Attributes:
    dim: width of the vectors, "predictive factors" in the paper.
  """

  dim: int = 8

  def __post_init__(self):
    super().__post_init__()
    check_range("GMF.dim", self.dim, 1, integer=True)

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    return {"gmf": self.dim}

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
      embeddings: "gmf" -> the rows of user and item, in this order.
      dense: must be None: the model knows users and items alone.
      deterministic: changes nothing here.
      where: changes nothing here.

    Returns:
      "logit" -> one an example; "hidden" -> what its output layer reads.
    """
    del deterministic, where
    refuse_dense("GMF", dense)
    rows, _ = model_inputs(embeddings, None, self.groups, num_fields=2)
    product = rows["gmf"][:, 0] * rows["gmf"][:, 1]
    logit = nn.Dense(
      1, kernel_init=nn.initializers.lecun_uniform(), name="prediction"
    )(product)
    return {"logit": logit[:, 0], "hidden": product}
