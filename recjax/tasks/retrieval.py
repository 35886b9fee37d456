"""Two towers in training: events in, a sum of losses out.

A batch holds user, item and what is known of the request. Each positive is
compared with candidates: the positives of the other rows, items drawn once for
the whole batch, items of the row's own (hard ones), and vectors remembered
from batches before. All items of a row stand side by side, [batch, 1 + cand],
so that one look-up and one run of the item tower serve them all.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from recjax.data.ragged import Ragged
from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.groups import TableSettings
from recjax.errors import ConfigError, check_choice, check_range
from recjax.layers.interests import label_aware_attention
from recjax.layers.tower_inputs import TowerInputs
from recjax.tasks.candidates import REMOVE, CandidateSources
from recjax.tasks.history_windows import HistoryWindow
from recjax.tasks.pairs import USER
from recjax.tasks.retrieval_objectives import RetrievalObjective
from recjax.tasks.sides import (
  CONTEXT,
  HISTORY,
  ITEM_SIDE,
  USER_SIDE,
  Side,
  features_of,
  make_side_collections,
  tower_inputs,
)
from recjax.types import ITEM, Batch, Params

PLACE = "place"
"""Of an event among those of its user, see `HistoryWindow.places`."""
_OWN = "retrieval"  # Variables of the candidates, beside those of the model.


@dataclasses.dataclass(frozen=True)
class Retrieval:
  """Two towers with their tables, a loss and negatives.

  Attributes:
    model: the towers, a `models.two_tower.TwoTower`.
    objective: the loss.
    negatives: where candidates come from.
    num_users: ids run from 1 to it.
    num_items: ids run from 1 to it.
    user: features of users.
    context: features of requests.
    item: features of items.
    history: what the user tower sees of the items before.
    embedding_dim: width of the tables.
    feature_dims: (feature, width) pairs for features that differ.
    tables: (side, settings) pairs; the side "" is for all others.
    remove_hits: candidates left out: "target", "touched" or "none".
    interest_power: see `label_aware_attention`.
  """

  model: Any
  objective: RetrievalObjective
  negatives: tuple[Any, ...]
  num_users: int
  num_items: int
  user: Side
  context: Side
  item: Side
  history: HistoryWindow | None = None
  embedding_dim: int = 64
  feature_dims: tuple[tuple[str, int], ...] = ()
  tables: tuple[tuple[str, TableSettings], ...] = (("", TableSettings()),)
  remove_hits: str = "target"
  interest_power: float = float("inf")

  def __post_init__(self):
    check_range("Retrieval.num_items", self.num_items, 2, integer=True)
    check_choice("remove_hits", self.remove_hits, REMOVE)
    check_range("Retrieval.embedding_dim", self.embedding_dim, 1, integer=True)
    if self.model.user.reads_history != (self.history is not None):
      raise ConfigError(
        "the user tower reads a history exactly where there is one: set"
        " RetrievalExperiment.history and history or interests of"
        f" TwoTower.user, or none of them; got {self.history!r} and the tower"
        f" {'reads one' if self.model.user.reads_history else 'reads none'}."
      )
    check_range("interest_power", self.interest_power, 0.0)
    if self.interest_power != math.inf and self.model.user.interests is None:
      raise ConfigError(
        "interest_power chooses among the interests of a user, and"
        " TwoTower.user has none."
      )
    _ = self._collections, self.sources

  # -- Parameters -----------------------------------------------------------

  @property
  def _user_sides(self) -> dict[str, Side]:
    return {USER_SIDE: self.user, CONTEXT: self.context}

  @property
  def _history_features(self) -> tuple[str, ...]:
    return () if self.history is None else self.history.features

  @functools.cached_property
  def _collections(
    self,
  ) -> tuple[EmbeddingCollection, EmbeddingCollection, dict[str, str]]:
    return make_side_collections(
      {**self._user_sides, ITEM_SIDE: self.item},
      self._history_features,
      embedding_dim=self.embedding_dim,
      feature_dims=dict(self.feature_dims),
      settings=dict(self.tables),
      sum_history=self.model.user.reads_mean,
    )

  @property
  def dense(self) -> EmbeddingCollection:
    """The tables that optax trains."""
    return self._collections[0]

  @property
  def sparse(self) -> EmbeddingCollection:
    """The tables that have a row-wise optimizer."""
    return self._collections[1]

  @functools.cached_property
  def sources(self) -> CandidateSources:
    """Where candidates come from, and how they are corrected."""
    return CandidateSources(
      self.negatives, self.objective, self.num_items, self.remove_hits
    )

  def init(self, key: Key[Array, ""]) -> tuple[Params, dict[str, Any]]:
    """Draws towers and dense tables; and what no optimizer trains."""
    model_key, table_key = jax.random.split(key)
    params: dict[str, Any] = {}
    if self.dense.tables:
      params["tables"] = self.dense.init(table_key)
    user, item = self._empty_inputs()
    variables = dict(self.model.init(model_key, user, item))
    params["model"] = variables.pop("params", {})
    width = jax.eval_shape(
      lambda: self.model.apply(
        {"params": params["model"], **variables}, user, item
      )
    )["item"].shape[-1]
    own = self.sources.init(width)
    return params, variables | ({_OWN: own} if own else {})

  def _empty_inputs(self) -> tuple[TowerInputs, TowerInputs]:
    """Inputs of two rows of zeros, of the right widths."""
    dims = dict(self.feature_dims)
    embeddings: dict[str, Array] = {}
    examples: dict[str, Array] = {}
    sides = {**self._user_sides, ITEM_SIDE: self.item}
    for prefix, side in sides.items():
      for field in side.fields:
        name = f"{prefix}/{field.name}"
        shape = (2, 1) if field.name in side.tokens else (2,)
        dim = dims.get(field.name, self.embedding_dim)
        examples[name] = jnp.zeros(shape, jnp.int32)
        embeddings[name] = jnp.zeros((*shape, dim))
      for name in side.numbers:
        examples[f"{prefix}/{name}"] = jnp.zeros((2,))
      for field in side.vectors:
        examples[f"{prefix}/{field.name}"] = jnp.zeros((2, field.dim))
    if self.history is not None:
      shape = (2, self.history.max_len)
      examples[f"{HISTORY}/where"] = jnp.zeros(shape, bool)
      for name in self._history_features:
        dim = dims.get(name, self.embedding_dim)
        is_sum = self.model.user.reads_mean
        embeddings[f"{HISTORY}/{name}"] = jnp.zeros(
          (2, dim) if is_sum else (*shape, dim)
        )
    return self._inputs(embeddings, examples)

  def _inputs(
    self, embeddings: Mapping[str, Array], examples: Mapping[str, Array]
  ) -> tuple[TowerInputs, TowerInputs]:
    """Those of users, and those of all items of all rows."""
    where = examples.get("where")
    candidates = examples.get("candidates")
    user = self._user_inputs(embeddings, examples)
    item = tower_inputs(
      {ITEM_SIDE: self.item},
      embeddings,
      examples,
      where=None
      if where is None or candidates is None
      else (where[:, None] & (candidates > 0)).reshape(-1),
    )
    return user, item

  def _user_inputs(self, embeddings, examples) -> TowerInputs:
    return tower_inputs(
      self._user_sides,
      embeddings,
      examples,
      history=self._history_features,
      where=examples.get("where"),
    )

  # -- Training -------------------------------------------------------------

  def constants(
    self, train_items: Ragged, counts: Num[np.ndarray, " vocab"]
  ) -> dict[str, np.ndarray]:
    """Arrays that every step reads, but for the features.

    Args:
      train_items: training items of each user id; row 0 is empty.
      counts: training count of every item id.
    """
    out = self.sources.constants(train_items, counts)
    if self.history is not None:
      out |= self.history.constants(train_items)
    return out

  def micro_batches(self, batch: Batch) -> tuple[Batch, Int[Array, ""]]:
    """The batch as one part: its rows are each other's candidates."""
    return jax.tree.map(lambda x: x[None], batch), jnp.int32(1)

  def examples(self, part: Batch, constants: Any, key: Key[Array, ""]) -> Batch:
    """Users, requests and all items of each row, with their features.

    Args:
      part: "user_id", "item_id", features of the request, "place" if there is
        a history, and maybe "where".
      constants: of `constants`, and the columns of features.
      key: of the draws.

    Returns:
      Features by "side/name"; "user_id" and "where" [batch]; "candidates"
      [batch, 1 + cand]: the positive, then what was drawn.
    """
    key, _ = jax.random.split(key)
    user, item = part[USER], part[ITEM]
    where = part.get("where", jnp.ones(user.shape, bool))
    drawn = self.sources.draw(
      key, {USER: user, ITEM: item, "where": where}, constants
    )
    candidates = jnp.concatenate([item[:, None], drawn], axis=1)
    out = {USER: user, "candidates": candidates, "where": where}
    out |= {
      f"{CONTEXT}/{n}": part[f"{CONTEXT}/{n}"] for n in self.context.names
    }
    out |= features_of(self.user.names, USER_SIDE, constants, user)
    out |= features_of(self.item.names, ITEM_SIDE, constants, candidates)
    if self.history is not None:
      ids, there = self.history.windows(user, part[PLACE], constants)
      out |= self._history_of(ids, there, constants)
    return out

  def _history_of(self, ids, where, constants) -> dict[str, Array]:
    features = features_of(
      self._history_features, ITEM_SIDE, constants, ids, prefix=HISTORY
    )
    return features | {f"{HISTORY}/where": where}

  def loss(
    self,
    params: Params,
    embeddings: dict[str, Float[Array, "..."]],
    variables: dict[str, Any],
    examples: Batch,
    constants: Any,
    key: Key[Array, ""],
  ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], dict[str, Any]]]:
    """The sum of the losses, the number of positives, and new variables.

    Args:
      params: of `init`.
      embeddings: of `sparse`.
      variables: of `init`, or of the step before.
      examples: of `examples`.
      constants: of `constants`.
      key: for dropout.

    Returns:
      Sum, and (weight, variables).
    """
    _, key = jax.random.split(key)
    own = variables.get(_OWN, {})
    of_model = {k: v for k, v in variables.items() if k != _OWN}
    inputs = self._inputs(
      self._embedded(params.get("tables", {}), embeddings, examples), examples
    )
    out, of_model = self.model.apply(
      {"params": params["model"], **of_model},
      *inputs,
      deterministic=False,
      mutable=list(of_model),
      rngs={"dropout": key},
    )
    where = examples["where"]
    items = out["item"].reshape(*examples["candidates"].shape, -1)
    user = out["user"]
    if user.ndim == 3:
      user = label_aware_attention(user, items[:, 0], power=self.interest_power)
    losses, own = self.sources.losses(
      user * out["inverse_temperature"], items, own, examples, constants
    )
    total = jnp.sum(jnp.where(where, losses, 0.0))
    weight = jnp.sum(where).astype(jnp.float32)
    return total, (weight, dict(of_model) | ({_OWN: own} if own else {}))

  def _embedded(self, tables, embeddings, examples) -> dict[str, Array]:
    """All embeddings by their names in examples: sparse ones and dense ones."""
    if self.dense.tables:
      embeddings = embeddings | self.dense.lookup(tables, examples)
    names = self._collections[2]
    return {name: embeddings[output] for name, output in names.items()}

  # -- Serving --------------------------------------------------------------

  def user_vectors(
    self, weights: Params, columns: Mapping[str, Array], batch: Batch
  ) -> Float[Array, "batch *k dim"]:
    """The vectors of users, without dropout.

    Args:
      weights: `TrainState.weights`.
      columns: of features, by "side/name".
      batch: "user_id", features of the request, and "history" [batch, len],
        item ids left-aligned, if the tower reads one.
    """
    examples = {
      f"{CONTEXT}/{n}": batch[f"{CONTEXT}/{n}"] for n in self.context.names
    }
    examples |= features_of(self.user.names, USER_SIDE, columns, batch[USER])
    if self.history is not None:
      ids = batch["history"]
      examples |= self._history_of(ids, ids > 0, columns)
    inputs = self._user_inputs(self._served(weights, examples), examples)
    return self._apply(weights, inputs, "users")

  def item_vectors(
    self, weights: Params, columns: Mapping[str, Array], batch: Batch
  ) -> Float[Array, "batch dim"]:
    """The vectors of items, without dropout.

    Args:
      weights: `TrainState.weights`.
      columns: of features, by "side/name".
      batch: "item_id".
    """
    examples = features_of(self.item.names, ITEM_SIDE, columns, batch[ITEM])
    inputs = tower_inputs(
      {ITEM_SIDE: self.item}, self._served(weights, examples), examples
    )
    return self._apply(weights, inputs, "items")

  def _apply(self, weights, inputs: TowerInputs, method: str) -> Array:
    variables = {
      name: value
      for name, value in weights.items()
      if name not in ("model", "tables", _OWN)
    }
    vectors: Any = self.model.apply(
      {"params": weights["model"], **variables}, inputs, method=method
    )
    return vectors

  def _served(self, weights, examples) -> dict[str, Array]:
    """Embeddings of the features in `examples`; those of others are padding."""
    rows = jax.tree.leaves(examples)[0].shape[0]
    examples = dict(examples)
    for collection in (self.dense, self.sparse):
      for lookup in collection.lookups:
        shape = (rows,) if lookup.combiner == "none" else (rows, 1)
        examples.setdefault(lookup.feature, jnp.zeros(shape, jnp.int32))
        if lookup.weights:
          examples.setdefault(lookup.weights, jnp.zeros(shape))
    tables = weights.get("tables", {})
    found = self.sparse.lookup(tables, examples)
    return self._embedded(tables, found, examples)

  def describe(self) -> str:
    """Loss and negatives in a line."""
    negatives = ", ".join(repr(source) for source in self.negatives)
    return f"{self.objective!r} against {negatives}"
