"""What can be reached on planted data: the optimum, and popularity's floor.

For a ranking of the items not yet seen, the expected value of a metric under
the process is the sum over items of p(item | history) times the gain of the
item's rank; the gain of rank r is [r <= k] / log2(r + 1) for NDCG@k and
[r <= k] for the hit rate@k, both with one target. Items of equal score share
the mean of the gains of the ranks they fill (the expected tie rule).

The expected value has no noise from the targets; the measured one is what an
evaluation of the same ranking reports.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import stats

from recjax.data.eval_set import EvalSet
from recjax.data.planted_process import PlantedProcess
from recjax.errors import DataError, check_range


@dataclasses.dataclass(frozen=True)
class PlantedTruth:
  """Metrics of one ranking, means over users.

  Attributes:
    expected: metric name -> its value under the process.
    measured: metric name -> its value on the targets at hand.
  """

  expected: dict[str, float]
  measured: dict[str, float]


def bayes_optimal(
  process: PlantedProcess, eval_set: EvalSet, k: int = 10
) -> PlantedTruth:
  """NDCG@k and hit rate@k of the best ranking there can be.

  Args:
    process: what the data were drawn from.
    eval_set: whole histories, and one target a user.
    k: the cut-off.

  Returns:
    "ndcg@k" and "hit_rate@k". No ranking has a larger expected value; one may
    have a larger measured value by luck.

  Raises:
    DataError: a user has another number of targets than one, or the histories
      can not come from the process.
  """
  blocks = (
    (rows, chance, chance)
    for rows, chance in process.predictive_blocks(eval_set.history)
  )
  return _truth(eval_set, blocks, k)


def popularity_floor(
  process: PlantedProcess,
  eval_set: EvalSet,
  item_counts: Num[np.ndarray, " vocab"],
  k: int = 10,
) -> PlantedTruth:
  """NDCG@k and hit rate@k of ranking by popularity, seen items left out.

  Args:
    process: what the data were drawn from.
    eval_set: whole histories, and one target a user.
    item_counts: how often each item was seen in training.
    k: the cut-off.
  """
  scores = np.broadcast_to(item_counts, (len(eval_set), len(item_counts)))
  return truth_of_scores(process, eval_set, scores, k)


def truth_of_scores(
  process: PlantedProcess,
  eval_set: EvalSet,
  scores: Num[np.ndarray, "user vocab"],
  k: int = 10,
) -> PlantedTruth:
  """NDCG@k and hit rate@k of any scores, items of the history left out.

  Args:
    process: what the data were drawn from.
    eval_set: whole histories, and one target a user.
    scores: larger is better; column 0 (padding) is not looked at.
    k: the cut-off.

  Raises:
    DataError: the shape of `scores` does not fit, or a user has another number
      of targets than one.
  """
  shape = (len(eval_set), process.num_items + 1)
  if scores.shape != shape:
    raise DataError(
      f"scores must have the shape {shape} (users, items + 1); got"
      f" {scores.shape}."
    )
  blocks = (
    (rows, chance, scores[rows])
    for rows, chance in process.predictive_blocks(eval_set.history)
  )
  return _truth(eval_set, blocks, k)


def _truth(
  eval_set: EvalSet,
  blocks: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]],
  k: int,
) -> PlantedTruth:
  """Means over users of the blocks (rows, chances, scores)."""
  check_range("k", k, 1, integer=True)
  many = np.flatnonzero(eval_set.targets.lengths != 1)
  if len(many) or not len(eval_set):
    raise DataError(
      "the optimum is known for one target a user; user"
      f" {eval_set.user_id[many[0]]} has {eval_set.targets.lengths[many[0]]}."
      " Use LeaveOneOut."
      if len(many)
      else "the evaluation set holds no user."
    )
  gains = {
    f"ndcg@{k}": 1 / np.log2(np.arange(2, k + 2)),
    f"hit_rate@{k}": np.ones(k),
  }
  expected, measured = dict.fromkeys(gains, 0.0), dict.fromkeys(gains, 0.0)
  for rows, chance, scores in blocks:
    history = eval_set.history.take(rows)
    scores = scores[:, 1:].astype(np.float64)
    scores[history.row_ids, history.values - 1] = -np.inf
    low = stats.rankdata(-scores, method="min", axis=1).astype(np.int64)
    high = stats.rankdata(-scores, method="max", axis=1).astype(np.int64)
    target = eval_set.targets.take(rows).values
    for name, gain in gains.items():
      of_item = _shared_gain(low, high, gain)
      expected[name] += float((chance[:, 1:] * of_item).sum())
      measured[name] += float(of_item[np.arange(len(rows)), target - 1].sum())
  num = len(eval_set)
  return PlantedTruth(
    {name: total / num for name, total in expected.items()},
    {name: total / num for name, total in measured.items()},
  )


def _shared_gain(
  low: Int[np.ndarray, "user item"],
  high: Int[np.ndarray, "user item"],
  gain: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "user item"]:
  """The mean gain of the ranks low..high."""
  upto = np.zeros(low.shape[1] + 1)
  upto[1 : len(gain) + 1] = gain[: low.shape[1]]
  upto = np.cumsum(upto)
  return (upto[high] - upto[low - 1]) / (high - low + 1)
