"""From a scorer and the users' targets to the numbers of a table."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.errors import DataError
from recjax.evaluation.candidates import (
  AllItems,
  Candidates,
  UniformNegatives,
)
from recjax.evaluation.item_blocks import count_candidates
from recjax.evaluation.judging import TargetValues, judge, target_values
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.ranking import (
  Queries,
  RankedTargets,
  rank_among_candidates,
  rank_in_catalogue,
)
from recjax.evaluation.resampling import user_intervals
from recjax.evaluation.sampled_bias import SampledBias
from recjax.evaluation.sampled_ranks import SampledRanks, sampled_ranks
from recjax.evaluation.sampling import (
  draw_candidates,
  pool_sizes,
  unique_rows,
)
from recjax.evaluation.top_lists import ListMaker, TopLists
from recjax.progress import track
from recjax.retrieval.scorers import PopularityScorer, Scorer


@dataclasses.dataclass(frozen=True)
class EvalResult:
  """What an evaluation found; keys are such as "ndcg@10" and "mrr".

  Where the protocol is "per" event, a query is an event and not a user.

  Attributes:
    metrics: means over queries.
    intervals: 95% bootstrap intervals of the means, over users; empty if not
      asked for.
    per_user: the values of each query.
    user_id: the users of these; repeated where a user has several queries.
    floor: what ranking by popularity reaches under the same protocol, with
      the same candidates; empty if not asked for.
    num_users: how many users were judged.
    wall_secs: how long ranking and metrics of the scorer took.
    protocol: what was asked.
    num_candidates: of each query, the targets among them.
    num_targets: of each query.
    targets: values of each target, if asked for.
    lists: what the queries are recommended, if asked for.
    sampled_ranks: where candidates are drawn uniformly and each query has one
      target, what the draws tell of its rank.
    sampled_bias: what sampling did to the metrics, if `tell_bias` was asked.
  """

  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]
  per_user: dict[str, Float[np.ndarray, " query"]]
  user_id: Int[np.ndarray, " query"]
  floor: dict[str, float]
  num_users: int
  wall_secs: float
  protocol: Protocol
  num_candidates: Int[np.ndarray, " _"] = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )
  num_targets: Int[np.ndarray, " _"] = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )
  targets: TargetValues | None = None
  lists: TopLists | None = None
  sampled_ranks: SampledRanks | None = None
  sampled_bias: SampledBias | None = None


class _Ranking(NamedTuple):
  """How targets are ranked, among how many, what draws tell; and lists."""

  rank: Callable[..., list[RankedTargets]]
  lists: Callable[[int], ListMaker]
  targets: Ragged
  num_candidates: Int[np.ndarray, " query"]
  read_draws: Callable[..., SampledRanks | None] = lambda groups: None


def evaluate(
  scorer: Scorer,
  queries: Num[Array, "user *rest"] | Num[np.ndarray, "user *rest"] | Queries,
  eval_set: EvalSet,
  protocol: Protocol,
  *,
  num_items: int,
  popularity: Num[np.ndarray, " vocab"],
  all_popularity: Num[np.ndarray, " vocab"] | None = None,
  user_block: int = 512,
  item_block: int = 2048,
  intervals: bool = True,
  floor: bool = True,
  progress: bool = True,
  per_target: bool = False,
  list_length: int = 0,
) -> EvalResult:
  """Judges a scorer on the targets of the users under a protocol.

  Args:
    scorer: what ranks; goes through `jax.jit` as an argument.
    queries: one a query of `eval_set`, in its order; or a function from
      positions to queries, asked for blocks of few different lengths.
    eval_set: users, histories and targets; made with `per` of the protocol.
    protocol: how to judge.
    num_items: the size of the catalogue; ids run from 1 to it.
    popularity: training counts by item id.
    all_popularity: counts over all data, where the protocol asks for them.
    user_block: users scored at once.
    item_block: items scored at once.
    intervals: whether to compute bootstrap intervals.
    floor: whether to judge ranking by popularity, too.
    progress: whether a bar may show up.
    per_target: whether to keep the values of each target.
    list_length: items of the lists to keep, see `top_lists`; 0 keeps none.

  Returns:
    The numbers.

  Raises:
    DataError: the data, the scores or the candidates can not be used.
  """
  start = time.perf_counter()
  _check(eval_set, num_items, popularity, protocol.per)
  users, ask = _choose(eval_set, queries, protocol)
  counts = (popularity, all_popularity)
  options = _options((user_block, item_block), progress)
  ranking = _make_ranking(users, protocol, num_items, counts, options)
  groups = ranking.rank(scorer, ask)
  result = _result(groups, users, ranking, protocol)
  more: dict[str, Any] = {"wall_secs": time.perf_counter() - start}
  if intervals:
    more["intervals"] = _intervals(result)
  if floor:
    more["floor"] = _floor(ranking.rank, popularity, users, protocol)
  if per_target:
    more["targets"] = target_values(groups, ranking.targets, protocol)
  if list_length:
    more["lists"] = ranking.lists(list_length).make(scorer, ask, popularity)
  return dataclasses.replace(result, **more)


def _result(
  groups: list[RankedTargets],
  users: EvalSet,
  ranking: _Ranking,
  protocol: Protocol,
) -> EvalResult:
  """What every evaluation finds."""
  per_user = judge(groups, users, protocol)
  return EvalResult(
    metrics=_means(per_user),
    intervals={},
    per_user=per_user,
    user_id=users.user_id,
    floor={},
    num_users=len(np.unique(users.user_id)),
    wall_secs=0.0,
    protocol=protocol,
    num_candidates=ranking.num_candidates,
    num_targets=ranking.targets.lengths,
    sampled_ranks=ranking.read_draws(groups),
  )


def _floor(
  rank: Callable[..., list[RankedTargets]],
  popularity: Num[np.ndarray, " vocab"],
  users: EvalSet,
  protocol: Protocol,
) -> dict[str, float]:
  popular = PopularityScorer(jnp.asarray(popularity, jnp.float32))
  nobody = lambda rows: jnp.zeros((len(rows), 1))
  return _means(judge(rank(popular, nobody), users, protocol))


def _intervals(result: EvalResult) -> dict[str, tuple[float, float]]:
  table = np.stack(list(result.per_user.values()))
  return dict(zip(result.per_user, user_intervals(table, result.user_id)))


def _options(blocks: tuple[int, int], progress: bool) -> dict[str, Any]:
  """How many users and items are scored at once, and whether a bar shows."""
  watch = _watch if progress else lambda blocks: blocks
  return {"user_block": blocks[0], "item_block": blocks[1], "watch": watch}


def _watch(blocks: list) -> Iterable:
  return track(blocks, "Evaluating")


def _means(
  per_user: dict[str, Float[np.ndarray, " query"]],
) -> dict[str, float]:
  return {k: float(v.mean(dtype=np.float64)) for k, v in per_user.items()}


def _make_ranking(
  users: EvalSet,
  protocol: Protocol,
  num_items: int,
  counts: tuple[Num[np.ndarray, " vocab"], Num[np.ndarray, " vocab"] | None],
  blocks: dict[str, Any],
) -> _Ranking:
  """Draws candidates once, for all scorers; `counts` of training and of all."""
  targets = unique_rows((users.targets,), len(users), num_items)
  spec = protocol.candidates
  whole: Callable[[], dict[str, Any]] = lambda: {
    "seen": _seen(users, protocol.exclude_seen, num_items),
    "num_items": num_items,
    "among": _among(spec, counts[0]),
  }
  lists = lambda k: ListMaker(targets, k=k, **whole(), **blocks)
  if isinstance(spec, AllItems):
    options = whole()
    return _Ranking(
      functools.partial(
        rank_in_catalogue, targets=targets, **options, **blocks
      ),
      lists,
      targets,
      count_candidates(targets, **options),
    )
  drawn = draw_candidates(
    spec,
    users,
    num_items,
    counts[getattr(spec, "counts_from", "train") == "all"],
  )
  few = {key: blocks[key] for key in ("user_block", "watch")}
  ranking = _Ranking(
    functools.partial(
      rank_among_candidates, targets=targets, candidates=drawn, **few
    ),
    lists,
    targets,
    targets.lengths + np.count_nonzero(drawn, axis=1),
  )
  if not isinstance(spec, UniformNegatives):
    return ranking
  return ranking._replace(
    read_draws=functools.partial(
      sampled_ranks,
      targets=targets,
      drawn=drawn,
      pool_size=pool_sizes(spec, users, num_items),
      user_id=users.user_id,
      with_replacement=spec.with_replacement,
      ties=protocol.ties,
    )
  )


def _among(
  spec: Candidates, popularity: Num[np.ndarray, " vocab"]
) -> Int[np.ndarray, " cand"] | None:
  if not isinstance(spec, AllItems) or spec.among == "all":
    return None
  unseen = np.flatnonzero(np.asarray(popularity[1:]) == 0) + 1
  if not len(unseen):
    raise DataError(
      "candidates are the items without a training event, and there are none;"
      " hold items out with ColdItems, or rank AllItems(among='all')."
    )
  return unseen


def _check(
  eval_set: EvalSet,
  num_items: int,
  popularity: Num[np.ndarray, " vocab"],
  per: str,
) -> None:
  if not len(eval_set):
    raise DataError(
      "the evaluation set is empty: no user has a target. See `recjax data`"
      " for the history lengths."
    )
  if len(popularity) != num_items + 1:
    raise DataError(
      f"popularity must hold num_items + 1 = {num_items + 1} counts, one an"
      f" item id; got {len(popularity)}."
    )
  targets = eval_set.targets
  if not targets.lengths.all():
    row = int(np.argmin(targets.lengths))
    raise DataError(f"user {eval_set.user_id[row]} has no target.")
  wrong = (targets.values < 1) | (targets.values > num_items)
  if wrong.any():
    index = int(np.argmax(wrong))
    user = eval_set.user_id[targets.row_ids[index]]
    raise DataError(
      f"the target {targets.values[index]} of user {user} is not in the"
      f" catalogue of items 1 to {num_items} ({int(wrong.sum())} such targets)."
    )
  _check_per(eval_set, per)


def _check_per(eval_set: EvalSet, per: str) -> None:
  """An evaluation set made for the other kind of query would be mislabelled."""
  if per == "event":
    several = eval_set.targets.lengths > 1
    if several.any():
      raise DataError(
        f"user {eval_set.user_id[np.argmax(several)]} has a query with several"
        " targets, but the protocol has one query an event; make the"
        " evaluation set with per='event'."
      )
    return
  users, times = np.unique(eval_set.user_id, return_counts=True)
  if times.max() > 1:
    raise DataError(
      f"user {users[np.argmax(times > 1)]} has several queries, but the"
      " protocol has one value a user; give it per='event', or make the"
      " evaluation set with per='user'."
    )


def _seen(users: EvalSet, exclude_seen: str, num_items: int) -> Ragged:
  parts = {
    "history": (users.history, users.train_items),
    "train": (users.train_items,),
    "none": (),
  }[exclude_seen]
  return unique_rows(parts, len(users), num_items)


def _choose(
  eval_set: EvalSet,
  queries: Num[Array, "user *rest"] | Num[np.ndarray, "user *rest"] | Queries,
  protocol: Protocol,
) -> tuple[EvalSet, Queries]:
  """Who is judged, and what gives their queries."""
  chosen = protocol.choose(len(eval_set))
  users = eval_set.take(chosen)
  if callable(queries):
    return users, lambda rows: queries(chosen[rows])
  return users, lambda rows: jnp.asarray(queries[chosen[rows]])
