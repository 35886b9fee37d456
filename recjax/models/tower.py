"""One tower of a two-tower model: what is known of a user or an item, in.

  x = [e_1; ...; e_n; numbers; texts; vectors; history state]
  v = W MLP([gate(x, c); c]) + b

where c is what is known of the request, and texts and vectors may be fused.

Each part is there only where the features ask for it. A tower without hidden
layers and without projection is the vector of its only feature: matrix
factorization. A tower of several interests has one vector for each, out of the
same layers.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_range
from recjax.layers.dropout import dropout
from recjax.layers.experts import MixtureOfExperts
from recjax.layers.gates import ContextGate, LongShortGate
from recjax.layers.histories import MeanHistory
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
    top_k_experts: of these, so many count for a row; 0 is all.
    project: a last linear layer of width `dim`; without it the last hidden
      layer is the vector.
    context_gate: what is known of the request scales all other inputs.
    text: turns the tokens of a text into a vector.
    fusion: joins texts and vectors of an item or user; None sets them side by
      side, vectors after a linear layer.
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
  top_k_experts: int = 0
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
    top_k = self.top_k_experts
    check_range("Tower.top_k_experts", top_k, 0, self.num_experts, integer=True)
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

  @property
  def reads_mean(self) -> bool:
    """Whether all it reads of a history is the mean of its items."""
    return (
      isinstance(self.history, MeanHistory)
      and self.short_history is None
      and not self.history_dropout_rate
    )

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
    context = self._context(inputs, deterministic)
    if self.interests is None:
      if self.history is not None:
        known = parts + context
        parts.append(self._history_state(inputs, known, deterministic))
      return self._vector(parts, context, inputs.where, deterministic)
    history, where = self._checked_history(inputs, deterministic)
    interests = self.interests(history, where, deterministic=deterministic)
    batch, num = interests.shape[:2]
    parts, context, rows_where = jax.tree.map(
      lambda x: jnp.repeat(x, num, axis=0), (parts, context, inputs.where)
    )
    parts.append(interests.reshape(batch * num, -1))
    vectors = self._vector(parts, context, rows_where, deterministic)
    return vectors.reshape(batch, num, -1)

  def _features(
    self, inputs: TowerInputs, deterministic: bool
  ) -> list[Float[Array, "batch _"]]:
    """All that is known but the history; in the order of names."""
    parts = [inputs.fields[name] for name in sorted(inputs.fields)]
    if inputs.numbers is not None:
      parts.append(inputs.numbers)
    texts = self._texts(inputs, deterministic, "text")
    if self.fusion is None:
      return [*parts, *texts.values(), *self._vectors(inputs, "modality")]
    # A vector of zeros is what a missing one is encoded as.
    present = {
      name: jnp.any(vector != 0, axis=-1)
      for name, vector in inputs.modalities.items()
    }
    present |= {name: inputs.tokens[name][1].any(axis=1) for name in texts}
    if not present:
      raise ConfigError(
        "Tower.fusion joins texts and vectors, of which there are none: give"
        " the side features of Text or Vector, or leave fusion away."
      )
    return [*parts, self.fusion({**inputs.modalities, **texts}, present)]

  def _context(
    self, inputs: TowerInputs, deterministic: bool
  ) -> list[Float[Array, "batch _"]]:
    """All that is known of the request; in the order of names."""
    context = inputs.context
    if context is None:
      return []
    parts = [context.fields[name] for name in sorted(context.fields)]
    if context.numbers is not None:
      parts.append(context.numbers)
    texts = self._texts(context, deterministic, "context_text")
    return [
      *parts,
      *texts.values(),
      *self._vectors(context, "context_modality"),
    ]

  def _texts(
    self, inputs: TowerInputs, deterministic: bool, prefix: str
  ) -> dict[str, Float[Array, "batch _"]]:
    out = {}
    for name in sorted(inputs.tokens):
      text = self.text.clone(name=f"{prefix}_{name}", parent=self)
      out[name] = text(*inputs.tokens[name], deterministic=deterministic)
    return out

  def _vectors(
    self, inputs: TowerInputs, prefix: str
  ) -> list[Float[Array, "batch dim"]]:
    return [
      nn.Dense(self.dim, name=f"{prefix}_{name}")(inputs.modalities[name])
      for name in sorted(inputs.modalities)
    ]

  def _checked_history(
    self, inputs: TowerInputs, deterministic: bool
  ) -> tuple[Float[Array, "batch *len dim"], Bool[Array, "batch len"]]:
    if inputs.history is None or inputs.history_where is None:
      raise ConfigError(
        "the tower reads a history and is given none: set"
        " RetrievalExperiment.history, or leave history and interests of the"
        " tower away."
      )
    if inputs.history.ndim == 2 and not self.reads_mean:
      raise ConfigError(
        "the tower reads the items of a history one by one, and is given their"
        " mean."
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
    if history.ndim == 2:
      return history
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
    context: list[Array],
    where: Bool[Array, " rows"] | None,
    deterministic: bool,
  ) -> Float[Array, "rows dim"]:
    if self.context_gate and not context:
      raise ConfigError(
        "Tower.context_gate needs features of the context: set"
        " RetrievalExperiment.context_features. Item towers see none."
      )
    if not parts and not context:
      raise ConfigError(
        "a tower needs a feature or a history; got none. See user_features and"
        " item_features of RetrievalExperiment."
      )
    if self.context_gate and parts:
      gate = ContextGate(name="context_gate")
      gated = gate(
        jnp.concatenate(parts, axis=-1), jnp.concatenate(context, axis=-1)
      )
      parts = [gated]
    x = jnp.concatenate([*parts, *context], axis=-1)
    if self.num_experts:
      layers = MixtureOfExperts(
        self.hidden,
        num_experts=self.num_experts,
        top_k=self.top_k_experts,
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
    x = layers(x, deterministic=deterministic, where=where)
    return nn.Dense(self.dim, name="output")(x) if self.project else x


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
