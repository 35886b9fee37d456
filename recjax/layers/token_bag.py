"""Text as a bag of tokens with a small trainable encoder.

  mean       v = W (1 / n) sum_i x_i + b
  attention  v = W sum_i a_i x_i + b,  a = softmax_i(<q, tanh(U x_i + c)>)

x_i are the embeddings of the tokens, in any order. The mean is fastText's,
Joulin, Grave, Bojanowski, Mikolov: Bag of Tricks for Efficient Text
Classification, EACL 2017, https://arxiv.org/abs/1607.01759; the attention is
that over words of Yang et al.: Hierarchical Attention Networks for Document
Classification, NAACL 2016, https://aclanthology.org/N16-1174

Deviations from the papers: attention has no recurrent network below it.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_choice, check_range
from recjax.layers.dropout import Dropout
from recjax.layers.histories import (
  MeanHistory,
  dense_rows,
  masked_softmax,
  valid_rows,
)

POOLINGS = ("mean", "attention")


class TokenBag(nn.Module):
  """Pools the tokens of a text and maps the result.

  Attributes:
    dim: width of the vector.
    pooling: one of POOLINGS.
    dropout_rate: of the pooled vector.
  """

  dim: int = 32
  pooling: str = "mean"
  dropout_rate: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    check_range("TokenBag.dim", self.dim, 1, integer=True)
    check_choice("TokenBag.pooling", self.pooling, POOLINGS)
    check_range("TokenBag.dropout_rate", self.dropout_rate, 0.0, 0.99)

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch out_dim"]:
    """Encodes the texts.

    Args:
      tokens: embeddings of the tokens.
      where: which places hold a token; they may stand anywhere.
      deterministic: switches dropout off; otherwise the key "dropout" is
        needed.

    Returns:
      One vector a text; zeros if it has no token.
    """
    if self.pooling == "mean":
      pooled = MeanHistory()(tokens, where)
    else:
      rows = valid_rows(tokens, where)
      hidden = jnp.tanh(dense_rows(rows, self.dim, name="hidden"))
      logits = dense_rows(hidden, 1, name="query", use_bias=False)[..., 0]
      weights = masked_softmax(logits, where)
      pooled = jnp.einsum("bl,bld->bd", weights, rows)
    pooled = Dropout(self.dropout_rate)(pooled, deterministic=deterministic)
    out = nn.Dense(self.dim, name="output")(pooled)
    return jnp.where(jnp.any(where, axis=1, keepdims=True), out, 0.0)
