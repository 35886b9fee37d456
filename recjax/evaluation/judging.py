"""From counted ranks to the values of queries, and of single targets."""

import dataclasses
import functools

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.errors import DataError
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.ranking import RankedTargets
from recjax.metrics import ranking as metrics
from recjax.metrics.ranks import Ranks, resolve_ties


@dataclasses.dataclass(frozen=True, eq=False)
class TargetValues:
  """What each target of each query gives, as if it were the only one.

  Attributes:
    query: the position in the result of the query of each target.
    item_id: the target.
    values: its own values; "recall@10" is then that of "hit_rate@10". The
      other targets of the query are candidates as all items are.
  """

  query: Int[np.ndarray, " target"]
  item_id: Int[np.ndarray, " target"]
  values: dict[str, Float[np.ndarray, " target"]]


def judge(
  groups: list[RankedTargets], users: EvalSet, protocol: Protocol
) -> dict[str, Float[np.ndarray, " query"]]:
  """The values of all queries, in the order of the evaluation set."""
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


def target_values(
  groups: list[RankedTargets], targets: Ragged, protocol: Protocol
) -> TargetValues:
  """The values of all targets, in the order of the evaluation set.

  Args:
    groups: the ranks of the targets.
    targets: distinct item ids of each query, as they were ranked.
    protocol: metrics and tie rule.
  """
  rows, items, fields = [], [], []
  for group in groups:
    where = group.where
    rows.append(np.broadcast_to(group.rows[:, None], where.shape)[where])
    items.append(targets.take(group.rows).padded(where.shape[1])[where])
    fields.append([np.asarray(field)[where] for field in group.ranks])
  ranks = Ranks(*map(np.concatenate, zip(*fields)))  # pyright: ignore
  # Ties are settled with all targets at hand; then each stands alone.
  ranks = resolve_ties(ranks, ties=protocol.ties)
  alone = dataclasses.replace(protocol, ties="expected")
  greater, tied = (np.asarray(x)[:, None] for x in (ranks.greater, ranks.tied))
  none = np.zeros_like(greater)
  values = _metric_values(
    Ranks(greater, tied, none, none, none),  # pyright: ignore
    np.ones(greater.shape, bool),
    alone,
  )
  query, item_id = np.concatenate(rows), np.concatenate(items)
  order = np.argsort(query, kind="stable")
  return TargetValues(
    query[order],
    item_id[order],
    {key: np.asarray(values[key])[order] for key, _, _ in protocol.values()},
  )


@functools.partial(jax.jit, static_argnames="protocol")
def _metric_values(
  ranks: Ranks, where: Bool[Array, "query item"], protocol: Protocol
) -> dict[str, Float[Array, " query"]]:
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
