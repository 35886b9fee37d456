"""From a scorer and the users' targets to the numbers of a table."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.errors import DataError
from recjax.evaluation.candidates import AllItems
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.ranking import (
  Queries,
  RankedTargets,
  rank_among_candidates,
  rank_in_catalogue,
)
from recjax.evaluation.sampling import draw_candidates, unique_rows
from recjax.evaluation.significance import bootstrap_intervals
from recjax.metrics import ranking as metrics
from recjax.metrics.ranks import Ranks
from recjax.progress import track
from recjax.retrieval.scorers import PopularityScorer, Scorer


@dataclasses.dataclass(frozen=True)
class EvalResult:
  """What an evaluation found; keys are such as "ndcg@10" and "mrr".

  Attributes:
    metrics: means over users.
    intervals: 95% bootstrap intervals of the means; empty if not asked for.
    per_user: the values of each user.
    user_id: those users.
    floor: what ranking by popularity reaches under the same protocol, with
      the same candidates; empty if not asked for.
    num_users: how many users were judged.
    wall_secs: how long ranking and metrics of the scorer took.
    protocol: what was asked.
  """

  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]
  per_user: dict[str, Float[np.ndarray, " user"]]
  user_id: Int[np.ndarray, " user"]
  floor: dict[str, float]
  num_users: int
  wall_secs: float
  protocol: Protocol


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
) -> EvalResult:
  """Judges a scorer on the targets of the users under a protocol.

  Args:
    scorer: what ranks; goes through `jax.jit` as an argument.
    queries: one a user of `eval_set`, in its order; or a function from
      positions to queries, asked for blocks of few different lengths.
    eval_set: users, histories and targets.
    protocol: how to judge.
    num_items: the size of the catalogue; ids run from 1 to it.
    popularity: training counts by item id.
    all_popularity: counts over all data, where the protocol asks for them.
    user_block: users scored at once.
    item_block: items scored at once.
    intervals: whether to compute bootstrap intervals.
    floor: whether to judge ranking by popularity, too.
    progress: whether a bar may show up.

  Returns:
    The numbers.

  Raises:
    DataError: the data, the scores or the candidates can not be used.
  """
  start = time.perf_counter()
  _check(eval_set, num_items, popularity)
  chosen = _choose_users(len(eval_set), protocol)
  users = eval_set.take(chosen)
  counts = popularity
  if getattr(protocol.candidates, "counts_from", "") == "all":
    counts = all_popularity
  rank = _make_rank(users, protocol, num_items, counts, user_block, item_block)
  if progress:
    rank = functools.partial(rank, watch=_watch)
  per_user = _judge(rank(scorer, _make_ask(queries, chosen)), users, protocol)
  wall_secs = time.perf_counter() - start
  return EvalResult(
    metrics=_means(per_user),
    intervals=_intervals(per_user) if intervals else {},
    per_user=per_user,
    user_id=users.user_id,
    floor=_floor(rank, popularity, users, protocol) if floor else {},
    num_users=len(users),
    wall_secs=wall_secs,
    protocol=protocol,
  )


def _floor(
  rank: Callable[..., list[RankedTargets]],
  popularity: Num[np.ndarray, " vocab"],
  users: EvalSet,
  protocol: Protocol,
) -> dict[str, float]:
  popular = PopularityScorer(jnp.asarray(popularity, jnp.float32))
  nobody = lambda rows: jnp.zeros((len(rows), 1))
  return _means(_judge(rank(popular, nobody), users, protocol))


def _intervals(
  per_user: dict[str, Float[np.ndarray, " user"]],
) -> dict[str, tuple[float, float]]:
  table = np.stack(list(per_user.values()))
  return dict(zip(per_user, bootstrap_intervals(table)))


def _watch(blocks: list) -> Iterable:
  return track(blocks, "Evaluating")


def _means(
  per_user: dict[str, Float[np.ndarray, " user"]],
) -> dict[str, float]:
  return {k: float(v.mean(dtype=np.float64)) for k, v in per_user.items()}


def _make_rank(
  users: EvalSet,
  protocol: Protocol,
  num_items: int,
  counts: Num[np.ndarray, " vocab"] | None,
  user_block: int,
  item_block: int,
) -> Callable[..., list[RankedTargets]]:
  """A function of scorer and queries; it draws candidates once, for all."""
  targets = unique_rows((users.targets,), len(users), num_items)
  if isinstance(protocol.candidates, AllItems):
    return functools.partial(
      rank_in_catalogue,
      targets=targets,
      seen=_seen(users, protocol.exclude_seen, num_items),
      num_items=num_items,
      user_block=user_block,
      item_block=item_block,
    )
  return functools.partial(
    rank_among_candidates,
    targets=targets,
    candidates=draw_candidates(protocol.candidates, users, num_items, counts),
    user_block=user_block,
  )


def _check(
  eval_set: EvalSet, num_items: int, popularity: Num[np.ndarray, " vocab"]
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


def _choose_users(num: int, protocol: Protocol) -> Int[np.ndarray, " user"]:
  if not protocol.max_users or num <= protocol.max_users:
    return np.arange(num)
  rng = np.random.default_rng(protocol.user_seed)
  return np.sort(rng.choice(num, protocol.max_users, replace=False))


def _seen(users: EvalSet, exclude_seen: str, num_items: int) -> Ragged:
  parts = {
    "history": (users.history, users.train_items),
    "train": (users.train_items,),
    "none": (),
  }[exclude_seen]
  return unique_rows(parts, len(users), num_items)


def _make_ask(
  queries: Num[Array, "user *rest"] | Num[np.ndarray, "user *rest"] | Queries,
  chosen: Int[np.ndarray, " chosen"],
) -> Queries:
  if callable(queries):
    return lambda rows: queries(chosen[rows])
  return lambda rows: jnp.asarray(queries[chosen[rows]])


def _judge(
  groups: list[RankedTargets], users: EvalSet, protocol: Protocol
) -> dict[str, Float[np.ndarray, " user"]]:
  """The values of all users, in the order of the evaluation set."""
  nan = np.concatenate([g.rows[g.nan] for g in groups])
  if len(nan):
    raise DataError(
      f"the scores of {len(nan)} users' targets are NaN, the first of them"
      f" user {users.user_id[nan.min()]}: the model has diverged."
    )
  out = {
    key: np.zeros(len(users), np.float32) for key, _, _ in protocol.values()
  }
  for width in sorted({g.where.shape[1] for g in groups}):
    same = [g for g in groups if g.where.shape[1] == width]
    rows = np.concatenate([g.rows for g in same])
    join = lambda *fields: np.concatenate(fields)
    ranks = jax.tree.map(join, *(g.ranks for g in same))
    where = np.concatenate([g.where for g in same])
    for key, values in _metric_values(ranks, where, protocol).items():
      out[key][rows] = values
  return out


@functools.partial(jax.jit, static_argnames="protocol")
def _metric_values(
  ranks: Ranks, where: Bool[Array, "user item"], protocol: Protocol
) -> dict[str, Float[Array, " user"]]:
  options = {
    "recall": {"denominator": protocol.recall_denominator},
    "ndcg": {"ideal": protocol.ndcg_ideal},
  }
  functions = {
    "hit_rate": metrics.hit_rate_metric,
    "recall": metrics.recall_metric,
    "precision": metrics.precision_metric,
    "ndcg": metrics.ndcg_metric,
    "mrr": metrics.mrr_metric,
    "map": metrics.map_metric,
  }
  return {
    key: functions[name](
      ranks, where, k=k, ties=protocol.ties, **options.get(name, {})
    )
    for key, name, k in protocol.values()
  }
