r"""One score out of those of several tasks, by which rows are served.

  product   \prod_t p_t^{w_t}, computed as \sum_t w_t ln p_t
  sum       \sum_t w_t p_t

p_t is what a task predicts, see `recjax.tasks.task_objectives
.served_probability`: the probability of a binary one, which is conditional
where it is `given` another, and of a real one its value in the units of the
label. So the product of a click and of a conversion given the click, both of
weight 1, is CTCVR, the probability of both. A real value enters the product as
at least MIN_VALUE; in a sum a task in seconds drowns probabilities unless its
weight is small.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import scipy.special
from jaxtyping import Float, Int

from recjax.errors import (
  ConfigError,
  check_choice,
  check_range,
  check_tuple,
)
from recjax.evaluation import classification_intervals
from recjax.evaluation.classification import ClassificationResult
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.metrics import auc
from recjax.metrics.concordance import concordance
from recjax.metrics.list_ndcg import list_ndcgs
from recjax.tasks.task_objectives import Objective

COMBINES = ("product", "sum")
MAX_WEIGHT = 1e30
MIN_VALUE = 1e-6
"""Of a real value in a product, whose logarithm must exist."""


@dataclasses.dataclass(frozen=True, eq=False)
class ServedValues:
  """What tasks predict, in float64, so that no two rows tie by rounding.

  Attributes:
    value: p of each row and task.
    log: ln p.
  """

  value: Float[np.ndarray, "row task"]
  log: Float[np.ndarray, "row task"]


def served_values(
  objectives: Sequence[Objective], logits: Float[np.ndarray, "row task"]
) -> ServedValues:
  """The predictions p of each task, and ln p.

  Args:
    objectives: in the order of the logits.
    logits: of each task.
  """
  values, logs = [], []
  for objective, logit in zip(objectives, logits.T.astype(np.float64)):
    if objective.kind == "binary":
      values.append(scipy.special.expit(logit))
      logs.append(scipy.special.log_expit(logit))
      continue
    value = np.expm1(logit) if objective.log_label else logit
    values.append(value)
    logs.append(np.log(np.maximum(value, MIN_VALUE)))
  return ServedValues(np.stack(values, 1), np.stack(logs, 1))


@dataclasses.dataclass(frozen=True)
class ServedScore:
  """How the predictions of tasks become one score; see the module.

  Attributes:
    combine: "product" or "sum".
    weights: w, one a task in the order of the objectives; () is 1 for each.
  """

  combine: str = "product"
  weights: tuple[float | int, ...] = ()

  def __post_init__(self):
    check_choice("ServedScore.combine", self.combine, COMBINES)
    check_tuple("ServedScore.weights", self.weights, "(1.0, 0.5)")
    for number, weight in enumerate(self.weights):
      check_range(f"ServedScore.weights[{number}]", weight, 0.0, MAX_WEIGHT)
    if self.weights and not any(self.weights):
      raise ConfigError(
        "ServedScore.weights must have one that is not 0; got"
        f" {self.weights!r}: all rows would be alike."
      )

  def check(self, tasks: Sequence[str]) -> None:
    """Raises ConfigError unless there is a weight for each task."""
    if self.weights and len(self.weights) != len(tasks):
      raise ConfigError(
        "ServedScore.weights must have one weight a task; got"
        f" {len(self.weights)} ({', '.join(map(str, self.weights))}) for"
        f" {len(tasks)} tasks ({', '.join(tasks)})."
      )

  def scores(self, served: ServedValues) -> Float[np.ndarray, " row"]:
    """The score of each row; of a product its logarithm.

    Raises:
      ConfigError: there are more or fewer weights than tasks.
    """
    num = served.value.shape[1]
    self.check([f"task {number}" for number in range(num)])
    weights = np.asarray(self.weights or (1.0,) * num, np.float64)
    factors = served.log if self.combine == "product" else served.value
    return factors @ weights


# --- How it is judged --------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class ServedTarget:
  """What happened to the rows that are served.

  Attributes:
    name: such as "click", or "click*buy" where both happened.
    kind: "binary" or "real".
    label: of each row; NaN where it does not count.
  """

  name: str
  kind: str
  label: Float[np.ndarray, " row"]


def served_metrics(
  kind: str, protocol: ClassificationProtocol
) -> list[tuple[str, str, str]]:
  """(key, metric, column) of what a target of some kind is judged by.

  Always the AUC, which of real labels is the share of pairs in the right order
  (`recjax.metrics.concordance`); for each column of groups that the protocol
  names, the grouped AUC of binary labels, and the NDCG of the groups as lists.
  """
  found = [("auc", "auc", "")]
  columns = [column for _, _, column in protocol.values() if column]
  for column in dict.fromkeys(columns):
    if kind == "binary":
      found.append((f"gauc@{column}", "gauc", column))
    found.append((f"ndcg@{column}", "ndcg", column))
  return found


def order_auc(
  kind: str,
  score: Float[np.ndarray, " row"],
  label: Float[np.ndarray, " row"],
  weight: Float[np.ndarray, " row"] | None,
) -> float:
  """The AUC, or of real labels the share of pairs in the right order."""
  if kind == "binary":
    return float(auc.auc_metric(score, label, weight))
  return concordance(score, label, weight).value


def judge_served(
  score: Float[np.ndarray, " row"],
  target: ServedTarget,
  weight: Float[np.ndarray, " row"] | None,
  groups: Mapping[str, Int[np.ndarray, " row"]],
  *,
  protocol: ClassificationProtocol,
  intervals: bool = True,
) -> ClassificationResult:
  """Judges served scores by what happened.

  Args:
    score: of each row.
    target: the labels.
    weight: of each row, or None.
    groups: the columns that the protocol names.
    protocol: its `weights`, `group_weight` and columns count.
    intervals: whether to compute intervals.

  Returns:
    `served_metrics` with 95% intervals: DeLong's for the AUC, Hoeffding's for
    its like of real labels, the bootstrap over groups for all others.
  """
  start = time.perf_counter()
  weight = np.ones(len(score)) if weight is None else weight
  if protocol.weights == "none":
    weight = np.ones(len(score))
  kept = np.isfinite(target.label) & (weight > 0)
  rows = (score[kept], target.label[kept].astype(float), weight[kept])
  metrics, ends, notes = {}, {}, []
  for key, metric, column in served_metrics(target.kind, protocol):
    group = groups[column][kept] if column else None
    value, interval, left_out = _judged(metric, target.kind, rows, group,
                                        protocol)  # fmt: skip
    metrics[key] = value
    if intervals:
      ends[key] = interval()
    notes += _notes(key, value, left_out)
  return ClassificationResult(
    metrics=metrics,
    intervals=ends,
    floor={},
    slices={},
    notes=tuple(notes),
    num_examples=int(kept.sum()),
    num_positives=int((rows[1] > 0).sum()),
    weight_sum=float(rows[2].sum()),
    reliability=None,
    roc=None,
    wall_secs=time.perf_counter() - start,
    protocol=protocol,
  )


def _judged(metric, kind, rows, group, protocol):
  """The value, a function that gives its interval, and groups left out."""
  score, label, weight = rows
  if metric == "auc":
    if kind == "binary":
      interval = lambda: classification_intervals.auc_interval(*rows)
      return order_auc(kind, *rows), interval, 0
    found = concordance(*rows)
    half = 1.96 * math.sqrt(found.variance)
    ends = (max(0.0, found.value - half), min(1.0, found.value + half))
    return found.value, lambda: ends, 0
  if metric == "gauc":
    options = {"average": protocol.group_weight}
    mean = auc.grouped_auc_metric(score, label, group, weight, **options)
    parts = auc.group_aucs(score, label, group, weight, **options)
    interval = lambda: classification_intervals.grouped_auc_interval(parts)
    return float(mean.value), interval, int(mean.num_left_out)
  if len(label) and label.min() < 0:
    return math.nan, lambda: (math.nan, math.nan), 0
  lists = list_ndcgs(score, label, group)
  ones = np.ones(len(lists.value))
  parts = auc.GroupAUCs(lists.value, ones, ones > 0, ones, lists.group)
  interval = lambda: classification_intervals.grouped_auc_interval(parts)
  value = float(lists.value.mean()) if len(ones) else math.nan
  return value, interval, lists.num_left_out


def _notes(key: str, value: float, left_out: int) -> Iterator[str]:
  if left_out:
    yield f"{key} leaves out {left_out:,} groups, where nothing can be ordered."
  if math.isnan(value):
    yield f"{key} is undefined: no two labels differ, or one is negative."
