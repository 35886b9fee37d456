r"""How many draws stand above a target, and out of how many items they came.

Of the m items that may be drawn for a query, G score above its target, so that
its rank in the catalogue is R = G + 1. Of n uniform draws g are above:

  with replacement     P(g | G) = C(n, g) (G / m)^g (1 - G / m)^(n - g)
  without replacement  P(g | G) = C(G, g) C(m - G, n - g) / C(m, n)

The pool of m items differs between queries, for what a user has seen is not
drawn. Pools are put into bins of 5%, which is exact where they are few.

Ties that the protocol leaves open are settled evenly: a target with t tied
draws counts as 1 / (t + 1) of a target with g, g + 1, ..., g + t draws above.
A random order of tied items gives a random order of the tied draws, so that no
bias comes of it. Drawn copies of a target itself are above it under no rule:
in the catalogue it stands once.
"""

import dataclasses

import numpy as np
import scipy.sparse
import scipy.special
import scipy.stats
from jaxtyping import Float, Int

from recjax.data.ragged import Ragged
from recjax.evaluation.ranking import RankedTargets

_BIN_RATIO = 1.05
_MAX_EXACT_BINS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class SampledRanks:
  """What uniform draws told of targets, one a query.

  Attributes:
    above: draws above each target.
    tied: draws tied with it, where the tie rule leaves that open; else 0.
    pool_size: m, how many items could be drawn; maybe the target among them.
    user_id: of each query.
    num_draws: n.
    with_replacement: whether an item may be drawn twice.
  """

  above: Int[np.ndarray, " query"]
  tied: Int[np.ndarray, " query"]
  pool_size: Int[np.ndarray, " query"]
  user_id: Int[np.ndarray, " query"]
  num_draws: int
  with_replacement: bool

  def bins(self) -> tuple[Int[np.ndarray, " query"], Int[np.ndarray, " bin"]]:
    """The bin of each query's pool, and the pool that stands for each bin."""
    distinct, place = np.unique(self.pool_size, return_inverse=True)
    if len(distinct) <= _MAX_EXACT_BINS:
      return place, distinct
    step = np.log(self.pool_size / distinct[0]) / np.log(_BIN_RATIO)
    _, place = np.unique(step.astype(np.int64), return_inverse=True)
    total = np.bincount(place, self.pool_size)
    return place, np.rint(total / np.bincount(place)).astype(np.int64)

  def cells(
    self,
  ) -> tuple[
    Int[np.ndarray, " cell"],
    Int[np.ndarray, " cell"],
    scipy.sparse.csr_matrix,
  ]:
    """All that was seen: pairs of a bin and a number of draws above.

    Returns:
      The bin of each cell, its draws above, and the share [query, cell] that
      each query has in it; rows sum to 1.
    """
    place, _ = self.bins()
    query = np.repeat(np.arange(len(place)), self.tied + 1)
    first = np.cumsum(self.tied + 1) - (self.tied + 1)
    above = self.above[query] + np.arange(len(query)) - first[query]
    key = place[query] * (self.num_draws + 1) + above
    key, cell = np.unique(key, return_inverse=True)
    shares = scipy.sparse.csr_matrix(
      (1.0 / (self.tied[query] + 1), (query, cell)), (len(place), len(key))
    )
    bin_of, above_of = np.divmod(key, self.num_draws + 1)
    return bin_of, above_of, shares


def sampled_ranks(
  groups: list[RankedTargets],
  targets: Ragged,
  drawn: Int[np.ndarray, "query cand"],
  *,
  pool_size: Int[np.ndarray, " query"],
  user_id: Int[np.ndarray, " query"],
  with_replacement: bool,
  ties: str,
) -> SampledRanks | None:
  """Reads counted ranks among uniform draws.

  Args:
    groups: of `rank_among_candidates`.
    targets: distinct item ids of each query, as they were ranked.
    drawn: the draws of each query.
    pool_size: how many items each query's draws come from.
    user_id: of each query.
    with_replacement: how they were drawn.
    ties: the tie rule.

  Returns:
    The draws above each target; None where a query has several targets, whose
    metrics hang on all of their ranks together.
  """
  if (targets.lengths != 1).any():
    return None
  above, tied = (np.zeros(len(targets), np.int64) for _ in range(2))
  for group in groups:
    above[group.rows] = np.asarray(group.ranks.greater)[:, 0]
    tied[group.rows] = np.asarray(group.ranks.tied)[:, 0]
  tied -= np.count_nonzero(drawn == targets.values[:, None], axis=1)
  if ties != "expected":
    above = above + tied if ties == "pessimistic" else above
    tied = np.zeros_like(tied)
  return SampledRanks(
    above, tied, pool_size, user_id, drawn.shape[1], with_replacement
  )


def draw_probabilities(
  above: Int[np.ndarray, "*shape"],
  items_above: Int[np.ndarray, "*other"],
  pool_size: Int[np.ndarray, "*pools"] | int,
  *,
  num_draws: int,
  with_replacement: bool,
) -> Float[np.ndarray, "*all"]:
  """P(g | G) of the module, broadcast; 0 where G > m.

  Args:
    above: g.
    items_above: G.
    pool_size: m.
    num_draws: n.
    with_replacement: how they are drawn.
  """
  possible = items_above <= pool_size
  inside = np.minimum(items_above, pool_size)
  if with_replacement:
    found = scipy.stats.binom.pmf(above, num_draws, inside / pool_size)
    return np.where(possible, found, 0.0)
  rest, below = pool_size - inside, num_draws - above
  possible = possible & (above <= inside) & (below <= rest)
  # From one table: scipy.stats.hypergeom takes minutes for a million cells.
  log_factorial = scipy.special.gammaln(np.arange(np.max(pool_size) + 1) + 1.0)
  log_choices = lambda num, chosen: (
    log_factorial[num]
    - log_factorial[np.minimum(chosen, num)]
    - log_factorial[np.maximum(num - chosen, 0)]
  )
  log_found = log_choices(inside, above) + log_choices(rest, below)
  log_found = log_found - log_choices(np.asarray(pool_size), num_draws)
  return np.exp(np.where(possible, log_found, -np.inf))
