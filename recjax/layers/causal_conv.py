"""Causal dilated convolutions over histories.

Yuan, Karatzoglou, Arapakis, Jose, He: A Simple Convolutional Generative Network
for Next Item Recommendation (NextItNet), WSDM 2019,
https://arxiv.org/abs/1808.05163; Bai, Kolter, Koltun: An Empirical Evaluation
of Generic Convolutional and Recurrent Networks for Sequence Modeling (TCN),
2018, https://arxiv.org/abs/1803.01271

  c_l[i] = b_l + sum_{t < kernel_size} W_{l,t} x_l[i - t 2^l]
  x_{l+1}[i] = x_l[i] + Dropout(relu(LN(c_l[i])))

with x_l[i] = 0 before the oldest item. The vector of a history is the state at
its newest item, which sees the last 1 + (kernel_size - 1)(2^num_layers - 1)
items.

Only the states that this one depends on are formed: those of layer l at every
2^l-th place, counted from the end. Read from the end, each layer is then a
plain convolution of stride 2, and its work halves from layer to layer,
whatever the length of the history.

Deviations from the papers: one convolution in a residual block, where both
papers have two; layer normalization as in NextItNet and one ReLU as in TCN.
NextItNet predicts at every place, which here the windows of training events
do.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import check_range
from recjax.layers.dropout import Dropout
from recjax.layers.histories import dense_rows, newest_first


class ConvHistory(nn.Module):
  """The state of a causal convolutional network at the newest item.

  Where items have another width than `dim`, a linear map stands before.

  Attributes:
    dim: width of the states.
    kernel_size: places that a convolution sees, its own included.
    num_layers: convolutions; the dilation doubles from 1.
    residual: each layer adds its input.
    dropout_rate: behind each activation.
  """

  dim: int = 64
  kernel_size: int = 3
  num_layers: int = 4
  residual: bool = True
  dropout_rate: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    check_range("ConvHistory.dim", self.dim, 1, integer=True)
    check_range("ConvHistory.kernel_size", self.kernel_size, 2, integer=True)
    # 2^16 items are more than any history has.
    check_range("ConvHistory.num_layers", self.num_layers, 1, 16, integer=True)
    check_range("ConvHistory.dropout_rate", self.dropout_rate, 0.0, 0.99)

  @property
  def receptive_field(self) -> int:
    """How many of the last items the state depends on."""
    return 1 + (self.kernel_size - 1) * (2**self.num_layers - 1)

  @nn.compact
  def __call__(
    self,
    history: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch out_dim"]:
    """Applies the layers.

    Args:
      history: left-aligned, oldest first.
      where: which places hold an item.
      deterministic: switches dropout off; otherwise the key "dropout" is
        needed.

    Returns:
      The state at the newest item; zeros if there is none.
    """
    num = min(self.receptive_field, history.shape[1])
    x, there = newest_first(history, where, num)
    if x.shape[2] != self.dim:
      x = dense_rows(x, self.dim, name="input", use_bias=False)
    for layer in range(self.num_layers):
      needed = 1 + (self.kernel_size - 1) * (
        2 ** (self.num_layers - 1 - layer) - 1
      )
      num = min(needed, (x.shape[1] + 1) // 2)
      out = dense_rows(self._windows(x, num), self.dim, name=f"conv_{layer}")
      out = nn.LayerNorm(use_fast_variance=False, name=f"norm_{layer}")(out)
      out = Dropout(self.dropout_rate)(
        jax.nn.relu(out), deterministic=deterministic
      )
      stop = 2 * num - 1
      if self.residual:
        out = out + x[:, :stop:2]
      there = there[:, :stop:2]
      # Places before the oldest item stay 0, as padding of a convolution is.
      x = jnp.where(there[..., None], out, 0.0)
    return x[:, 0]

  def _windows(
    self, x: Float[Array, "batch len dim"], num: int
  ) -> Float[Array, "batch num window_dim"]:
    """What a convolution of stride 2 sees at `num` places, side by side."""
    size = 2 * (num - 1) + self.kernel_size
    x = jnp.pad(x, ((0, 0), (0, max(size - x.shape[1], 0)), (0, 0)))
    taps = [x[:, t : t + 2 * num - 1 : 2] for t in range(self.kernel_size)]
    return jnp.concatenate(taps, axis=2)
