"""Multi-layer perceptrons of ranking models.

x_{l+1} = Dropout(act(BN(W_l x_l + b_l)))

Batch normalization stands before the activation and dropout behind it, as in
the deep parts of BARS (Zhu et al.: BARS: Towards Open Benchmarking for
Recommender Systems, SIGIR 2022, https://arxiv.org/abs/2205.09626). There is
no output layer: a model adds its own, plain one.

BN(x) = gamma * (x - mean) / sqrt(var + 1e-5) + beta

takes mean and variance of the batch in training, of the whole batch where it
is sharded, and running ones otherwise; a step moves these by a tenth, which
PyTorch calls momentum 0.1 and Flax 0.9 (Ioffe and Szegedy: Batch
Normalization, ICML 2015, https://arxiv.org/abs/1502.03167).

Deviations from PyTorch: the running variance averages the biased variances of
the batches (divided by n); PyTorch's averages the unbiased ones (divided by
n - 1). At 4,096 rows they differ by a 4,095th.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_choice, check_range
from recjax.layers.dropout import Dropout

ACTIVATIONS = {
  "relu": jax.nn.relu,
  "sigmoid": jax.nn.sigmoid,
  "tanh": jnp.tanh,
  "gelu": jax.nn.gelu,
  "silu": jax.nn.silu,
  "identity": lambda x: x,
}
INITIALIZERS = {
  "glorot_normal": nn.initializers.glorot_normal(),
  "glorot_uniform": nn.initializers.glorot_uniform(),
  "lecun_uniform": nn.initializers.lecun_uniform(),
  "he_normal": nn.initializers.he_normal(),
  "he_uniform": nn.initializers.he_uniform(),
}
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5


def check_layer_sizes(what: str, sizes: Any, *, min_layers: int = 1) -> None:
  """Raises ConfigError unless `sizes` is a tuple of layer widths."""
  if not isinstance(sizes, tuple) or len(sizes) < min_layers:
    raise ConfigError(
      f"{what} must be a tuple of at least {min_layers} layer widths, for"
      f" example (400, 400, 400); got {sizes!r}."
    )
  for number, size in enumerate(sizes):
    check_range(f"{what}[{number}]", size, 1, integer=True)


class MLP(nn.Module):
  """Hidden layers: linear, batch norm if wanted, activation, dropout.

  Attributes:
    hidden: widths of the layers; with () the input is returned.
    activation: one of ACTIVATIONS.
    dropout_rate: behind each activation.
    batch_norm: normalize before each activation.
    kernel_init: one of INITIALIZERS; biases start at 0.
  """

  hidden: tuple[int, ...]
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False
  kernel_init: str = "glorot_normal"

  def __post_init__(self):
    super().__post_init__()
    check_layer_sizes("MLP.hidden", self.hidden, min_layers=0)
    check_choice("MLP.activation", self.activation, ACTIVATIONS)
    check_choice("MLP.kernel_init", self.kernel_init, INITIALIZERS)
    check_range("MLP.dropout_rate", self.dropout_rate, 0.0, 0.99)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch dim"],
    *,
    deterministic: bool,
    where: Bool[Array, " batch"] | None = None,
  ) -> Float[Array, "batch hidden_dim"]:
    """Applies the layers.

    Args:
      x: the input.
      deterministic: no dropout, and batch norm by its running statistics;
        otherwise the key "dropout" is needed and "batch_stats" is mutable.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      The last hidden layer.
    """
    for number, size in enumerate(self.hidden):
      x = nn.Dense(
        size,
        kernel_init=INITIALIZERS[self.kernel_init],
        name=f"layer_{number}",
      )(x)
      if self.batch_norm:
        x = nn.BatchNorm(
          momentum=BATCH_NORM_MOMENTUM,
          epsilon=BATCH_NORM_EPSILON,
          # E[x^2] - E[x]^2 would lose what lies far from 0.
          use_fast_variance=False,
          name=f"norm_{number}",
        )(
          x,
          use_running_average=deterministic,
          mask=None if where is None else where[:, None],
        )
      x = ACTIVATIONS[self.activation](x)
      x = Dropout(self.dropout_rate)(x, deterministic=deterministic)
    return x


def check_mlp_settings(
  what: str,
  hidden: Any,
  activation: Any = "relu",
  dropout_rate: Any = 0.0,
  *,
  field: str = "hidden",
  min_layers: int = 1,
) -> None:
  """Raises ConfigError, in the words of a model, if an MLP could not be made.

  Args:
    what: the model's name.
    hidden: the widths of its layers.
    activation: its field `activation`.
    dropout_rate: its field `dropout_rate`.
    field: what the model calls the widths.
    min_layers: fewest layers that the model can do with.

  Raises:
    ConfigError: one of the settings is out of range.
  """
  check_layer_sizes(f"{what}.{field}", hidden, min_layers=min_layers)
  check_choice(f"{what}.activation", activation, ACTIVATIONS)
  check_range(f"{what}.dropout_rate", dropout_rate, 0.0, 0.99)
