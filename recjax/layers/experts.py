"""Experts side by side, and mixtures of them.

Jacobs, Jordan, Nowlan, Hinton: Adaptive Mixtures of Local Experts, 1991,
https://doi.org/10.1162/neco.1991.3.1.79; Shazeer et al.: Outrageously Large
Neural Networks, ICLR 2017, https://arxiv.org/abs/1701.06538; Ma et al.:
Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts, KDD 2018, https://doi.org/10.1145/3219819.3220007

  y = sum_e g_e(x) f_e(x),   g(x) = softmax(W_g x)

where each expert f_e is the hidden part of an MLP. With top_k the gate is
softmax over the k largest logits alone and 0 for all other experts.

All experts are formed for every row, one product for their first layer and one
for each expert in the next (a batched product costs a fifth more on a CPU, for
it brings its operands into another order). For the few small experts of a tower
that is faster than sending rows to experts, and top_k is a matter of the model
and not of speed.

Deviations from the papers: Shazeer's noise in the gate and the losses that
balance its load are left out, for no expert has a capacity here.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from recjax.errors import check_choice, check_range
from recjax.layers.dropout import Dropout
from recjax.layers.mlp import (
  ACTIVATIONS,
  BATCH_NORM_EPSILON,
  BATCH_NORM_MOMENTUM,
  INITIALIZERS,
  check_layer_sizes,
  check_mlp_settings,
)


def each_by_itself(init: Callable[..., Array]) -> Callable[..., Array]:
  """An initializer of [expert, ...] that draws each expert as if alone."""

  def draw(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    keys = jax.random.split(key, shape[0])
    return jax.vmap(lambda k: init(k, shape[1:]))(keys)

  return draw


class Experts(nn.Module):
  """The hidden parts of several MLPs of one shape, all at once.

  Attributes:
    hidden: widths of the layers of an expert.
    num_experts: experts.
    activation: one of ACTIVATIONS.
    dropout_rate: behind each activation.
    batch_norm: normalize before each activation, each expert by itself.
    kernel_init: one of INITIALIZERS, of each expert by itself; biases start at
      0.
  """

  hidden: tuple[int, ...]
  num_experts: int
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False
  kernel_init: str = "glorot_normal"

  def __post_init__(self):
    super().__post_init__()
    check_layer_sizes("Experts.hidden", self.hidden)
    check_choice("Experts.activation", self.activation, ACTIVATIONS)
    check_choice("Experts.kernel_init", self.kernel_init, INITIALIZERS)
    check_range("Experts.dropout_rate", self.dropout_rate, 0.0, 0.99)
    check_range("Experts.num_experts", self.num_experts, 1, integer=True)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch *expert dim"],
    *,
    deterministic: bool,
    where: Bool[Array, " batch"] | None = None,
  ) -> Float[Array, "batch experts hidden_dim"]:
    """Applies the layers of all experts.

    Args:
      x: one input for all experts, [batch, dim], or one for each.
      deterministic: no dropout, and batch norm by its running statistics;
        otherwise the key "dropout" is needed and "batch_stats" is mutable.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      The last hidden layer of each expert.
    """
    for number, size in enumerate(self.hidden):
      x = self._linear(x, size, number)
      if self.batch_norm:
        x = self._normalized(x, number, deterministic, where)
      x = ACTIVATIONS[self.activation](x)
      x = Dropout(self.dropout_rate)(x, deterministic=deterministic)
    return x

  def _linear(
    self, x: Float[Array, "batch *expert dim"], size: int, number: int
  ) -> Float[Array, "batch experts size"]:
    """W_e x_e + b_e of all experts."""
    num = self.num_experts
    kernel = self.param(
      f"kernel_{number}",
      each_by_itself(INITIALIZERS[self.kernel_init]),
      (num, x.shape[-1], size),
    )
    bias = self.param(f"bias_{number}", nn.initializers.zeros, (num, size))
    if x.ndim == 2:  # One wide product for all experts.
      wide = kernel.transpose(1, 0, 2).reshape(x.shape[-1], num * size)
      out = (x @ wide).reshape(-1, num, size)
    else:  # A batched product would move the axis of experts to the front.
      out = jnp.stack([x[:, e] @ kernel[e] for e in range(num)], axis=1)
    return out + bias[None]

  def _normalized(
    self,
    x: Float[Array, "batch expert size"],
    number: int,
    deterministic: bool,
    where: Bool[Array, " batch"] | None,
  ) -> Float[Array, "batch expert size"]:
    norm = nn.BatchNorm(
      momentum=BATCH_NORM_MOMENTUM,
      epsilon=BATCH_NORM_EPSILON,
      use_fast_variance=False,
      name=f"norm_{number}",
    )
    out = norm(
      x.reshape(x.shape[0], -1),
      use_running_average=deterministic,
      mask=None if where is None else where[:, None],
    )
    return out.reshape(x.shape)


class MixtureOfExperts(nn.Module):
  """Experts of one shape, mixed by a gate over the input.

  Attributes:
    hidden: widths of the layers of an expert.
    activation: one of ACTIVATIONS.
    dropout_rate: behind each activation.
    batch_norm: normalize before each activation, each expert by itself.
    kernel_init: one of INITIALIZERS, of each expert by itself; biases start at
      0.
    num_experts: experts.
    top_k: experts that count for a row; 0 is all.
  """

  hidden: tuple[int, ...]
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False
  kernel_init: str = "glorot_normal"
  num_experts: int = 4
  top_k: int = 0

  def __post_init__(self):
    super().__post_init__()
    what, num = "MixtureOfExperts", self.num_experts
    check_mlp_settings(what, self.hidden, self.activation, self.dropout_rate)
    check_choice(f"{what}.kernel_init", self.kernel_init, INITIALIZERS)
    check_range(f"{what}.num_experts", num, 1, integer=True)
    check_range("MixtureOfExperts.top_k", self.top_k, 0, num, integer=True)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch dim"],
    *,
    deterministic: bool,
    where: Bool[Array, " batch"] | None = None,
  ) -> Float[Array, "batch hidden_dim"]:
    """Mixes the last hidden layers of the experts.

    Args:
      x: the input.
      deterministic: no dropout, and batch norm by its running statistics;
        otherwise the key "dropout" is needed and "batch_stats" is mutable.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      sum_e g_e f_e(x) of each row.
    """
    gates = self._gates(x)
    experts = Experts(
      self.hidden,
      self.num_experts,
      self.activation,
      self.dropout_rate,
      self.batch_norm,
      self.kernel_init,
      name="experts",
    )(x, deterministic=deterministic, where=where)
    return jnp.einsum("be,beh->bh", gates, experts)

  def _gates(
    self, x: Float[Array, "batch dim"]
  ) -> Float[Array, "batch expert"]:
    logits = nn.Dense(self.num_experts, use_bias=False, name="gate")(x)
    if not self.top_k:
      return jax.nn.softmax(logits)
    largest, chosen = jax.lax.top_k(logits, self.top_k)
    places = jax.nn.one_hot(chosen, self.num_experts, dtype=logits.dtype)
    return jnp.einsum("bk,bke->be", jax.nn.softmax(largest), places)
