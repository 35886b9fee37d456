"""One tower of a two-tower model: what is known of a user or an item, in.

  x = [e_1; ...; e_n; numbers; text; fused modalities; history state]
  v = W MLP(gate(x)) + b

Each part is there only where the features ask for it. A tower without hidden
layers and without projection is the vector of its only feature: matrix
factorization. A tower of several interests has one vector for each, out of the
same layers.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_range
from recjax.layers.dropout import dropout
from recjax.layers.experts import MixtureOfExperts
from recjax.layers.gates import ContextGate, LongShortGate
from recjax.layers.mlp import MLP, check_mlp_settings
from recjax.layers.token_bag import TokenBag
from recjax.layers.tower_inputs import TowerInputs


class Tower(nn.Module):
  """Features of one side to one vector, or to one for each interest.

  Attributes:
    dim: width of the vectors.
    hidden: widths of the hidden layers.
    activation: between them.
    dropout_rate: behind each.
    batch_norm: before each activation.
    num_experts: a mixture of so many experts in place of the hidden layers; 0
      is none.
    project: a last linear layer of width `dim`; without it the last hidden
      layer is the vector.
    context_gate: features of the context scale all other inputs.
    text: turns the tokens of a text into a vector.
    fusion: joins vectors of modalities; None gives each a linear layer.
    history: encoder of the long-term history; None leaves it out.
    short_history: encoder of its last `short_len` items; both states are then
      joined by a gate.
    short_len: items of the short-term history.
    learned_gate: False takes the plain mean of both states.
    interests: encoder of the history to several vectors, in place of
      `history`.
    history_dropout_rate: in training, items of the history are dropped whole
      and the others scaled up, so that a target is not learned by heart from
      a few of them.
  """

  dim: int = 64
  hidden: tuple[int, ...] = ()
  activation: str = "relu"
  dropout_rate: float = 0.0
  batch_norm: bool = False
  num_experts: int = 0
  project: bool = True
  context_gate: bool = False
  text: Any = TokenBag()
  fusion: Any = None
  history: Any = None
  short_history: Any = None
  short_len: int = 5
  learned_gate: bool = True
  interests: Any = None
  history_dropout_rate: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    check_range("Tower.dim", self.dim, 1, integer=True)
    check_mlp_settings(
      "Tower", self.hidden, self.activation, self.dropout_rate, min_layers=0
    )
    check_range("Tower.num_experts", self.num_experts, 0, integer=True)
    check_range("Tower.short_len", self.short_len, 1, integer=True)
    rate = self.history_dropout_rate
    check_range("Tower.history_dropout_rate", rate, 0.0, 0.99)
    if self.num_experts and not self.hidden:
      raise ConfigError(
        "Tower.num_experts needs Tower.hidden, the layers of an expert; got ()."
      )
    if self.short_history is not None and self.history is None:
      raise ConfigError(
        "Tower.short_history needs Tower.history: the gate joins both."
      )
    if self.interests is not None and self.history is not None:
      raise ConfigError(
        "Tower takes a history or interests, which read the same items; got"
        " both."
      )

  @property
  def reads_history(self) -> bool:
    """Whether it is to be given a history."""
    return self.history is not None or self.interests is not None

  @nn.compact
  def __call__(
    self, inputs: TowerInputs, *, deterministic: bool
  ) -> Float[Array, "batch *k dim"]:
    """The vector of each row.

    Args:
      inputs: what is known.
      deterministic: no dropout, and batch norm by its running statistics.

    Returns:
      [batch, dim]; with interests [batch, k, dim].

    Raises:
      ConfigError: there is no input, or no history where one is read.
    """
    parts = self._features(inputs, deterministic)
    if self.interests is None:
      if self.history is not None:
        parts.append(self._history_state(inputs, parts, deterministic))
      return self._vector(parts, inputs, deterministic)
    history, where = self._checked_history(inputs, deterministic)
    interests = self.interests(history, where, deterministic=deterministic)
    batch, num = interests.shape[:2]
    spread = lambda x: jnp.repeat(x, num, axis=0)
    parts = [spread(part) for part in parts]
    parts.append(interests.reshape(batch * num, -1))
    vectors = self._vector(parts, inputs, deterministic, spread)
    return vectors.reshape(batch, num, -1)

  def _features(self, inputs: TowerInputs, deterministic: bool) -> list[Array]:
    """All inputs but the history, [batch, _] each; in the order of names."""
    fields = {**inputs.fields, **inputs.context}
    parts = [fields[name] for name in sorted(fields)]
    if inputs.numbers is not None:
      parts.append(inputs.numbers)
    for name in sorted(inputs.tokens):
      text = self.text.clone(name=f"text_{name}", parent=self)
      parts.append(text(*inputs.tokens[name], deterministic=deterministic))
    if inputs.modalities and self.fusion is not None:
      # A vector of zeros is what a missing one is encoded as.
      present = {
        name: jnp.any(vector != 0, axis=-1)
        for name, vector in inputs.modalities.items()
      }
      parts.append(self.fusion(inputs.modalities, present))
    else:
      for name in sorted(inputs.modalities):
        dense = nn.Dense(self.dim, name=f"modality_{name}")
        parts.append(dense(inputs.modalities[name]))
    return parts

  def _checked_history(
    self, inputs: TowerInputs, deterministic: bool
  ) -> tuple[Float[Array, "batch len dim"], Bool[Array, "batch len"]]:
    if inputs.history is None or inputs.history_where is None:
      raise ConfigError(
        "the tower reads a history and is given none: set"
        " RetrievalExperiment.history, or leave history and interests of the"
        " tower away."
      )
    rate, history = self.history_dropout_rate, inputs.history
    if rate and not deterministic:
      ones = jnp.ones((*history.shape[:2], 1), history.dtype)
      history *= dropout(self.make_rng("dropout"), ones, rate=rate)
    return history, inputs.history_where

  def _history_state(
    self, inputs: TowerInputs, parts: list[Array], deterministic: bool
  ) -> Float[Array, "batch dim"]:
    history, where = self._checked_history(inputs, deterministic)
    state = self.history(history, where, deterministic=deterministic)
    if self.short_history is None:
      return state
    recent, recent_where = last_items(history, where, self.short_len)
    short = self.short_history(
      recent, recent_where, deterministic=deterministic
    )
    context = jnp.concatenate(parts, axis=-1) if parts else None
    gate = LongShortGate(self.dim, learned=self.learned_gate, name="gate")
    return gate(state, short, context)

  def _vector(
    self,
    parts: list[Array],
    inputs: TowerInputs,
    deterministic: bool,
    spread=None,
  ) -> Float[Array, "rows dim"]:
    if not parts:
      raise ConfigError(
        "a tower needs a feature or a history; got none. See user_features and"
        " item_features of RetrievalExperiment."
      )
    x = jnp.concatenate(parts, axis=-1)
    if self.context_gate:
      x = self._gated(x, inputs, spread)
    if self.num_experts:
      layers = MixtureOfExperts(
        self.hidden,
        num_experts=self.num_experts,
        activation=self.activation,
        dropout_rate=self.dropout_rate,
        batch_norm=self.batch_norm,
        name="experts",
      )
    else:
      layers = MLP(
        self.hidden,
        self.activation,
        self.dropout_rate,
        self.batch_norm,
        name="mlp",
      )
    where = inputs.where
    if where is not None and spread is not None:
      where = spread(where)
    x = layers(x, deterministic=deterministic, where=where)
    return nn.Dense(self.dim, name="output")(x) if self.project else x

  def _gated(self, x: Array, inputs: TowerInputs, spread) -> Array:
    if not inputs.context:
      raise ConfigError(
        "Tower.context_gate needs features of the context: set"
        " RetrievalExperiment.context_features. Item towers see none."
      )
    names = sorted(inputs.context)
    context = jnp.concatenate([inputs.context[name] for name in names], axis=-1)
    context = context if spread is None else spread(context)
    return ContextGate(name="context_gate")(x, context)


def last_items(
  history: Float[Array, "batch len dim"],
  where: Bool[Array, "batch len"],
  num: int,
) -> tuple[Float[Array, "batch num dim"], Bool[Array, "batch num"]]:
  """The last `num` items of left-aligned histories, left-aligned again."""
  length = jnp.sum(where, axis=1)
  place = jnp.arange(num)[None, :] + jnp.maximum(length - num, 0)[:, None]
  place = jnp.minimum(place, where.shape[1] - 1)
  recent = jnp.take_along_axis(history, place[..., None], axis=1)
  return recent, jnp.arange(num)[None, :] < length[:, None]


def check_item_tower(item: Tower) -> None:
  """Raises ConfigError where a tower can not be that of items."""
  for what in ("history", "short_history", "interests"):
    if getattr(item, what) is not None:
      raise ConfigError(
        f"TwoTower.item can have no {what}: only users have a history."
      )
  if item.context_gate:
    raise ConfigError(
      "TwoTower.item can have no context_gate: an item's vector is the same for"
      " all requests."
    )
