"""A shallow tower: what the place of a row alone does to its label.

  l = w' MLP([e_position; b]) + c

with an embedding e of the position and further columns b of what biases, such
as the kind of device. It stands beside a model and is left away when the model
is served:

  P(click) = sigmoid(l) sigmoid(model)    Guo, Yu, Liu, Tang and Zhang: PAL: a
      Position-bias Aware Learning Framework for CTR Prediction in Live
      Recommender Systems, RecSys 2019,
      https://doi.org/10.1145/3298689.3347033
  P(click) = sigmoid(l + model)           Zhao et al.: Recommending What Video
      to Watch Next, RecSys 2019, https://doi.org/10.1145/3298689.3346997

With a dropout rate a row's logit is 0 in training as if nothing were known of
its place. Deviation from Zhao et al., who drop the position alone and feed the
tower a missing one when they serve: here the model by itself is what is served,
and what was trained on rows without a place.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from recjax.errors import check_range
from recjax.layers.dropout import dropout
from recjax.layers.mlp import MLP, check_mlp_settings


class PositionLogit(nn.Module):
  """The logit of a row's place.

  Attributes:
    num_positions: positions run from 1 to this.
    dim: width of the embedding of a position.
    hidden: widths of the layers above it; () is none.
    dropout_rate: at which a row's place is not looked at in training.
  """

  num_positions: int
  dim: int = 4
  hidden: tuple[int, ...] = (8,)
  dropout_rate: float | int = 0.0

  def __post_init__(self):
    super().__post_init__()
    what = "PositionLogit"
    check_range(f"{what}.num_positions", self.num_positions, 1, integer=True)
    check_range(f"{what}.dim", self.dim, 1, integer=True)
    check_mlp_settings(
      what, self.hidden, dropout_rate=self.dropout_rate, min_layers=0
    )

  @nn.compact
  def __call__(
    self,
    position: Int[Array, " batch"],
    biases: Float[Array, "batch _columns"] | None = None,
    *,
    deterministic: bool = True,
  ) -> Float[Array, " batch"]:
    """The logit of each row.

    Args:
      position: from 1 on.
      biases: further columns; None is none.
      deterministic: no dropout; otherwise the key "dropout" is needed.

    Returns:
      Logits; 0 where a place is dropped.
    """
    x = nn.Embed(
      self.num_positions,
      self.dim,
      embedding_init=nn.initializers.normal(0.1),
      name="position",
    )(position - 1)
    if biases is not None:
      x = jnp.concatenate([x, biases], axis=1)
    x = MLP(self.hidden, name="layers")(x, deterministic=True)
    logit = nn.Dense(1, name="output")(x)[:, 0]
    if deterministic or self.dropout_rate == 0:
      return logit
    kept = dropout(
      self.make_rng("dropout"), jnp.ones_like(logit), rate=self.dropout_rate
    )
    return jnp.where(kept > 0, logit, 0.0)
