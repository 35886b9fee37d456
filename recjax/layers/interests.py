"""Several interests of one user out of a history.

Dynamic routing, Li et al.: Multi-Interest Network with Dynamic Routing for
Recommendation at Tmall (MIND), CIKM 2019, https://arxiv.org/abs/1904.08030

  e'_i = S e_i;  b_ij = r_ij;  then num_iterations times

  w_i = softmax_j(b_ij);  u_j = squash(sum_i w_ij e'_i);  b_ij += <u_j, e'_i>

  squash(z) = |z|^2 / (1 + |z|^2) z / |z|

and ReLU layers H at last. The map S is one for all interests, which therefore
differ only because their logits start at different r_ij ~ N(0, 1). With
`adaptive` a user of n items has max(1, min(k, floor(log2 n))) interests.

Self-attention, Cen et al.: Controllable Multi-Interest Framework for
Recommendation (ComiRec), KDD 2020, https://arxiv.org/abs/2005.09347

  A = softmax_i(W_2 tanh(W_1 (e_i + p_i))),  u_j = sum_i A_ji e_i

A score is that of the best interest, so an unused one repeats the first.

Deviations from the papers: r is drawn once for each place and interest, by a
seed, where MIND draws it for each user anew: the vectors of a user do not
change from call to call. No gradient flows through the routing weights, as in
ComiRec's code for both (neither paper says). Positions of ComiRec are counted
from the end of the history. MIND gives the profile of the user to H as well;
here a tower joins it behind.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_range
from recjax.layers.attention import NEGATIVE
from recjax.layers.histories import (
  ages,
  dense_rows,
  masked_softmax,
  valid_rows,
)


class DynamicRouting(nn.Module):
  """The interests of MIND.

  Attributes:
    num_interests: k, at most so many.
    dim: width of an interest.
    num_iterations: rounds of routing.
    num_layers: ReLU layers H behind the routing, of width `dim`.
    adaptive: short histories have fewer interests.
    seed: of the logits that the routing starts from.
  """

  num_interests: int = 4
  dim: int = 64
  num_iterations: int = 3
  num_layers: int = 2
  adaptive: bool = False
  seed: int = 0

  def __post_init__(self):
    super().__post_init__()
    for name in ("num_interests", "dim", "num_iterations"):
      check_range(
        f"DynamicRouting.{name}", getattr(self, name), 1, integer=True
      )
    check_range("DynamicRouting.num_layers", self.num_layers, 0, integer=True)
    check_range("DynamicRouting.seed", self.seed, 0, 2**32 - 1, integer=True)

  @nn.compact
  def __call__(
    self,
    history: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch k out_dim"]:
    """Routes items to interests.

    Args:
      history: left-aligned, oldest first.
      where: which places hold an item.
      deterministic: makes no difference here.

    Returns:
      The interests; zeros if there is no item.
    """
    del deterministic
    mapped = dense_rows(
      valid_rows(history, where), self.dim, name="bilinear", use_bias=False
    )
    used = self._used(where)
    interests = squash(
      jnp.einsum("bkl,bld->bkd", self._route(mapped, where, used), mapped)
    )
    for layer in range(self.num_layers):
      interests = jax.nn.relu(
        dense_rows(interests, self.dim, name=f"layer_{layer}")
      )
    interests = jnp.where(used[..., None], interests, interests[:, :1])
    some = jnp.any(where, axis=1)[:, None, None]
    return jnp.where(some, interests, 0.0)

  def _used(self, where: Bool[Array, "batch len"]) -> Bool[Array, "batch k"]:
    """Which interests a user has."""
    num = self.num_interests
    if not self.adaptive:
      return jnp.ones((where.shape[0], num), bool)
    length = jnp.sum(where, axis=1, dtype=jnp.int32, keepdims=True)
    # j < floor(log2 n) is 2^(j + 1) <= n, in integers; the first is always on.
    needed = np.minimum(2.0 ** np.arange(1, num + 1), 2.0**30).astype(np.int32)
    needed[0] = 0
    return length >= jnp.asarray(needed)[None]

  def _route(
    self,
    mapped: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    used: Bool[Array, "batch k"],
  ) -> Float[Array, "batch k len"]:
    """How much of each item each interest takes in the last round."""
    mapped = jax.lax.stop_gradient(mapped)
    shape = (mapped.shape[0], self.num_interests, mapped.shape[1])
    logits = jnp.broadcast_to(self._first_logits(shape[2])[None], shape)
    for _ in range(self.num_iterations - 1):
      weights = _routing_weights(logits, where, used)
      capsules = squash(jnp.einsum("bkl,bld->bkd", weights, mapped))
      logits = logits + jnp.einsum("bkd,bld->bkl", capsules, mapped)
    return _routing_weights(logits, where, used)

  def _first_logits(self, length: int) -> Float[Array, "k len"]:
    """r; more places do not change those of the others."""
    # NumPy promises that this generator's stream stays as it is.
    draw = np.random.RandomState(self.seed).standard_normal
    return jnp.asarray(draw((length, self.num_interests)).T, jnp.float32)


def _routing_weights(
  logits: Float[Array, "batch k len"],
  where: Bool[Array, "batch len"],
  used: Bool[Array, "batch k"],
) -> Float[Array, "batch k len"]:
  """Softmax over the interests in use; 0 for places without an item."""
  weights = jax.nn.softmax(
    jnp.where(used[:, :, None], logits, NEGATIVE), axis=1
  )
  return jnp.where(where[:, None, :], weights, 0.0)


def squash(z: Float[Array, "*shape dim"]) -> Float[Array, "*shape dim"]:
  """|z|^2 / (1 + |z|^2) z / |z|: keeps the direction, brings lengths below 1.

  Args:
    z: vectors along the last axis.

  Returns:
    An array like `z`; 0 where `z` is.

  References:
    Sabour, Frosst, Hinton: Dynamic Routing Between Capsules, NeurIPS 2017,
    https://arxiv.org/abs/1710.09829
  """
  square = jnp.sum(jnp.square(z), axis=-1, keepdims=True)
  # The tiny number gives the root a slope at 0.
  return z * (square * jax.lax.rsqrt(square + 1e-12) / (1.0 + square))


class SelfAttentiveInterests(nn.Module):
  """The interests of ComiRec-SA.

  Where items have another width than `dim`, a linear map turns u_j to it.

  Attributes:
    num_interests: k.
    dim: width of an interest.
    hidden_dim: rows of W_1; 0 means 4 dim, as in the authors' code.
    max_len: rows of the table of positions p; 0 leaves positions out.
  """

  num_interests: int = 4
  dim: int = 64
  hidden_dim: int = 0
  max_len: int = 0

  def __post_init__(self):
    super().__post_init__()
    for name, low in (
      ("num_interests", 1),
      ("dim", 1),
      ("hidden_dim", 0),
      ("max_len", 0),
    ):
      check_range(
        f"SelfAttentiveInterests.{name}", getattr(self, name), low, integer=True
      )

  @nn.compact
  def __call__(
    self,
    history: Float[Array, "batch len dim"],
    where: Bool[Array, "batch len"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch k out_dim"]:
    """Attends to the items once for each interest.

    Args:
      history: left-aligned, oldest first.
      where: which places hold an item.
      deterministic: makes no difference here.

    Returns:
      The interests; zeros if there is no item.

    Raises:
      ConfigError: the histories have more than `max_len` places.
    """
    del deterministic
    items = valid_rows(history, where)
    dense = lambda x, size, name: dense_rows(x, size, name=name, use_bias=False)
    seen = self._with_positions(items, where)
    hidden = jnp.tanh(dense(seen, self.hidden_dim or 4 * self.dim, "hidden"))
    logits = dense(hidden, self.num_interests, "attention")
    logits = jnp.swapaxes(logits, 1, 2)
    weights = masked_softmax(
      logits, jnp.broadcast_to(where[:, None], logits.shape)
    )
    interests = jnp.einsum("bkl,bld->bkd", weights, items)
    if items.shape[2] == self.dim:
      return interests
    return dense(interests, self.dim, "output")

  def _with_positions(
    self, items: Float[Array, "batch len dim"], where: Bool[Array, "batch len"]
  ) -> Float[Array, "batch len dim"]:
    if not self.max_len:
      return items
    if items.shape[1] > self.max_len:
      raise ConfigError(
        "SelfAttentiveInterests.max_len must be 0 or at least the places of a"
        f" history, {items.shape[1]}; got {self.max_len}."
      )
    positions = self.param(
      "position_embedding",
      nn.initializers.normal(0.02),
      (self.max_len, items.shape[2]),
    )
    return items + jnp.take(positions, ages(where), axis=0, mode="clip")


def label_aware_attention(
  interests: Float[Array, "batch k dim"],
  target: Float[Array, "batch dim"],
  *,
  power: float,
) -> Float[Array, "batch dim"]:
  """The vector of a user that answers for a target in training.

  v = sum_j a_j u_j,  a_j = exp(<u_j, t>)^power / sum_m exp(<u_m, t>)^power

  Args:
    interests: u, the interests of each user.
    target: t, the item's vector.
    power: 0 takes the mean of the interests, infinity the best one, and of
      equally good ones the first.

  Returns:
    One vector a user.

  Raises:
    ConfigError: `power` is negative or no number.

  References:
    Li et al.: MIND, CIKM 2019, section 3.5, https://arxiv.org/abs/1904.08030.
    The paper takes softmax(<u_j, t>^power), which for even powers prefers
    interests that point away from the target and which does not tend to the
    best one where products are below 1.
  """
  check_range("label_aware_attention: power", power, 0.0)
  products = jnp.einsum(
    "bkd,bd->bk", interests, target, preferred_element_type=jnp.float32
  )
  if math.isinf(power):
    best = jnp.argmax(products, axis=1)[:, None, None]
    return jnp.take_along_axis(interests, best, axis=1)[:, 0]
  weights = jax.nn.softmax(power * products, axis=1).astype(interests.dtype)
  return jnp.einsum("bk,bkd->bd", weights, interests)
