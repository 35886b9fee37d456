"""Gates: which of two states counts, and which inputs do.

Long and short term, Lv et al.: SDM: Sequential Deep Matching Model for Online
Large-scale Recommender System, CIKM 2019, https://arxiv.org/abs/1909.00385

  g = sigmoid(W_g [long; short; context] + b_g)
  v = g * W_l long + (1 - g) * W_s short

Context, Chang et al.: PEPNet: Parameter and Embedding Personalized Network,
KDD 2023, https://arxiv.org/abs/2302.01115

  y = x * 2 sigmoid(W_2 relu(W_1 c + b_1) + b_2)

Deviations from the papers: SDM's gate is (1 - g) * long + g * short, and its
states have one width and need no W_l and W_s. PEPNet's gate sees x as well,
without a gradient; here the context alone opens it, and W_2 and b_2 start at 0,
so that at first y = x.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from recjax.errors import check_range


class LongShortGate(nn.Module):
  """Joins a long-term and a short-term state.

  The maps of the states have no bias: a history without items has zeros for
  its state and adds nothing.

  Attributes:
    dim: width of the result.
    learned: False takes g = 1/2, the plain mean of both mapped states.
  """

  dim: int
  learned: bool = True

  def __post_init__(self):
    super().__post_init__()
    check_range("LongShortGate.dim", self.dim, 1, integer=True)

  @nn.compact
  def __call__(
    self,
    long: Float[Array, "batch long_dim"],
    short: Float[Array, "batch short_dim"],
    context: Float[Array, "batch context_dim"] | None = None,
  ) -> Float[Array, "batch dim"]:
    """Gives g * W_l long + (1 - g) * W_s short.

    Args:
      long: the long-term state.
      short: the short-term state.
      context: what else the gate sees.

    Returns:
      One vector a row.
    """
    long_out = nn.Dense(self.dim, use_bias=False, name="long")(long)
    short_out = nn.Dense(self.dim, use_bias=False, name="short")(short)
    if not self.learned:
      return 0.5 * (long_out + short_out)
    seen = [long, short] if context is None else [long, short, context]
    gate = nn.Dense(self.dim, name="gate")(jnp.concatenate(seen, axis=1))
    return short_out + jax.nn.sigmoid(gate) * (long_out - short_out)


class ContextGate(nn.Module):
  """Scales each input by a factor in (0, 2) that the context chooses.

  Attributes:
    reduction: the gate's hidden layer is this many times narrower than x.
  """

  reduction: int = 4

  def __post_init__(self):
    super().__post_init__()
    check_range("ContextGate.reduction", self.reduction, 1, integer=True)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch dim"],
    context: Float[Array, "batch context_dim"],
  ) -> Float[Array, "batch dim"]:
    """Gives x * 2 sigmoid(MLP(context)).

    Args:
      x: the inputs that are scaled.
      context: what opens the gate.

    Returns:
      An array like `x`; at first it is `x`.
    """
    width = max(x.shape[1] // self.reduction, 1)
    zeros = nn.initializers.zeros
    hidden = jax.nn.relu(nn.Dense(width, name="hidden")(context))
    logits = nn.Dense(x.shape[1], kernel_init=zeros, name="gate")(hidden)
    return x * (2.0 * jax.nn.sigmoid(logits))
