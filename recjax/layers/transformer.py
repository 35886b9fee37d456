"""A causal transformer over histories.

Vaswani et al.: Attention Is All You Need, NeurIPS 2017,
https://arxiv.org/abs/1706.03762; layer normalization before each part as in
Xiong et al.: On Layer Normalization in the Transformer Architecture, ICML
2020, https://arxiv.org/abs/2002.04745

  x_i = W e_i + p_{age(i)}
  h = x + Attention(LN(x));  x = h + W_2 relu(W_1 LN(h) + b_1) + b_2
  v = LN(x) at the newest item

where age(i) counts the items that follow i, so that the newest item has
position 0 however long the history is.

The last layer forms keys and values of all items but the rest for the newest
alone: nobody reads its other states.

Deviations from the papers: positions are learned and counted from the end.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_range
from recjax.layers.attention import causal_attention
from recjax.layers.dropout import Dropout
from recjax.layers.histories import (
  ages,
  dense_rows,
  last_state,
  masked_softmax,
  valid_rows,
)


class TransformerHistory(nn.Module):
  """The state of a causal transformer at the newest item.

  Where items have another width than `dim`, a linear map stands before.

  Attributes:
    dim: width of the states.
    num_layers: attention and feed-forward, so many times.
    num_heads: attention heads; must divide `dim`.
    ffn_dim: width within the feed-forward part.
    max_len: longest history; the position table has so many rows.
    dropout_rate: of the inputs, attention weights and both parts.
  """

  dim: int = 64
  num_layers: int = 2
  num_heads: int = 2
  ffn_dim: int = 256
  max_len: int = 200
  dropout_rate: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    for name in ("dim", "num_layers", "num_heads", "ffn_dim", "max_len"):
      check_range(
        f"TransformerHistory.{name}", getattr(self, name), 1, integer=True
      )
    check_range("TransformerHistory.dropout_rate", self.dropout_rate, 0.0, 0.99)
    if self.dim % self.num_heads:
      heads = [n for n in range(1, self.dim + 1) if self.dim % n == 0]
      raise ConfigError(
        f"TransformerHistory.num_heads must divide dim={self.dim}, so be one of"
        f" {', '.join(map(str, heads))}; got {self.num_heads}."
      )

  @nn.compact
  def __call__(
    self,
    history: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch out_dim"]:
    """Encodes the histories.

    Args:
      history: left-aligned, oldest first.
      where: which places hold an item.
      deterministic: switches dropout off; otherwise the key "dropout" is
        needed.

    Returns:
      The state at the newest item; zeros if there is none.

    Raises:
      ConfigError: the histories have more than `max_len` places.
    """
    if history.shape[1] > self.max_len:
      raise ConfigError(
        "TransformerHistory.max_len must be at least the places of a history,"
        f" {history.shape[1]}; got {self.max_len}."
      )
    positions = self.param(
      "position_embedding",
      nn.initializers.normal(0.02),
      (self.max_len, self.dim),
    )
    x = valid_rows(history, where)
    if x.shape[2] != self.dim:
      x = dense_rows(x, self.dim, name="input", use_bias=False)
    x = x + jnp.take(positions, ages(where), axis=0, mode="clip")
    x = Dropout(self.dropout_rate)(x, deterministic=deterministic)
    for layer in range(self.num_layers):
      x = self._attend(x, where, layer, deterministic)
      x = self._feed_forward(x, layer, deterministic)
    state = self._norm("last_norm")(x)[:, 0]
    return jnp.where(jnp.any(where, axis=1, keepdims=True), state, 0.0)

  def _attend(
    self,
    x: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    layer: int,
    deterministic: bool,
  ) -> Float[Array, "batch queries dim"]:
    """Adds Attention(LN(x)); in the last layer to the newest item alone."""
    source = self._norm(f"attention_norm_{layer}")(x)
    asked = source
    last = layer == self.num_layers - 1
    if last:
      asked = last_state(source, where)[:, None]
      x = last_state(x, where)[:, None]
    split = lambda name, y: dense_rows(
      y, self.dim, name=f"{name}_{layer}"
    ).reshape(*y.shape[:2], self.num_heads, -1)
    query = split("query", asked)
    key, value = split("key", source), split("value", source)
    if last:
      logits = jnp.einsum("bqhd,bkhd->bhqk", query, key)
      weights = masked_softmax(
        logits * (self.dim // self.num_heads) ** -0.5,
        jnp.broadcast_to(where[:, None, None], logits.shape),
      )
      weights = Dropout(self.dropout_rate)(weights, deterministic=deterministic)
      out = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    else:
      drops = not deterministic and self.dropout_rate > 0.0
      out = causal_attention(
        query,
        key,
        value,
        where.astype(jnp.int32),
        dropout_rate=self.dropout_rate,
        dropout_key=self.make_rng("dropout") if drops else None,
      )
    out = dense_rows(out.reshape(x.shape), self.dim, name=f"output_{layer}")
    return x + Dropout(self.dropout_rate)(out, deterministic=deterministic)

  def _feed_forward(
    self, x: Float[Array, "batch len dim"], layer: int, deterministic: bool
  ) -> Float[Array, "batch len dim"]:
    drop = lambda y: Dropout(self.dropout_rate)(y, deterministic=deterministic)
    normed = self._norm(f"feed_forward_norm_{layer}")(x)
    inner = dense_rows(normed, self.ffn_dim, name=f"inner_{layer}")
    inner = drop(jax.nn.relu(inner))
    return x + drop(dense_rows(inner, self.dim, name=f"outer_{layer}"))

  def _norm(self, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(use_fast_variance=False, name=name)
