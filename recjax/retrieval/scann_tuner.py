"""The cheapest settings of a search that reach a wanted recall.

Leaves visited and items scored again are settings of the search, not of the
index: one build serves the whole sweep. Half of the queries judge the sweep.
The settings found are then judged on the other half, as the best of many
measured recalls is a little lucky.

    recall@k = |found k and true k| / k, the mean over queries,

where the true k come from exact search.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import ArrayLike, Float32, Int, Int32

from recjax.errors import ConfigError, check_range
from recjax.progress import progress_bar
from recjax.retrieval import index_inputs
from recjax.retrieval.exact_index import ExactIndexConfig
from recjax.retrieval.index import Index
from recjax.retrieval.scann_index import ScannConfig

_ENOUGH = 0.9999
_TIMES_SLOWER = 8
_REORDER_TIMES = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Measured:
  """What settings give.

  Attributes:
    settings: values of the config's `search_fields`.
    recall: recall@k on the tuning half.
    secs_per_query: the fastest of the repeats over the tuning half.
  """

  settings: Mapping[str, int]
  recall: float
  secs_per_query: float


@dataclasses.dataclass(frozen=True)
class Tuned:
  """The outcome of a sweep.

  Attributes:
    index: the index under the chosen settings.
    chosen: those settings and what they gave on the tuning half.
    recall: their recall@k on the judged half.
    frontier: all settings than which none is both faster and better.
    measured: all settings tried.
    reached: whether any reached the wanted recall on the tuning half; if not,
      those of the highest recall were chosen.
  """

  index: Index
  chosen: Measured
  recall: float
  frontier: tuple[Measured, ...]
  measured: tuple[Measured, ...]
  reached: bool


def tune(
  vectors: ArrayLike,
  queries: ArrayLike,
  *,
  k: int,
  wanted_recall: float,
  config: ScannConfig | None = None,
  similarity: str = "dot",
  index: Index | None = None,
  leaves: Sequence[int] | None = None,
  reorder: Sequence[int] | None = None,
  repeats: int = 3,
) -> Tuned:
  """The cheapest ScaNN settings for a recall, and the frontier.

  Args:
    vectors: one row an item, [item, dim].
    queries: as they will come, [batch, dim]; a few hundred.
    k: how many items are sought.
    wanted_recall: of the exact k, in (0, 1].
    config: what is built, ScannConfig() if None; its settings of the search
      are swept.
    similarity: "dot" or "cosine".
    index: a built ScaNN index of these vectors, ids from 1, which spares the
      build; config and similarity are then its own.
    leaves: numbers of leaves to visit; None doubles from 1 to all.
    reorder: numbers of items to score again; None takes k to 10 k.
    repeats: timed runs of each setting, of which the fastest counts.

  Returns:
    The index under the chosen settings, and all that was measured.

  Raises:
    ConfigError: there are no leaves or no reordering to tune.
    DataError: vectors or queries are broken.

  References:
    Sun, Guo, Kumar, "Automating Nearest Neighbor Search Configuration with
    Constrained Optimization", ICLR 2023, https://arxiv.org/abs/2301.01702,
    which chooses them without measuring.
  """
  rows = np.asarray(vectors)
  ids = np.arange(1, len(rows) + 1)
  if index is not None:
    config, similarity = index.config, index.similarity
  config = config or ScannConfig()
  _check_tunable(config)
  if index is None:
    index = config.make_index(similarity=similarity).build(rows, ids)
  exact = ExactIndexConfig().make_index(similarity=similarity).build(rows, ids)
  asked = index_inputs.checked_queries(queries, exact.dim)
  _, truth = exact.search(asked, k=k)
  grid = {
    "num_leaves_to_search": leaves or doubled(config.num_leaves),
    "reorder": reorder or tuple(int(np.ceil(k * t)) for t in _REORDER_TIMES),
  }
  return sweep(
    index, asked, truth, wanted_recall=wanted_recall, grid=grid, repeats=repeats
  )


def _check_tunable(config: ScannConfig) -> None:
  if config.brute_force or not (config.num_leaves and config.reorder):
    raise ConfigError(
      "tune sweeps leaves and reordering: ScannConfig must have num_leaves"
      " and reorder of 1 or more and brute_force=False; got"
      f" num_leaves={config.num_leaves}, reorder={config.reorder},"
      f" brute_force={config.brute_force}."
    )


def sweep(
  index: Index,
  queries: Float32[np.ndarray, "batch *rest"],
  truth: Int32[np.ndarray, "batch k"],
  *,
  wanted_recall: float,
  grid: Mapping[str, Sequence[int]],
  repeats: int = 3,
  clock: Callable[[], float] = time.perf_counter,
) -> Tuned:
  """Sweeps one or two settings of the search of any index.

  The first setting runs through its values, until one takes eight times the
  fastest that reached the wanted recall, and then by halving to the least
  value that reaches it; recall must not fall with it. All of this for each
  value of the second, the highest first.

  Args:
    index: is built.
    queries: every second one tunes, the others judge.
    truth: the ids of the k nearest items of each.
    wanted_recall: in (0, 1].
    grid: values of one or two of the config's `search_fields`.
    repeats: timed runs of each setting, of which the fastest counts.
    clock: gives seconds; `time.process_time` where others use the machine and
      the search has one thread.

  Returns:
    The index under the chosen settings, and all that was measured.

  Raises:
    ConfigError: fewer than two queries, a recall out of range, or a setting
      that can not change.
  """
  check_range("wanted_recall", wanted_recall, 1e-6, 1)
  check_range("repeats", repeats, 1, integer=True)
  check_range("the number of queries", len(queries), 2, integer=True)
  measured = _measure_grid(
    index, queries[::2], truth[::2], wanted_recall, grid, repeats, clock
  )
  able = [one for one in measured if one.recall >= wanted_recall]
  chosen = min(able, key=lambda one: one.secs_per_query, default=None)
  if chosen is None:
    chosen = max(measured, key=lambda one: one.recall)
  tuned = index.retuned(**chosen.settings)
  _, found = tuned.search(queries[1::2], k=truth.shape[1])
  return Tuned(
    index=tuned,
    chosen=chosen,
    recall=recall_at_k(found, truth[1::2]),
    frontier=pareto(measured),
    measured=tuple(measured),
    reached=bool(able),
  )


def _measure_grid(
  index: Index,
  queries: np.ndarray,
  truth: np.ndarray,
  wanted_recall: float,
  grid: Mapping[str, Sequence[int]],
  repeats: int,
  clock: Callable[[], float],
) -> list[Measured]:
  (name, values), *others = grid.items()
  second, fixed_values = others[0] if others else ("", (0,))
  measured: list[Measured] = []
  total = len(values) * len(fixed_values)
  with progress_bar("tuning", total, unit="settings") as bar:
    for fixed in sorted(fixed_values, reverse=True):
      settings = {second: fixed} if second else {}

      def measure(value: int, settings=settings) -> Measured:
        tried = index.retuned(**{name: value}, **settings)
        found = _measure(
          tried, queries, truth, {name: value, **settings}, repeats, clock
        )
        bar.advance(note=f"recall {found.recall:.3f}")
        return found

      measured += _sweep_one(
        measure,
        sorted(values),
        wanted_recall,
        _fastest(measured, wanted_recall),
      )
  return measured


def _fastest(measured: Sequence[Measured], wanted_recall: float) -> float:
  return min(
    (one.secs_per_query for one in measured if one.recall >= wanted_recall),
    default=math.inf,
  )


def _sweep_one(
  measure: Callable[[int], Measured],
  values: Sequence[int],
  wanted_recall: float,
  fastest: float,
) -> list[Measured]:
  """All values of one setting, and halving where the recall is crossed."""
  done, below, above = [], 0, None
  for value in values:
    done.append(measure(value))
    if done[-1].recall < wanted_recall:
      below = value
    elif above is None:
      above = value
    fastest = min(fastest, _fastest(done, wanted_recall))
    too_slow = done[-1].secs_per_query > _TIMES_SLOWER * fastest
    if done[-1].recall >= _ENOUGH or too_slow:
      break
  while above is not None and above - below > max(1, above // 20):
    middle = (above + below) // 2
    done.append(measure(middle))
    if done[-1].recall < wanted_recall:
      below = middle
    else:
      above = middle
  return done


def _measure(
  index: Index,
  queries: np.ndarray,
  truth: np.ndarray,
  settings: Mapping[str, int],
  repeats: int,
  clock: Callable[[], float],
) -> Measured:
  secs, found = [], truth
  for _ in range(repeats):
    start = clock()
    _, found = index.search(queries, k=truth.shape[1])
    secs.append(clock() - start)
  recall = recall_at_k(found, truth)
  return Measured(dict(settings), recall, min(secs) / len(queries))


def doubled(most: int) -> tuple[int, ...]:
  """1, 2, 4, and so on up to `most`, which is the last."""
  powers = [1 << e for e in range(most.bit_length()) if 1 << e < most]
  return (*powers, most)


def pareto(measured: Sequence[Measured]) -> tuple[Measured, ...]:
  """Those than which none is both faster and of higher recall.

  Args:
    measured: in any order.

  Returns:
    The frontier, recall rising and speed falling.
  """
  order = sorted(measured, key=lambda one: (-one.recall, one.secs_per_query))
  kept: list[Measured] = []
  for one in order:
    if not kept or one.secs_per_query < kept[-1].secs_per_query:
      kept.append(one)
  return tuple(reversed(kept))


def recall_at_k(
  found: Int[np.ndarray, "batch k"], truth: Int[np.ndarray, "batch k"]
) -> float:
  """The share of the true k nearest items that were found.

  Args:
    found: ids; 0 is none.
    truth: ids of the k nearest, 0 where there are fewer.

  Returns:
    The mean over all true ids; 0 if there are none.
  """
  hits = index_inputs.is_in_row(truth, found) & (truth > 0)
  return float(hits.sum() / max(1, (truth > 0).sum()))
