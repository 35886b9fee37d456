"""The lists that users get under a protocol: the k best items of each query.

The catalogue is always ranked as a whole, also where the metrics of a protocol
rank targets among drawn candidates. What a user has seen is left out as the
protocol says, and a target stays a candidate where it was seen before, so that
a hit of a list is a hit of the protocol. Equal scores stand in the order of
their ids.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Num

from recjax.data.ragged import Ragged
from recjax.errors import ConfigError
from recjax.evaluation.item_blocks import power_of_two, without
from recjax.evaluation.ranking import Queries
from recjax.retrieval.scorers import PopularityScorer, Scorer
from recjax.retrieval.topk import top_k

# Few widths, for each is compiled.
_LEAST_SEEN = 64


@dataclasses.dataclass(frozen=True, eq=False)
class TopLists:
  """The lists of all queries, the best item first; 0 is no item.

  Attributes:
    items: those of the scorer.
    popular: those of ranking by popularity, of the same candidates.
    catalogue: of each item id, whether it may stand in a list at all.
  """

  items: Int[np.ndarray, "query k"]
  popular: Int[np.ndarray, "query k"]
  catalogue: Bool[np.ndarray, " vocab"]


@dataclasses.dataclass(frozen=True, eq=False)
class ListMaker:
  """Who may get what.

  Attributes:
    targets: distinct item ids of each query, which are always candidates.
    seen: distinct item ids of each query that are none.
    num_items: the size of the catalogue.
    among: ids in increasing order that lists are made of; None is all.
    k: items a list.
    user_block: queries scored at once.
    item_block: items scored at once.
    watch: wraps the list of blocks, to show progress.
  """

  targets: Ragged
  seen: Ragged
  num_items: int
  among: Int[np.ndarray, " cand"] | None
  k: int
  user_block: int = 512
  item_block: int = 2048
  watch: Callable = lambda blocks: blocks

  def __post_init__(self):
    num = self.num_items if self.among is None else len(self.among)
    if not 1 <= self.k <= num:
      raise ConfigError(
        f"lists of {self.k} items are asked for, but the catalogue has {num};"
        f" ListReport.k must lie in [1, {num}]."
      )

  def make(
    self,
    scorer: Scorer,
    queries: Queries,
    popularity: Num[np.ndarray, " vocab"],
  ) -> TopLists:
    """The lists of a scorer, and those of popularity.

    Args:
      scorer: what ranks.
      queries: gives the queries at some positions.
      popularity: training counts by item id.
    """
    popular = PopularityScorer(jnp.asarray(popularity, jnp.float32))
    nobody = lambda rows: jnp.zeros((len(rows), 1))
    return TopLists(
      self._lists(scorer, queries),
      self._lists(popular, nobody),
      self._catalogue,
    )

  @property
  def _catalogue(self) -> Bool[np.ndarray, " vocab"]:
    allowed = np.full(self.num_items + 1, self.among is None)
    allowed[0] = False
    if self.among is not None:
      allowed[self.among] = True
    return allowed

  def _lists(
    self, scorer: Scorer, queries: Queries
  ) -> Int[np.ndarray, "query k"]:
    excluded = without(self.seen, self.targets, self.num_items)
    # Users who have seen a lot stand together, and make none else pay.
    order = np.argsort(excluded.lengths, kind="stable")
    size = min(self.user_block, power_of_two(len(order)))
    allowed = None if self.among is None else jnp.asarray(self._catalogue)
    out = np.zeros((len(order), self.k), np.int32)
    starts = list(range(0, len(order), size))
    for start in self.watch(starts):
      rows = order[start : start + size]
      padded = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
      few = excluded.take(padded)
      width = max(_LEAST_SEEN, power_of_two(int(few.lengths.max())))
      _, found = top_k(
        scorer,
        queries(padded),
        jnp.asarray(few.padded(width), jnp.int32),
        allowed,
        k=self.k,
        num_items=self.num_items,
        item_block=self.item_block,
      )
      out[rows] = np.asarray(found)[: len(rows)]
    return out
