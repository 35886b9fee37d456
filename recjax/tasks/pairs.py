"""Implicit feedback as labelled pairs: what a user touched against a sample.

Each positive (u, i) of a batch comes with k items that u never touched in
training, drawn anew at every step; all are labelled examples of a pointwise
model, as in He et al.: Neural Collaborative Filtering, WWW 2017,
https://arxiv.org/abs/1708.05031
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from recjax.data.ragged import Ragged
from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.groups import CategoricalField
from recjax.errors import ConfigError, check_range
from recjax.tasks.ranking import Ranking
from recjax.types import ITEM, Batch, Params

USER = "user_id"


@dataclasses.dataclass(frozen=True)
class Pairs:
  """A pointwise model of user and item, trained on sampled negatives.

  Attributes:
    ranking: with the fields "user_id" and "item_id", in this order.
    num_negatives: k, of each positive.
    max_redraws: how often a draw that the user has touched is drawn again;
      what is left after that stays, which for a user who touched a share p
      of the items happens with probability p^(max_redraws + 1).
  """

  ranking: Ranking
  num_negatives: int = 4
  max_redraws: int = 3

  def __post_init__(self):
    check_range("Pairs.num_negatives", self.num_negatives, 1, integer=True)
    check_range("Pairs.max_redraws", self.max_redraws, 0, integer=True)
    names = tuple(field.name for field in self.ranking.fields)
    if names != (USER, ITEM):
      raise ConfigError(
        f"Pairs.ranking.fields must be {USER!r} and {ITEM!r}; got {names}."
      )

  @staticmethod
  def make_fields(
    num_users: int, num_items: int
  ) -> tuple[CategoricalField, CategoricalField]:
    """The fields of a data set; ids from 1."""
    return (
      CategoricalField(USER, num_users + 1),
      CategoricalField(ITEM, num_items + 1),
    )

  @property
  def num_items(self) -> int:
    """Ids run from 1 to it."""
    return self.ranking.fields[1].num_ids - 1

  @property
  def sparse(self) -> EmbeddingCollection:
    """The tables that have a row-wise optimizer."""
    return self.ranking.sparse

  def init(self, key: Key[Array, ""]) -> tuple[Params, dict[str, Any]]:
    """As `Ranking.init`."""
    return self.ranking.init(key)

  def constants(self, train_items: Ragged) -> dict[str, np.ndarray]:
    """What is needed to know whom an item was touched by.

    Args:
      train_items: training items of each user, row u - 1 of user u.

    Returns:
      "touched": item ids, sorted within each user; "offsets": where each
      user's begin, indexed by user id, with the end of the last at the end.
    """
    users = np.repeat(np.arange(len(train_items)), train_items.lengths)
    order = np.lexsort((train_items.values, users))
    return {
      "touched": np.asarray(train_items.values, np.int32)[order],
      "offsets": np.concatenate([[0], train_items.offsets]).astype(np.int32),
    }

  def micro_batches(self, batch: Batch) -> tuple[Batch, Int[Array, ""]]:
    """The batch as one part."""
    return self.ranking.micro_batches(batch)

  def examples(self, part: Batch, constants: Any, key: Key[Array, ""]) -> Batch:
    """Positives and their negatives as labelled examples.

    Args:
      part: "user_id" and "item_id" [batch], and maybe "where".
      constants: of `constants`.
      key: of the draws.

    Returns:
      "user_id", "item_id", "label", "where", [batch * (1 + k)] each.
    """
    key, _ = jax.random.split(key)
    user, item = part[USER], part[ITEM]
    shape = (self.max_redraws + 1, user.shape[0], self.num_negatives)
    draws = jax.random.randint(key, shape, 1, self.num_items + 1, jnp.int32)
    negative = draws[0]
    for redrawn in draws[1:]:
      taken = is_touched(user[:, None], negative, constants)
      negative = jnp.where(taken, redrawn, negative)
    items = jnp.concatenate([item[:, None], negative], axis=1)
    where = part.get("where", jnp.ones(user.shape, bool))
    spread = lambda x: jnp.broadcast_to(x[:, None], items.shape).reshape(-1)
    label = jnp.zeros(items.shape).at[:, 0].set(1.0)
    return {
      USER: spread(user),
      ITEM: items.reshape(-1),
      "label": label.reshape(-1),
      "where": spread(where),
    }

  def loss(
    self,
    params: Params,
    embeddings: dict[str, Float[Array, "..."]],
    variables: dict[str, Any],
    examples: Batch,
    constants: Any,
    key: Key[Array, ""],
  ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], dict[str, Any]]]:
    """As `Ranking.loss`."""
    _, key = jax.random.split(key)
    return self.ranking.loss(
      params, embeddings, variables, examples, constants, key
    )


def is_touched(
  user: Int[Array, "batch 1"],
  item: Int[Array, "batch k"],
  constants: dict[str, Array],
) -> Bool[Array, "batch k"]:
  """Whether the user touched the item in training, by binary search."""
  touched, offsets = constants["touched"], constants["offsets"]
  low = jnp.broadcast_to(offsets[user], item.shape)
  end = jnp.broadcast_to(offsets[user + 1], item.shape)

  def halve(_, bounds):
    low, high = bounds
    middle = (low + high) // 2
    value = touched[jnp.minimum(middle, touched.shape[0] - 1)]
    right = (value < item) & (low < high)
    return (
      jnp.where(right, middle + 1, low),
      jnp.where(right | (low >= high), high, middle),
    )

  steps = max(1, int(touched.shape[0]).bit_length())
  low, _ = lax.fori_loop(0, steps, halve, (low, end))
  found = touched[jnp.minimum(low, touched.shape[0] - 1)]
  return (low < end) & (found == item)


@struct.dataclass
class PairScorer:
  """Scores pairs by running the model on each; queries are user ids.

  Attributes:
    weights: of training.
    ranking: the model, a static part.
  """

  weights: Any
  ranking: Ranking = struct.field(pytree_node=False)

  def scores(
    self, queries: Int[Array, " batch"], item_ids: Int[Array, " cand"]
  ) -> Float[Array, "batch cand"]:
    """Scores of the same items for every user."""
    shape = (queries.shape[0], item_ids.shape[0])
    return self.candidate_scores(queries, jnp.broadcast_to(item_ids, shape))

  def candidate_scores(
    self, queries: Int[Array, " batch"], item_ids: Int[Array, "batch cand"]
  ) -> Float[Array, "batch cand"]:
    """Scores of each user's own candidates."""
    users = jnp.broadcast_to(queries[:, None], item_ids.shape)
    flat = {USER: users.reshape(-1), ITEM: item_ids.reshape(-1)}
    return self.ranking.scores(self.weights, flat).reshape(item_ids.shape)
