"""FM: factorization machine of degree two.

Steffen Rendle: Factorization Machines, ICDM 2010,
https://doi.org/10.1109/ICDM.2010.127

  logit = b + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j

Of the columns of a field, one has x = 1 and the others 0; what is left are
the field's rows w_i (group "linear") and v_i (group "embedding"). Dense
columns keep their x.

Deviations from the paper: none.
"""

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.fields import FieldVectors, LinearTerms, model_inputs
from recjax.layers.interactions import fm_interaction


class FM(nn.Module):
  """Linear terms and the inner products of all pairs.

  Attributes:
    dim: width of the vectors v.
  """

  dim: int = 10

  def __post_init__(self):
    super().__post_init__()
    check_range("FM.dim", self.dim, 1, integer=True)

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
  ) -> dict[str, Float[Array, " batch"]]:
    """Scores a batch.

    Args:
      embeddings: "linear" -> w and "embedding" -> v of each field.
      dense: the dense columns, if there are any.
      deterministic: changes nothing here.
      where: changes nothing here.

    Returns:
      "logit" -> one an example.
    """
    del deterministic, where
    rows, dense = model_inputs(embeddings, dense, self.groups)
    vectors = FieldVectors(name="vectors")(rows["embedding"], dense)
    linear = LinearTerms(name="linear")(rows["linear"], dense)
    return {"logit": linear + fm_interaction(vectors)}
