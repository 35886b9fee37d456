"""Two towers: users and items as vectors of one space.

Paul Covington, Jay Adams, Emre Sargin: Deep Neural Networks for YouTube
Recommendations, RecSys 2016, https://doi.org/10.1145/2959100.2959190; Xinyang
Yi et al.: Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
Recommendations, RecSys 2019, https://doi.org/10.1145/3298689.3346996

  s(u, i) = <f(u), g(i)> / t

with f and g two `Tower`s. With `normalize` both vectors have length 1, so that
s is a cosine over the temperature t. With several interests of a user

  s(u, i) = max_k <f_k(u), g(i)> / t,

and in training the interest that answers for a target is chosen by the target
(`recjax.layers.interests.label_aware_attention`).

Deviations from the papers: YouTube's items have no tower but a row of the
output layer, which here is an item tower of the id alone.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from recjax.errors import ConfigError, check_range
from recjax.layers.tower_inputs import TowerInputs
from recjax.models.tower import Tower, check_item_tower


class TwoTower(nn.Module):
  """A tower of users, a tower of items, and a temperature.

  Attributes:
    user: tower of users.
    item: tower of items, of the same width.
    normalize: vectors have length 1.
    temperature: t, or where it starts.
    learned_temperature: whether log t is trained; t stays in [0.01, 100].
  """

  user: Tower = Tower()
  item: Tower = Tower()
  normalize: bool = False
  temperature: float = 1.0
  learned_temperature: bool = False

  def __post_init__(self):
    if self.user is self.item:
      # One module in two places would have one set of parameters.
      object.__setattr__(self, "item", self.item.clone())
    super().__post_init__()
    check_range("TwoTower.temperature", self.temperature, 0.01, 100.0)
    check_item_tower(self.item)
    widths = self.user.dim, self.item.dim
    if self.user.project and self.item.project and widths[0] != widths[1]:
      raise ConfigError(
        "TwoTower.user.dim and TwoTower.item.dim must be equal, for vectors"
        f" are multiplied; got {widths[0]} and {widths[1]}."
      )

  def setup(self):
    """Makes log t, where it is learned."""
    if self.learned_temperature:
      start = jnp.log(jnp.float32(self.temperature))
      self.log_temperature = self.param("log_temperature", lambda _: start)

  def users(
    self, inputs: TowerInputs, *, deterministic: bool = True
  ) -> Float[Array, "batch *k dim"]:
    """The vectors of users."""
    return self._scaled(self.user(inputs, deterministic=deterministic))

  def items(
    self, inputs: TowerInputs, *, deterministic: bool = True
  ) -> Float[Array, "batch dim"]:
    """The vectors of items."""
    return self._scaled(self.item(inputs, deterministic=deterministic))

  def inverse_temperature(self) -> Float[Array, ""]:
    """1 / t, by which products are multiplied in training."""
    if not self.learned_temperature:
      return jnp.float32(1.0 / self.temperature)
    log_t = self.log_temperature
    clipped = jnp.clip(log_t, jnp.log(0.01), jnp.log(100.0))
    # Beyond a bound the slope stays, or log t would never come back.
    return jnp.exp(-(log_t + jax.lax.stop_gradient(clipped - log_t)))

  def __call__(
    self,
    user_inputs: TowerInputs,
    item_inputs: TowerInputs,
    *,
    deterministic: bool = True,
  ) -> dict[str, Float[Array, "..."]]:
    """Vectors of users and items, which need not be equally many.

    Returns:
      "user" [batch, dim] or [batch, k, dim], "item" [cand, dim], and
      "inverse_temperature" [].

    Raises:
      ConfigError: the vectors are of different widths.
    """
    user = self.users(user_inputs, deterministic=deterministic)
    item = self.items(item_inputs, deterministic=deterministic)
    if user.shape[-1] != item.shape[-1]:
      raise ConfigError(
        "the vectors of both towers must have one width; that of users is"
        f" {user.shape[-1]} and that of items {item.shape[-1]}."
      )
    scale = self.inverse_temperature()
    return {"user": user, "item": item, "inverse_temperature": scale}

  def _scaled(self, vectors: Float[Array, "*rows dim"]):
    if not self.normalize:
      return vectors
    square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    # A vector of zeros stays one; the root has no finite slope there.
    return vectors * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
