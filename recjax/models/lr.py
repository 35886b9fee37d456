"""LR: logistic regression over fields.

Matthew Richardson, Ewa Dominowska, Robert Ragno: Predicting Clicks:
Estimating the Click-Through Rate for New Ads, WWW 2007,
https://doi.org/10.1145/1242572.1242643

  logit = b + sum_i w_i + sum_j u_j x_j

where w_i is the weight of the value that field i has, and x_j are the dense
columns. The weights w are the tables of the group "linear", of width 1.

Deviations from the paper: none; its features are columns here, and its
normalization of dense columns belongs to the data.
"""

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from recjax.layers.fields import LinearTerms, model_inputs


class LR(nn.Module):
  """A weight for each value of each field, and for each dense column."""

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    return {"linear": 1}

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
      embeddings: "linear" -> the weight of each field.
      dense: the dense columns, if there are any.
      deterministic: changes nothing here.
      where: changes nothing here.

    Returns:
      "logit" -> one an example.
    """
    del deterministic, where
    rows, dense = model_inputs(embeddings, dense, self.groups)
    return {"logit": LinearTerms(name="linear")(rows["linear"], dense)}
