"""Things that rank: pytrees that turn queries and item ids into scores.

A scorer goes through `jax.jit` as an argument, so that a new set of weights
does not compile anything anew. One evaluation serves them all.

A jitted function that takes a scorer must also take `scorer_kind(scorer)` as a
static argument, or one scorer may be run with the code of another.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Num


@runtime_checkable
class Scorer(Protocol):
  """Anything that scores items for queries."""

  def scores(
    self, queries: Num[Array, "batch *rest"], item_ids: Int[Array, " cand"]
  ) -> Float[Array, "batch cand"]:
    """Scores of the same items for every query."""
    ...

  def candidate_scores(
    self,
    queries: Num[Array, "batch *rest"],
    item_ids: Int[Array, "batch cand"],
  ) -> Float[Array, "batch cand"]:
    """Scores of each query's own candidates."""
    ...


@struct.dataclass
class DotProductScorer:
  """score(q, i) = <q, v_i>.

  Attributes:
    item_vectors: one row an id; row 0 is padding.
  """

  item_vectors: Float[Array, "vocab dim"]

  def scores(
    self, queries: Float[Array, "batch dim"], item_ids: Int[Array, " cand"]
  ) -> Float[Array, "batch cand"]:
    """Scores of the same items for every query."""
    return queries @ self.item_vectors[item_ids].T

  def candidate_scores(
    self,
    queries: Float[Array, "batch dim"],
    item_ids: Int[Array, "batch cand"],
  ) -> Float[Array, "batch cand"]:
    """Scores of each query's own candidates."""
    return jnp.einsum("bd,bcd->bc", queries, self.item_vectors[item_ids])


@struct.dataclass
class InterestScorer:
  """score(q, i) = max_k <q_k, v_i>: a query of several vectors.

  Attributes:
    item_vectors: one row an id; row 0 is padding.
  """

  item_vectors: Float[Array, "vocab dim"]

  def scores(
    self, queries: Float[Array, "batch k dim"], item_ids: Int[Array, " cand"]
  ) -> Float[Array, "batch cand"]:
    """Scores of the same items for every query."""
    batch, num, dim = queries.shape
    flat = queries.reshape(-1, dim) @ self.item_vectors[item_ids].T
    return jnp.max(flat.reshape(batch, num, -1), axis=1)

  def candidate_scores(
    self,
    queries: Float[Array, "batch k dim"],
    item_ids: Int[Array, "batch cand"],
  ) -> Float[Array, "batch cand"]:
    """Scores of each query's own candidates."""
    vectors = self.item_vectors[item_ids]
    return jnp.max(jnp.einsum("bkd,bcd->bkc", queries, vectors), axis=1)


@struct.dataclass
class PopularityScorer:
  """score(q, i) = how often item i was seen in training, whatever the query.

  Attributes:
    counts: one number an id; entry 0 is padding.
  """

  counts: Float[Array, " vocab"]

  def scores(
    self, queries: Num[Array, "batch *rest"], item_ids: Int[Array, " cand"]
  ) -> Float[Array, "batch cand"]:
    """Scores of the same items for every query."""
    row = self.counts[item_ids]
    return jnp.broadcast_to(row[None, :], (queries.shape[0], row.shape[0]))

  def candidate_scores(
    self,
    queries: Num[Array, "batch *rest"],
    item_ids: Int[Array, "batch cand"],
  ) -> Float[Array, "batch cand"]:
    """Scores of each query's own candidates."""
    del queries
    return self.counts[item_ids]


def scorer_kind(scorer: Scorer) -> tuple[type, ...]:
  """The classes that a scorer is made of, as a static argument of `jax.jit`.

  JAX 0.10 holds two tree structures for equal that differ only in the class
  of a registered dataclass, and `jax.jit` then takes the compiled code of one
  for the other, at random, where their arrays have equal shapes.

  Args:
    scorer: any scorer.

  Returns:
    The class of every inner node.
  """
  kinds, todo = [], [jax.tree.structure(scorer)]
  while todo:
    node = todo.pop()
    data = node.node_data()
    if data is not None:
      kinds.append(data[0])
    todo += node.children()
  return tuple(kinds)
