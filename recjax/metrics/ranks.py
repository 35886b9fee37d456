r"""Where the targets of a user stand among the candidates, with all ties.

A metric of a ranked list needs no list: for each target it is enough to know
how many candidates score higher and how many score the same. Ties are then
settled in one of three ways.

* `expected`: the mean over all orders of the tied candidates, each equally
  likely. A constant scorer scores exactly chance.
* `optimistic`: targets stand before the candidates tied with them.
* `pessimistic`: targets stand after the candidates tied with them.

References:
  Frank McSherry, Marc Najork. Computing Information Retrieval Performance
  Measures Efficiently in the Presence of Tied Scores. ECIR 2008.
  https://doi.org/10.1007/978-3-540-78646-7_38
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from recjax.errors import check_choice

TIE_RULES = ("expected", "optimistic", "pessimistic")


class Ranks(NamedTuple):
  """The surroundings of each target; every field is [*batch, item].

  Entries of padding are arbitrary: the metrics read them through `where`.

  Attributes:
    greater: candidates that score strictly higher, other targets included.
    tied: other candidates with the same score, other targets included.
    greater_targets: targets among `greater`.
    tied_targets: targets among `tied`.
    tied_before: targets among `tied` that stand earlier in the list.
  """

  greater: Int[Array, "*batch item"]
  tied: Int[Array, "*batch item"]
  greater_targets: Int[Array, "*batch item"]
  tied_targets: Int[Array, "*batch item"]
  tied_before: Int[Array, "*batch item"]


def ranks_from_counts(
  greater: Int[Array, "*batch item"],
  tied: Int[Array, "*batch item"],
  target_scores: Num[Array, "*batch item"],
  where: Bool[Array, "*batch item"],
) -> Ranks:
  """Completes counts over all candidates with counts over the targets.

  Args:
    greater: candidates that score strictly higher than each target.
    tied: other candidates that score the same.
    target_scores: the scores of the targets.
    where: False for padding.

  Returns:
    The ranks.
  """
  size = target_scores.shape[-1]
  mine, other = target_scores[..., :, None], target_scores[..., None, :]
  valid = where[..., None, :]
  index = jnp.arange(size)
  before = jnp.broadcast_to(
    index[None, :] < index[:, None], (*where.shape, size)
  )
  same = (other == mine) & valid
  count = lambda mask: jnp.sum(mask, -1, dtype=jnp.int32)
  itself = jnp.broadcast_to(jnp.eye(size, dtype=bool), same.shape)
  return Ranks(
    greater,
    tied,
    count((other > mine) & valid),
    count(same & ~itself),
    count(same & before),
  )


def ranks_from_scores(
  scores: Num[Array, "*batch cand"],
  labels: Bool[Array, "*batch cand"],
  where: Bool[Array, "*batch cand"] | None = None,
) -> tuple[Ranks, Bool[Array, "*batch cand"]]:
  """Ranks of the labelled candidates of a scored list.

  The comparison is quadratic in the list's length: meant for short lists. For
  whole catalogues see `recjax.evaluation.ranking`.

  Args:
    scores: one score a candidate.
    labels: True for targets.
    where: False for padding, which neither ranks nor is ranked.

  Returns:
    The ranks of all candidates, and the mask that marks the targets among
    them; both go to a metric.
  """
  where = jnp.ones_like(labels) if where is None else where
  mine, other = scores[..., :, None], scores[..., None, :]
  valid = where[..., None, :]
  greater = jnp.sum((other > mine) & valid, -1, dtype=jnp.int32)
  same = jnp.sum((other == mine) & valid, -1, dtype=jnp.int32)
  targets = labels & where
  return ranks_from_counts(greater, same - 1, scores, targets), targets


def resolve_ties(ranks: Ranks, *, ties: str) -> Ranks:
  """Ranks without ties under a deterministic rule.

  With r tied targets in a group of n candidates below G others, the targets
  take the positions G+1..G+r (optimistic) or G+n-r+1..G+n (pessimistic).

  Args:
    ranks: ranks, with ties.
    ties: "expected" leaves the ties to the metric.

  Returns:
    The ranks, with `tied` all zero unless `ties` is "expected".

  Raises:
    ConfigError: an unknown rule.
  """
  check_choice("ties", ties, TIE_RULES)
  if ties == "expected":
    return ranks
  shift = ranks.tied_before
  if ties == "pessimistic":
    shift = shift + ranks.tied - ranks.tied_targets
  zero = jnp.zeros_like(ranks.tied)
  return Ranks(
    ranks.greater + shift,
    zero,
    ranks.greater_targets + ranks.tied_before,
    zero,
    zero,
  )


class MeanState(NamedTuple):
  """A sum and a count: a mean that grows and merges."""

  total: Float[Array, ""]
  count: Float[Array, ""]


def empty_mean() -> MeanState:
  """The mean of nothing."""
  return MeanState(jnp.zeros(()), jnp.zeros(()))


def add_to_mean(
  state: MeanState,
  values: Float[Array, "*batch"],
  where: Bool[Array, "*batch"] | None = None,
) -> MeanState:
  """Adds the values that `where` marks (all, without it)."""
  where = jnp.ones(values.shape, bool) if where is None else where
  return MeanState(
    state.total + jnp.sum(jnp.where(where, values, 0.0)),
    state.count + jnp.sum(where, dtype=state.count.dtype),
  )


def merge_means(a: MeanState, b: MeanState) -> MeanState:
  """The mean of both sets of values together."""
  return MeanState(a.total + b.total, a.count + b.count)


def mean_value(state: MeanState) -> Float[Array, ""]:
  """Sum / count; 0 for the mean of nothing."""
  return state.total / jnp.maximum(state.count, 1.0)
