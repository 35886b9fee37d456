r"""What an approximate index costs: ranking metrics, recall, time and memory.

Exact search and the approximate index answer the same queries. Both are judged
on the lists that they return: the rank of a target is its place in the list,
and a target that is not in a list of `depth` items is not found. So at a
cut-off up to `depth` a metric is the one of a full ranking, while "mrr" is that
of the first `depth` places and 0 beyond. Equal scores stand in the order of
their ids; the tie rule of a protocol has no say.

  recall@k  = mean over queries of |A_k \cap E_k| / |E_k|
  overlap@k = the same of the lists that a user gets, without the items that
              the protocol excludes

with A the items of the approximate and E those of exact search.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.errors import ConfigError, DataError
from recjax.evaluation.candidates import AllItems
from recjax.evaluation.item_blocks import without
from recjax.evaluation.list_metrics import list_metrics, list_recall
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.sampling import unique_rows
from recjax.evaluation.search_speed import Speed, Timing, measure_speeds
from recjax.progress import track
from recjax.retrieval.index import Index


@dataclasses.dataclass(frozen=True)
class IndexMeasures:
  """One index on one set of queries.

  Attributes:
    kind: such as "scann".
    settings: of the index.
    metrics: of the protocol, means over queries.
    recall: "recall@k" of the index against exact search.
    overlap: "overlap@k" of what users get, likewise.
    speed: latency and throughput.
    build_secs: time to build it.
    memory_bytes: what it takes.
  """

  kind: str
  settings: dict[str, Any]
  metrics: dict[str, float]
  recall: dict[str, float]
  overlap: dict[str, float]
  speed: Speed
  build_secs: float
  memory_bytes: int


@dataclasses.dataclass(frozen=True)
class IndexQuality:
  """An approximate index beside the exact one.

  Attributes:
    exact: exact search.
    approximate: the other.
    num_queries: how many queries both answered.
    num_items: items in either.
    dim: width of the vectors.
    depth: length of the lists that were judged.
    protocol: what was asked.
  """

  exact: IndexMeasures
  approximate: IndexMeasures
  num_queries: int
  num_items: int
  dim: int
  depth: int
  protocol: Protocol

  def to_dict(self) -> dict[str, Any]:
    """All of it, as JSON knows it."""
    fields = dataclasses.asdict(dataclasses.replace(self, protocol=Protocol()))
    return fields | {
      "protocol": self.protocol.to_dict(),
      "protocol_hash": self.protocol.hash(),
      "protocol_text": self.protocol.describe(),
    }


def index_quality(
  exact: Index,
  approximate: Index,
  queries: Float[np.ndarray, "query *k dim"],
  eval_set: EvalSet,
  protocol: Protocol,
  *,
  num_items: int,
  depth: int = 100,
  recall_at: tuple[int, ...] = (10, 100),
  timing: Timing | None = None,
) -> IndexQuality:
  """Judges two indexes of the same items side by side.

  Args:
    exact: what is right by definition.
    approximate: what is asked about.
    queries: one a query of `eval_set`, in its order; several interests of a
      user are [query, k, dim].
    eval_set: users, histories and targets.
    protocol: metrics, cut-offs, what is excluded, how many users are judged.
    num_items: size of the catalogue; the indexes may hold part of it.
    depth: the least length of the lists, made longer by a larger cut-off.
    recall_at: where recall is measured; cut at the items of the index.
    timing: how speed is measured; None is Timing().

  Returns:
    Both sides.

  Raises:
    ConfigError: the protocol does not rank the whole catalogue.
    DataError: the indexes hold other items, or queries are missing.
  """
  _check(exact, approximate, queries, eval_set, protocol)
  chosen = protocol.choose(len(eval_set))
  queries, users = queries[chosen], eval_set.take(chosen)
  cutoffs = [k for _, _, k in protocol.values() if k is not None]
  depth = min(max([depth, *cutoffs]), exact.num_items)
  right = _Answers(exact, queries, users, protocol, num_items, depth, recall_at)
  found = _Answers(
    approximate, queries, users, protocol, num_items, depth, recall_at
  )
  speeds = measure_speeds([exact, approximate], queries, timing)
  return IndexQuality(
    exact=_measures(exact, right, right, speeds[0]),
    approximate=_measures(approximate, found, right, speeds[1]),
    num_queries=len(users),
    num_items=exact.num_items,
    dim=exact.dim,
    depth=depth,
    protocol=protocol,
  )


class _Answers:
  """What an index answers: plain lists, and those that users get."""

  def __init__(
    self,
    index: Index,
    queries: Float[np.ndarray, "query *k dim"],
    users: EvalSet,
    protocol: Protocol,
    num_items: int,
    depth: int,
    recall_at: Iterable[int],
  ):
    self.queries = queries
    self.recall_at = sorted({min(k, index.num_items) for k in recall_at})
    self.cutoffs = sorted({min(k, depth) for k in protocol.cutoffs})
    targets = unique_rows((users.targets,), len(users), num_items)
    seen = _excluded(users, targets, protocol.exclude_seen, num_items)
    self.plain = _search(index, queries, self.recall_at[-1])
    self.lists = _search(index, queries, depth, seen)
    values = list_metrics(self.lists, users, protocol)
    self.metrics = {
      key: float(value.mean(dtype=np.float64)) for key, value in values.items()
    }


def _measures(
  index: Index, answers: _Answers, right: _Answers, speed: Speed
) -> IndexMeasures:
  return IndexMeasures(
    kind=index.config.kind,
    settings=dataclasses.asdict(index.config),
    metrics=answers.metrics,
    recall={
      f"recall@{k}": list_recall(answers.plain[:, :k], right.plain[:, :k])
      for k in answers.recall_at
    },
    overlap={
      f"overlap@{k}": list_recall(answers.lists[:, :k], right.lists[:, :k])
      for k in answers.cutoffs
    },
    speed=speed,
    build_secs=index.build_secs,
    memory_bytes=index.memory_bytes,
  )


# --- Asking -----------------------------------------------------------------


def _excluded(
  users: EvalSet, targets: Ragged, exclude_seen: str, num_items: int
) -> Ragged:
  """What no list may hold: seen items, but never a target."""
  parts = {
    "history": (users.history, users.train_items),
    "train": (users.train_items,),
    "none": (),
  }[exclude_seen]
  seen = unique_rows(parts, len(users), num_items)
  return without(seen, targets, num_items)


def _search(
  index: Index,
  queries: Float[np.ndarray, "query *k dim"],
  k: int,
  excluded: Ragged | None = None,
  batch: int = 512,
) -> Int[np.ndarray, "query k"]:
  parts = []
  starts = range(0, len(queries), batch)
  for start in track(starts, f"Asking {index.config.kind}"):
    rows = np.arange(start, min(start + batch, len(queries)))
    seen = None
    if excluded is not None and excluded.lengths[rows].any():
      of = excluded.take(rows)
      seen = of.padded(int(of.lengths.max())).astype(np.int32)
    parts.append(index.search(queries[rows], k=k, excluded=seen)[1])
  return np.concatenate(parts)


# --- Checks ------------------------------------------------------------------


def _check(
  exact: Index,
  approximate: Index,
  queries: Float[np.ndarray, "query *k dim"],
  eval_set: EvalSet,
  protocol: Protocol,
) -> None:
  if protocol.candidates != AllItems():
    raise ConfigError(
      "an index searches the whole catalogue, but the protocol ranks among"
      f" {protocol.candidates.describe()}; judge it with"
      " Protocol.candidates = @candidates.AllItems()."
    )
  if exact.fingerprint != approximate.fingerprint:
    raise DataError(
      f"the exact index holds {exact.num_items} items and the"
      f" {approximate.config.kind} index {approximate.num_items}, or their"
      " vectors differ: build both from the same."
    )
  if not len(eval_set) or len(queries) != len(eval_set):
    raise DataError(
      "there must be one query a row of the evaluation set; got"
      f" {len(queries)} queries and {len(eval_set)} rows."
    )
  if not eval_set.targets.lengths.all():
    row = int(np.argmin(eval_set.targets.lengths))
    raise DataError(f"user {eval_set.user_id[row]} has no target.")
