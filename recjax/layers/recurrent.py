"""Gated recurrent units over histories.

Hidasi, Karatzoglou, Baltrunas, Tikk: Session-based Recommendations with
Recurrent Neural Networks, ICLR 2016, https://arxiv.org/abs/1511.06939

  r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
  z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
  c_t = tanh(W_c x_t + b_c + r_t * (U_c h_{t-1} + a))
  h_t = z_t * h_{t-1} + (1 - z_t) * c_t,   h_0 = 0

and the vector of the history is h after its last item. A second layer takes
h_1, h_2, ... of the first for x_1, x_2, ...

W x_t does not depend on the state: one product does it for all places, and
the loop over time is left with U h alone.

Deviations from the paper: the reset gate acts on U_c h rather than on h, as in
cuDNN, PyTorch and Flax, so that U_r, U_z and U_c are one product; and z and
1 - z change places, which only renames the gate.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from recjax.errors import check_range
from recjax.layers.dropout import Dropout
from recjax.layers.histories import valid_rows


class GRUHistory(nn.Module):
  """The state of a GRU behind the last item.

  Attributes:
    dim: width of the state.
    num_layers: GRUs above one another.
    dropout_rate: of the input of each layer.
    project_once: W x of all places in one product before the loop over time.
      False forms it step by step, which keeps less in memory and for that can
      be faster on CPU. A matter of speed alone.
  """

  dim: int = 64
  num_layers: int = 1
  dropout_rate: float = 0.0
  project_once: bool = True

  def __post_init__(self):
    super().__post_init__()
    check_range("GRUHistory.dim", self.dim, 1, integer=True)
    check_range("GRUHistory.num_layers", self.num_layers, 1, integer=True)
    check_range("GRUHistory.dropout_rate", self.dropout_rate, 0.0, 0.99)

  @nn.compact
  def __call__(
    self,
    history: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch out_dim"]:
    """Reads the items from the oldest to the newest.

    Args:
      history: left-aligned, oldest first.
      where: which places hold an item; the state passes by all others.
      deterministic: switches dropout off; otherwise the key "dropout" is
        needed.

    Returns:
      The last state of the last layer; zeros if there is no item.
    """
    # Time first, as the loop reads it.
    x = jnp.swapaxes(valid_rows(history, where), 0, 1)
    valid = jnp.swapaxes(where, 0, 1)[..., None]
    state = jnp.zeros((history.shape[0], self.dim), jnp.float32)
    for layer in range(self.num_layers):
      x = Dropout(self.dropout_rate)(x, deterministic=deterministic)
      state, x = self._scan(x, valid, layer)
    return state

  def _scan(
    self,
    x: Float[Array, "len batch in_dim"],
    valid: Bool[Array, "len batch 1"],
    layer: int,
  ) -> tuple[Float[Array, "batch dim"], Float[Array, "len batch dim"]]:
    """The last state and all states of one layer."""
    length, batch, width = x.shape
    dim, zeros = self.dim, nn.initializers.zeros
    param = lambda name, init, *shape: self.param(
      f"{name}_{layer}", init, shape
    )
    glorot = nn.initializers.glorot_uniform()
    kernel = param("input_kernel", glorot, width, 3 * dim)
    bias = param("input_bias", zeros, 3 * dim)
    recurrent = param("recurrent_kernel", _orthogonal_gates, dim, 3 * dim)
    candidate_bias = param("recurrent_bias", zeros, dim)

    def project(x):
      return jnp.split(x @ kernel + bias[None], 3, axis=1)

    def step(state, inputs):
      x, there = inputs
      x_r, x_z, x_c = x if self.project_once else project(x)
      h_r, h_z, h_c = jnp.split(state @ recurrent, 3, axis=1)
      reset, update = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
      candidate = jnp.tanh(x_c + reset * (h_c + candidate_bias[None]))
      new = candidate + update * (state - candidate)
      state = jnp.where(there, new, state)
      return state, state

    if self.project_once:
      # With one axis of rows the gradient of the kernel is a plain product.
      parts = project(x.reshape(length * batch, width))
      inputs = tuple(part.reshape(length, batch, dim) for part in parts)
    else:
      inputs = x
    start = jnp.zeros((batch, dim), jnp.float32)
    return lax.scan(step, start, (inputs, valid))


def _orthogonal_gates(
  key: Key[Array, ""], shape: tuple[int, int]
) -> Float[Array, "dim three_dim"]:
  """An orthogonal matrix for each of the three gates, side by side."""
  rows, columns = shape
  draw = lambda key: nn.initializers.orthogonal()(key, (rows, columns // 3))
  return jnp.concatenate([draw(k) for k in jax.random.split(key, 3)], axis=1)
