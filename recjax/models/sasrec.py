"""SASRec: self-attentive sequential recommendation.

Wang-Cheng Kang, Julian McAuley: Self-Attentive Sequential Recommendation,
ICDM 2018, https://arxiv.org/abs/1808.09781

x_i = sqrt(d) * E[s_i] + P[i];  then B times, with norm="paper",

  q = LN(x);  h = q + Attention(q W_Q, x W_K, x W_V)
  f = LN(h);  x = f + W_2 Dropout(relu(W_1 f + b_1)) + b_2

and at last x = LN(x). The score of item j after position i is <x_i, E[j]>.

The odd thing, which the official code does and the paper's text does not
say: keys and values are *not* normalized, and both residual connections add
the *normalized* input. norm="pre" is the usual pre-norm transformer instead,
x = x + Attention(LN(x), LN(x), LN(x)) and x = x + FFN(LN(x)).

For ablations, norm="none" leaves out the normalizations, `residual` the
connections around attention and feed-forward, `position_embedding` P.

Deviations from the paper: none with the defaults. `output_projection` adds
the linear map behind the attention that PyTorch's MultiheadAttention has and
the official code has not; Klenitskiy and Vasilev (RecSys 2023) use it, with
kernels drawn from N(0, 0.02^2).
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from recjax.errors import ConfigError, check_choice, check_range
from recjax.layers.attention import causal_attention
from recjax.layers.dropout import Dropout
from recjax.types import ITEM


class SASRec(nn.Module):
  """Turns rows of the item table into one hidden state a position.

  Attributes:
    dim: width of embeddings and hidden states.
    num_blocks: how many times attention and feed-forward are applied.
    num_heads: attention heads; must divide `dim`.
    max_len: longest sequence; the position table has so many rows.
    dropout_rate: of embeddings, attention weights and feed-forward.
    norm: "paper", "pre" or "none", see the module's docstring.
    residual: whether attention and feed-forward are added to their input.
    position_embedding: whether places are told by a table of positions.
    output_projection: a linear map behind the attention.
    initializer: "glorot_uniform" (official code) or "normal".
    init_stddev: standard deviation of "normal".
    compute_dtype: "float32" or "bfloat16"; parameters stay float32.
    query_block: queries attended at a time; a matter of speed alone.
  """

  dim: int = 50
  num_blocks: int = 2
  num_heads: int = 1
  max_len: int = 200
  dropout_rate: float = 0.2
  norm: str = "paper"
  residual: bool = True
  position_embedding: bool = True
  output_projection: bool = False
  initializer: str = "glorot_uniform"
  init_stddev: float = 0.02
  compute_dtype: str = "float32"
  query_block: int = 50

  def __post_init__(self):
    super().__post_init__()
    for name in ("dim", "num_blocks", "num_heads", "max_len", "query_block"):
      check_range(f"SASRec.{name}", getattr(self, name), 1, integer=True)
    check_range("SASRec.dropout_rate", self.dropout_rate, 0.0, 0.99)
    check_choice("SASRec.norm", self.norm, ("paper", "pre", "none"))
    check_choice(
      "SASRec.initializer", self.initializer, ("glorot_uniform", "normal")
    )
    check_choice(
      "SASRec.compute_dtype", self.compute_dtype, ("float32", "bfloat16")
    )
    if self.dim % self.num_heads:
      heads = [n for n in range(1, self.dim + 1) if self.dim % n == 0]
      raise ConfigError(
        f"SASRec.num_heads must divide dim={self.dim}, so be one of"
        f" {', '.join(map(str, heads))}; got {self.num_heads}."
      )

  @nn.compact
  def __call__(
    self,
    embeddings: Mapping[str, Float[Array, "batch len dim"]],
    position: Int[Array, "batch len"],
    segment_id: Int[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> dict[str, Float[Array, "batch len dim"]]:
    """Encodes packed sequences.

    Args:
      embeddings: "item_id" -> rows of the item table.
      position: row of the position table at each place.
      segment_id: sequence of each place; 0 on padding.
      deterministic: switches dropout off; otherwise the key "dropout" is
        needed.

    Returns:
      "hidden" -> the state after each place; it knows nothing of later ones.
    """
    dtype = jnp.dtype(self.compute_dtype)
    drop = lambda x: Dropout(self.dropout_rate)(x, deterministic=deterministic)
    x = embeddings[ITEM] * self.dim**0.5
    if self.position_embedding:
      positions = self.param(
        "position_embedding", self._kernel_init(), (self.max_len, self.dim)
      )
      x = x + jnp.take(positions, position, axis=0, mode="clip")
    valid = (segment_id > 0)[..., None]
    x = jnp.where(valid, drop(x).astype(dtype), 0)
    for block in range(self.num_blocks):
      x = self._attend(x, segment_id, block, deterministic)
      x = self._feed_forward(x, block, drop)
    return {"hidden": self._norm("last_norm")(x).astype(jnp.float32)}

  def _attend(
    self,
    x: Float[Array, "batch len dim"],
    segment_id: Int[Array, "batch len"],
    block: int,
    deterministic: bool,
  ) -> Float[Array, "batch len dim"]:
    normed = self._norm(f"attention_norm_{block}")(x)
    source = x if self.norm == "paper" else normed
    heads = (*x.shape[:2], self.num_heads, self.dim // self.num_heads)
    dense = lambda name, y: self._dense(f"{name}_{block}")(y)
    key = None if deterministic else self.make_rng("dropout")
    out = causal_attention(
      dense("query", normed).reshape(heads),
      dense("key", source).reshape(heads),
      dense("value", source).reshape(heads),
      segment_id,
      dropout_rate=self.dropout_rate,
      dropout_key=key,
      query_block=self.query_block,
    ).reshape(x.shape)
    if self.output_projection:
      out = dense("output", out)
    return self._connected(out, x, normed)

  def _feed_forward(
    self, x: Float[Array, "batch len dim"], block: int, drop
  ) -> Float[Array, "batch len dim"]:
    normed = self._norm(f"feed_forward_norm_{block}")(x)
    hidden = drop(jax.nn.relu(self._dense(f"inner_{block}")(normed)))
    out = drop(self._dense(f"outer_{block}")(hidden))
    return self._connected(out, x, normed)

  def _connected(
    self,
    out: Float[Array, "batch len dim"],
    x: Float[Array, "batch len dim"],
    normed: Float[Array, "batch len dim"],
  ) -> Float[Array, "batch len dim"]:
    """The output of a layer with the residual connection around it."""
    if not self.residual:
      return out
    return out + (normed if self.norm == "paper" else x)

  def _kernel_init(self):
    if self.initializer == "normal":
      return nn.initializers.normal(self.init_stddev)
    return nn.initializers.glorot_uniform()

  def _dense(self, name: str) -> nn.Dense:
    return nn.Dense(
      self.dim,
      kernel_init=self._kernel_init(),
      dtype=jnp.dtype(self.compute_dtype),
      name=name,
    )

  def _norm(self, name: str) -> Callable[[Array], Array]:
    if self.norm == "none":
      return lambda x: x
    # The two-pass variance: E[x^2] - E[x]^2 loses what 1e-8 protects.
    return nn.LayerNorm(
      epsilon=1e-8,
      use_fast_variance=False,
      dtype=jnp.dtype(self.compute_dtype),
      name=name,
    )
