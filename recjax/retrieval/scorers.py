"""Things that rank: pytrees that turn queries and item ids into scores.

A scorer goes through `jax.jit` as an argument, so that a new set of weights
does not compile anything anew. One evaluation serves them all.
"""

from typing import Protocol, runtime_checkable

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
