"""Experts side by side, and mixtures of them.

Jacobs, Jordan, Nowlan, Hinton: Adaptive Mixtures of Local Experts, 1991,
https://doi.org/10.1162/neco.1991.3.1.79; Shazeer et al.: Outrageously Large
Neural Networks, ICLR 2017, https://arxiv.org/abs/1701.06538; Ma et al.:
Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts, KDD 2018, https://doi.org/10.1145/3219819.3220007

  y = sum_e g_e(x) f_e(x),   g(x) = softmax(W_g x)

where each expert f_e is the hidden part of an MLP. With top_k the gate is
softmax over the k largest logits alone and 0 for all other experts.

All experts are formed for every row: one wide product for the first layer of
all, and batched ones of [expert, batch, dim] behind it. For the few small
experts of a tower that is faster than sending rows to experts, and top_k is a
matter of the model and not of speed.

The gradient of the mixing by experts, sum_t g_te dy_t, is written as a sum and
not as the batched product that differentiating gives: of a handful of tasks it
is a loop that the compiler joins to the one behind the activation, and does not
write out. It saves 4% to 14% of a step of small experts on a CPU.

Deviations from the papers: Shazeer's noise in the gate and the losses that
balance its load are left out, for no expert has a capacity here.
"""

import functools
from collections.abc import Callable
from typing import Any

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

_FEW_TASKS = 8


def each_by_itself(init: Callable[..., Array]) -> Callable[..., Array]:
  """An initializer of [expert, ...] that draws each expert as if alone."""

  def draw(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    keys = jax.random.split(key, shape[0])
    return jax.vmap(lambda k: init(k, shape[1:]))(keys)

  return draw


@jax.custom_vjp
def mix_experts(
  gates: Float[Array, "batch task expert"],
  experts: Float[Array, "batch expert hidden"],
) -> Float[Array, "batch task hidden"]:
  """y_t = sum_e g_te f_e of each row and task; see the module.

  Its gradient is written by hand: forward mode (`jax.jvp`, `jax.jacfwd`,
  `jax.hessian`) is not supported.

  Args:
    gates: g, of each task.
    experts: f, the vector of each expert.

  Returns:
    A vector for each task.
  """
  return jnp.einsum("bte,beh->bth", gates, experts)


def _mix_forward(gates, experts):
  return mix_experts(gates, experts), (gates, experts)


def _mix_backward(kept, slope):
  gates, experts = kept
  if gates.shape[1] > _FEW_TASKS:
    of_experts = jnp.einsum("bte,bth->beh", gates, slope)
  else:
    of_experts = functools.reduce(
      jnp.add,
      [
        gates[:, task, :, None] * slope[:, task, None, :]
        for task in range(gates.shape[1])
      ],
    )
  of_gates = jnp.einsum("bth,beh->bte", slope, experts)
  # Gates may be of float32 and experts of bfloat16.
  return of_gates.astype(gates.dtype), of_experts.astype(experts.dtype)


mix_experts.defvjp(_mix_forward, _mix_backward)


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
    # Behind the first layer [expert, batch, hidden]: a batched product of
    # another order would first bring its operands into this one.
    first = self._first_layer(x, self.hidden[0])
    x = self._activated(first, 0, deterministic, where)
    for number, size in enumerate(self.hidden[1:], 1):
      kernel, bias = self._weights(number, x.shape[-1], size)
      # Its gradient is dz^T x then, on a CPU a sixth faster than x^T dz.
      turned = jax.lax.optimization_barrier(kernel.transpose(0, 2, 1))
      x = jnp.einsum("ebd,ehd->ebh", x, turned) + bias[:, None]
      x = self._activated(x, number, deterministic, where)
    return x.transpose(1, 0, 2)

  def _weights(self, number: int, dim: int, size: int) -> tuple[Any, Any]:
    """W_e, [expert, dim, size], and b_e, [expert, size], of a layer."""
    num = self.num_experts
    kernel = self.param(
      f"kernel_{number}",
      each_by_itself(INITIALIZERS[self.kernel_init]),
      (num, dim, size),
    )
    bias = self.param(f"bias_{number}", nn.initializers.zeros, (num, size))
    return kernel, bias

  def _first_layer(
    self, x: Float[Array, "batch *expert dim"], size: int
  ) -> Float[Array, "experts batch size"]:
    """W_e x_e + b_e of all experts."""
    num = self.num_experts
    kernel, bias = self._weights(0, x.shape[-1], size)
    if x.ndim == 2:  # One wide product for all experts.
      wide = kernel.transpose(1, 0, 2).reshape(x.shape[-1], num * size)
      out = (x @ wide).reshape(-1, num, size)
    else:  # Few, as towers are: their inputs are parted by cheap copies.
      out = jnp.stack([x[:, e] @ kernel[e] for e in range(num)], axis=1)
    return (out + bias[None]).transpose(1, 0, 2)

  def _activated(
    self,
    x: Float[Array, "expert batch size"],
    number: int,
    deterministic: bool,
    where: Bool[Array, " batch"] | None,
  ) -> Float[Array, "expert batch size"]:
    """Batch norm, activation and dropout behind a layer."""
    x = x.transpose(1, 0, 2)  # Joined to what follows, and back again.
    if self.batch_norm:
      x = self._normalized(x, number, deterministic, where)
    x = ACTIVATIONS[self.activation](x)
    x = Dropout(self.dropout_rate)(x, deterministic=deterministic)
    return x.transpose(1, 0, 2)

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
    return mix_experts(gates[:, None], experts)[:, 0]

  def _gates(
    self, x: Float[Array, "batch dim"]
  ) -> Float[Array, "batch expert"]:
    logits = nn.Dense(self.num_experts, use_bias=False, name="gate")(x)
    if not self.top_k:
      return jax.nn.softmax(logits)
    largest, chosen = jax.lax.top_k(logits, self.top_k)
    places = jax.nn.one_hot(chosen, self.num_experts, dtype=logits.dtype)
    return jnp.einsum("bk,bke->be", jax.nn.softmax(largest), places)
