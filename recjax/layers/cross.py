"""Cross networks: explicit products of features, one degree more a layer.

v1, Wang, Fu, Fu, Wang: Deep & Cross Network for Ad Click Predictions,
ADKDD 2017, https://arxiv.org/abs/1708.05123

  x_{l+1} = x_0 (w_l . x_l) + b_l + x_l

v2, Wang, Shivanna, Cheng, Jain, Lin, Hong, Chi: DCN V2, WWW 2021,
https://arxiv.org/abs/2008.13535

  full      x_{l+1} = x_0 * (W_l x_l + b_l) + x_l
  low_rank  x_{l+1} = x_0 * (U_l V_l^T x_l + b_l) + x_l
  mixture   x_{l+1} = sum_e G_e(x_l) E_e(x_l) + x_l
            E_e(x) = x_0 * (U_e g(C_e g(V_e^T x)) + b_l)

where * is taken element by element. W is drawn from Glorot's normal
distribution, as are w, and U, V and C of each expert; biases start at 0.

Deviations from the papers: none. FuxiCTR and DeepCTR share the gates of a
mixture between all layers; here, as in the paper, each layer has its own.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from recjax.errors import check_choice, check_range
from recjax.layers.mlp import ACTIVATIONS

KINDS = ("full", "low_rank", "mixture")
GATES = ("softmax", "sigmoid")
_GLOROT = nn.initializers.glorot_normal()
_GLOROT_EACH_EXPERT = nn.initializers.glorot_normal(batch_axis=(0,))


class CrossNetwork(nn.Module):
  """The cross network of DCN: one vector of weights a layer.

  Attributes:
    num_layers: layers; the output has products of up to one more features.
  """

  num_layers: int = 3

  def __post_init__(self):
    super().__post_init__()
    check_range("CrossNetwork.num_layers", self.num_layers, 1, integer=True)

  @nn.compact
  def __call__(self, x: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
    """Applies the layers to x_0 = x."""
    first, dim = x, x.shape[1]
    for layer in range(self.num_layers):
      weight = self.param(f"weight_{layer}", _GLOROT, (dim, 1))
      bias = self.param(f"bias_{layer}", nn.initializers.zeros, (dim,))
      x = first * (x @ weight) + bias[None] + x
    return x


class CrossNetworkV2(nn.Module):
  """The cross network of DCN-V2: a matrix a layer, whole or factorized.

  Attributes:
    num_layers: layers; the output has products of up to one more features.
    kind: "full", "low_rank" or "mixture".
    rank: width of the low-rank maps.
    num_experts: low-rank maps of a mixture.
    gate: "softmax" over the experts, or a "sigmoid" for each.
    expert_activation: g, one of recjax.layers.mlp.ACTIVATIONS.
  """

  num_layers: int = 3
  kind: str = "full"
  rank: int = 32
  num_experts: int = 4
  gate: str = "softmax"
  expert_activation: str = "tanh"

  def __post_init__(self):
    super().__post_init__()
    for name in ("num_layers", "rank", "num_experts"):
      check_range(
        f"CrossNetworkV2.{name}", getattr(self, name), 1, integer=True
      )
    check_choice("CrossNetworkV2.kind", self.kind, KINDS)
    check_choice("CrossNetworkV2.gate", self.gate, GATES)
    check_choice(
      "CrossNetworkV2.expert_activation", self.expert_activation, ACTIVATIONS
    )

  @nn.compact
  def __call__(self, x: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
    """Applies the layers to x_0 = x."""
    first, dim = x, x.shape[1]
    for layer in range(self.num_layers):
      if self.kind == "full":
        mapped = nn.Dense(dim, kernel_init=_GLOROT, name=f"full_{layer}")(x)
      elif self.kind == "low_rank":
        inner = nn.Dense(
          self.rank, use_bias=False, kernel_init=_GLOROT, name=f"v_{layer}"
        )(x)
        mapped = nn.Dense(dim, kernel_init=_GLOROT, name=f"u_{layer}")(inner)
      else:
        mapped = self._mixture(x, layer)
      x = first * mapped + x
    return x

  def _mixture(
    self, x: Float[Array, "batch dim"], layer: int
  ) -> Float[Array, "batch dim"]:
    """sum_e G_e (U_e g(C_e g(V_e^T x)) + b); no expert's output is stored."""
    activation = ACTIVATIONS[self.expert_activation]
    dim, rank, experts = x.shape[1], self.rank, self.num_experts
    weights = lambda name, shape: self.param(
      f"{name}_{layer}", _GLOROT_EACH_EXPERT, (experts, *shape)
    )
    logits = nn.Dense(
      experts, use_bias=False, kernel_init=_GLOROT, name=f"gate_{layer}"
    )(x)
    gates = (
      jax.nn.softmax(logits)
      if self.gate == "softmax"
      else jax.nn.sigmoid(logits)
    )
    inner = activation(jnp.einsum("bd,edr->ber", x, weights("v", (dim, rank))))
    inner = activation(
      jnp.einsum("ber,ers->bes", inner, weights("c", (rank, rank)))
    )
    inner = inner * gates[:, :, None]
    bias = self.param(f"bias_{layer}", nn.initializers.zeros, (dim,))
    mapped = jnp.einsum("ber,erd->bd", inner, weights("u", (rank, dim)))
    return mapped + jnp.sum(gates, axis=1, keepdims=True) * bias[None]
