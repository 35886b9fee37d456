"""How fast an index answers, and what recall each setting of it costs.

Latency is that of one query at a time, as a service asks; queries a second are
those of a batch, as an evaluation asks. Both come from this machine, after a
first call that compiles and fills the caches.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from recjax.errors import check_range
from recjax.retrieval.index import Index
from recjax.retrieval.scann_tuner import Measured, Tuned

QUANTILES = (50, 90, 99)


@dataclasses.dataclass(frozen=True)
class Timing:
  """How speed is measured.

  Attributes:
    k: items asked for; fewer where the catalogue has fewer.
    num_single: queries asked one at a time, for the latency.
    batch: queries of one call, for queries a second.
    min_secs: such calls go on for at least so long.
  """

  k: int = 100
  num_single: int = 200
  batch: int = 512
  min_secs: int | float = 0.5

  def __post_init__(self):
    for name in ("k", "num_single", "batch"):
      check_range(f"Timing.{name}", getattr(self, name), 1, integer=True)
    check_range("Timing.min_secs", self.min_secs, 0)


@dataclasses.dataclass(frozen=True)
class Speed:
  """How fast an index answers.

  Attributes:
    k: items asked for.
    latency_ms: "p50", "p90", "p99" of single queries, after a warm-up.
    queries_per_sec: of batches, by the median of their times.
  """

  k: int
  latency_ms: dict[str, float]
  queries_per_sec: float


def measure_speeds(
  indexes: Sequence[Index],
  queries: Float[np.ndarray, "query *k dim"],
  timing: Timing | None = None,
) -> list[Speed]:
  """Asks indexes one query at a time, then in batches.

  They take turns, so that whatever else the machine does meets all of them.

  Args:
    indexes: what is asked.
    queries: taken evenly from all of them, for neighbours may be of one user;
      repeated where more are needed.
    timing: how many, and for how long; None is Timing().

  Returns:
    Latency and throughput of each, on this machine.
  """
  timing = timing or Timing()
  spread = lambda num: np.linspace(0, len(queries) - 1, num).astype(np.int64)
  take = lambda num: queries[spread(num)]
  single, many = take(timing.num_single), take(timing.batch)
  for index in indexes:
    for block in (single[:1], many):
      _search_secs(index, block, timing.k)  # Compiles, and fills the caches.
  turns = [
    [_search_secs(index, single[row : row + 1], timing.k) for index in indexes]
    for row in range(len(single))
  ]
  millis = 1e3 * np.array(turns)
  batches: list[list[float]] = []
  while not batches or np.sum(batches, 0).min() < timing.min_secs:
    batches.append([_search_secs(index, many, timing.k) for index in indexes])
  typical = np.median(batches, 0)
  return [
    Speed(
      k=min(timing.k, index.num_items),
      latency_ms={
        f"p{q}": float(np.percentile(millis[:, place], q)) for q in QUANTILES
      },
      queries_per_sec=float(len(many) / typical[place]),
    )
    for place, index in enumerate(indexes)
  ]


def _search_secs(
  index: Index, queries: Float[np.ndarray, "query *k dim"], k: int
) -> float:
  start = time.perf_counter()
  index.search(queries, k=min(k, index.num_items))
  return time.perf_counter() - start


def fastest_rate(
  index: Index,
  queries: Float[np.ndarray, "query *k dim"],
  *,
  k: int,
  repeats: int = 3,
) -> float:
  """Queries a second of the fastest of some calls, as a tuner counts.

  Args:
    index: what is asked.
    queries: of one call.
    k: items asked for.
    repeats: calls after a first one that compiles.
  """
  secs = [_search_secs(index, queries, k) for _ in range(repeats + 1)]
  return len(queries) / min(secs[1:])


@dataclasses.dataclass(frozen=True)
class SearchPoint:
  """One setting of the search.

  Attributes:
    settings: what was changed in the built index.
    recall: of exact search, on the queries that tuned.
    queries_per_sec: of these in one batch.
  """

  settings: dict[str, int]
  recall: float
  queries_per_sec: float


@dataclasses.dataclass(frozen=True)
class Frontier:
  """Recall against speed of one built index.

  Attributes:
    k: items asked for.
    wanted_recall: what was asked for.
    reached: whether a setting reached it.
    chosen: the fastest that did, or else the one of the highest recall.
    held_out_recall: of the chosen, on queries that did not tune.
    frontier: settings than which none is both faster and better.
    tried: all settings.
    exact_queries_per_sec: exact search, measured as the settings were.
  """

  k: int
  wanted_recall: float
  reached: bool
  chosen: SearchPoint
  held_out_recall: float
  frontier: tuple[SearchPoint, ...]
  tried: tuple[SearchPoint, ...]
  exact_queries_per_sec: float

  @classmethod
  def of_tuned(
    cls,
    tuned: Tuned,
    *,
    k: int,
    wanted_recall: float,
    exact_queries_per_sec: float,
  ) -> "Frontier":
    """The frontier that a tuner found."""
    return cls(
      k=k,
      wanted_recall=wanted_recall,
      reached=tuned.reached,
      chosen=_point(tuned.chosen),
      held_out_recall=tuned.recall,
      frontier=tuple(map(_point, tuned.frontier)),
      tried=tuple(map(_point, tuned.measured)),
      exact_queries_per_sec=exact_queries_per_sec,
    )

  def to_dict(self) -> dict[str, Any]:
    """All of it, as JSON knows it."""
    return dataclasses.asdict(self)


def _point(measured: Measured) -> SearchPoint:
  return SearchPoint(
    dict(measured.settings), measured.recall, 1 / measured.secs_per_query
  )
