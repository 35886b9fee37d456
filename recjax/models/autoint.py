"""AutoInt: self-attention over the fields of an example.

Weiping Song, Chence Shi, Zhiping Xiao, Zhijian Duan, Yewen Xu, Ming Zhang,
Jian Tang: AutoInt: Automatic Feature Interaction Learning via Self-Attentive
Neural Networks, CIKM 2019, https://arxiv.org/abs/1810.11921

For each head h, with the vectors e_m of the fields as input of the first layer

  a_mk = softmax_k(<W_Q e_m, W_K e_k>),  o_m = sum_k a_mk W_V e_k
  e'_m = relu([o_m of all heads] + W_Res e_m)

and at last logit = w^T [e_1, ..., e_n] + b. A dense column x_j is a field with
the vector x_j v_j. AutoInt+ adds w'^T MLP([e_1, ..., e_n]) (`hidden`);
`linear_terms` adds sum_i w_i + sum_j u_j x_j, as BARS may.

Deviations from the paper: none with the defaults. The authors' code goes
further than the paper: a relu on queries, keys, values and residuals, scaled
products, layer norm at last. Here `scale` divides the products by the root of
the head's width; as in FuxiCTR, `layer_norm` normalizes before the last relu
and residual="identity" adds e_m itself where its width allows.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_choice, check_range
from recjax.layers.dropout import Dropout
from recjax.layers.fields import (
  FieldVectors,
  LinearTerms,
  flatten_fields,
  model_inputs,
)
from recjax.layers.mlp import MLP, check_mlp_settings

RESIDUALS = ("linear", "identity", "none")


class FieldAttention(nn.Module):
  """One interacting layer: every field attends to every field.

  Attributes:
    num_heads: attention heads.
    head_dim: width of a head; the output has num_heads * head_dim.
    residual: "linear", "identity" (linear where widths differ) or "none".
    scale: divide the products by sqrt(head_dim).
    layer_norm: normalize before the activation.
    dropout_rate: of the attention weights.
  """

  num_heads: int
  head_dim: int
  residual: str
  scale: bool
  layer_norm: bool
  dropout_rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch field dim"], *, deterministic: bool
  ) -> Float[Array, "batch field out_dim"]:
    """Applies the layer."""
    width = self.num_heads * self.head_dim
    linear = lambda name: nn.Dense(
      width,
      use_bias=False,
      kernel_init=nn.initializers.glorot_normal(),
      name=name,
    )(x)
    heads = lambda y: y.reshape(*y.shape[:2], self.num_heads, self.head_dim)
    query, key = heads(linear("query")), heads(linear("key"))
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key)
    if self.scale:
      logits *= self.head_dim**-0.5
    weights = Dropout(self.dropout_rate)(
      jax.nn.softmax(logits), deterministic=deterministic
    )
    out = jnp.einsum("bhqk,bkhd->bqhd", weights, heads(linear("value")))
    out = out.reshape(*out.shape[:2], width)
    if self.residual == "identity" and x.shape[2] == width:
      out += x
    elif self.residual != "none":
      out += linear("residual_map")
    if self.layer_norm:
      out = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="norm")(
        out
      )
    return jax.nn.relu(out)


class AutoInt(nn.Module):
  """Self-attention over fields; with `hidden` it is AutoInt+.

  Attributes:
    dim: width of the vectors of fields.
    num_layers: interacting layers.
    num_heads: attention heads of each.
    head_dim: width of a head.
    residual: "linear" (the paper), "identity" where widths agree, or "none".
    scale: divide the products by sqrt(head_dim).
    layer_norm: normalize before the activation of each interacting layer.
    attention_dropout_rate: of the attention weights.
    hidden: widths of the deep part; () leaves it out.
    linear_terms: linear terms, with the table group "linear".
    activation: of the deep part.
    dropout_rate: behind each activation of the deep part.
    batch_norm: normalize before each activation of the deep part.
  """

  dim: int = 16
  num_layers: int = 3
  num_heads: int = 2
  head_dim: int = 32
  residual: str = "linear"
  scale: bool = False
  layer_norm: bool = False
  attention_dropout_rate: float = 0.0
  hidden: tuple[int, ...] = ()
  linear_terms: bool = False
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    for name in ("dim", "num_layers", "num_heads", "head_dim"):
      check_range(f"AutoInt.{name}", getattr(self, name), 1, integer=True)
    check_choice("AutoInt.residual", self.residual, RESIDUALS)
    check_range(
      "AutoInt.attention_dropout_rate", self.attention_dropout_rate, 0.0, 0.99
    )
    check_mlp_settings(
      "AutoInt",
      self.hidden,
      self.activation,
      self.dropout_rate,
      min_layers=0,
    )

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    wide = {"linear": 1} if self.linear_terms else {}
    return {**wide, "embedding": self.dim}

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
      embeddings: "embedding" -> e of each field and, with `linear_terms`,
        "linear" -> w of each field.
      dense: the dense columns, if there are any.
      deterministic: no dropout, running statistics of batch norm.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      "logit" -> one an example.
    """
    rows, dense = model_inputs(embeddings, dense, self.groups)
    vectors = FieldVectors(name="vectors")(rows["embedding"], dense)
    x = vectors
    for layer in range(self.num_layers):
      x = FieldAttention(
        self.num_heads,
        self.head_dim,
        self.residual,
        self.scale,
        self.layer_norm,
        self.attention_dropout_rate,
        name=f"attention_{layer}",
      )(x, deterministic=deterministic)
    top = flatten_fields(x)
    if self.hidden:
      hidden = MLP(
        self.hidden,
        self.activation,
        self.dropout_rate,
        self.batch_norm,
        name="mlp",
      )(flatten_fields(vectors), deterministic=deterministic, where=where)
      top = jnp.concatenate([top, hidden], axis=1)
    logit = nn.Dense(
      1,
      use_bias=not self.linear_terms,
      kernel_init=nn.initializers.glorot_normal(),
      name="output",
    )(top)[:, 0]
    if self.linear_terms:
      logit += LinearTerms(name="linear")(rows["linear"], dense)
    return {"logit": logit}
