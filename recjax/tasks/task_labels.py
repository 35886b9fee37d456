"""The labels of tasks in rows: what they must hold, and how many there are.

Rows come as a function that gives a raw column as float32, NaN where it is
null, so that they may lie in memory or be a block of those on disk.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float

from recjax.data.label_columns import LabelRule
from recjax.errors import DataError
from recjax.tasks.task_objectives import Objective

_OF_TWO_CLASSES = ("auc", "gauc", "normalized_entropy")
Numbers = Callable[[str], Float[np.ndarray, " row"]]
# Columns and weights of some rows; blocks have no length in common.
Blocks = Iterable[
  tuple[Mapping[str, Float[np.ndarray, "_"]], Float[np.ndarray, "_"] | None]
]


def label_rules(
  objectives: Sequence[Objective], position_bias: Any = None
) -> tuple[LabelRule, ...]:
  """What the columns of tasks must hold.

  Args:
    objectives: the tasks.
    position_bias: of `recjax.tasks.position_bias`, or None.
  """
  by_name = {each.name: each for each in objectives}
  rules = []
  for each in objectives:
    kind = "log" if each.log_label else each.kind
    given, masks = "", ()
    if each.given and kind == "binary":
      before = by_name[each.given]
      given = before.column
      # A row that either task does not see may hold anything.
      masks = tuple(filter(None, (each.where, before.where)))
    rules.append(LabelRule(each.column, kind, given=given, masks=masks))
    if each.where:
      rules.append(LabelRule(each.where))
  if position_bias is not None:
    rules += position_bias.label_rules
  for each in objectives:
    if each.truth:
      kind = "log" if each.log_label else each.kind
      rules.append(LabelRule(each.truth, kind, in_batch=False))
  return tuple(rules)


def known_label(
  objective: Objective, numbers: Numbers
) -> Float[np.ndarray, " row"]:
  """The label of each row as it is trained and judged; NaN where unknown."""
  label = numbers(objective.column)
  if objective.where:
    label = np.where(numbers(objective.where) == 1, label, np.nan)
  return np.log1p(label) if objective.log_label else label


def judged_labels(
  objectives: Sequence[Objective], numbers: Numbers
) -> Iterator[tuple[str, Float[np.ndarray, " row"]]]:
  """(name, label) of all that is judged in rows.

  Args:
    objectives: the tasks.
    numbers: gives a raw column of the rows.

  Yields:
    Of each task, "buy", where the one that it is given happened; of a binary
    one of both, "click*buy"; and of its truth, "buy@all". Labels are NaN where
    they do not count.
  """
  by_name = {objective.name: objective for objective in objectives}
  for objective in objectives:
    label = known_label(objective, numbers)
    if not objective.given:
      yield objective.name, label
    else:
      before = known_label(by_name[objective.given], numbers)
      yield objective.name, np.where(before == 1, label, np.nan)
      if objective.kind == "binary":
        # Where nothing was clicked nothing was bought, whatever is written.
        yield served_name(objective), np.where(before == 0, 0.0, label * before)
    if objective.truth:
      truth = numbers(objective.truth)
      truth = np.log1p(truth) if objective.log_label else truth
      yield f"{objective.name}@all", truth


def served_name(objective: Objective) -> str:
  """What of a task counts in all rows that are served: click*conversion."""
  if objective.given and objective.kind == "binary":
    return f"{objective.given}*{objective.name}"
  return objective.name


def trained_name(objective: Objective) -> str:
  """By which of `judged_labels` a task is trained."""
  both = objective.space != "given"
  return served_name(objective) if both else objective.name


# --- How many there are ------------------------------------------------------


@dataclasses.dataclass
class LabelCounts:
  """The rows of a part that count for something that is judged.

  Attributes:
    known: those with a label, of a weight above 0.
    low: their smallest label.
    high: their largest label.
    weight: their summed weights.
    label_sum: the sum of weight times label.
  """

  known: int = 0
  low: float = math.inf
  high: float = -math.inf
  weight: float = 0.0
  label_sum: float = 0.0

  def add(
    self, label: Float[np.ndarray, "_"], weight: Float[np.ndarray, "_"] | None
  ) -> None:
    """Counts rows; a label of NaN is unknown, and all weigh 1 without one."""
    weight = np.ones(len(label)) if weight is None else weight
    kept = np.isfinite(label) & (weight > 0)
    label, weight = label[kept].astype(np.float64), weight[kept]
    self.known += len(label)
    self.low = min(self.low, float(label.min(initial=math.inf)))
    self.high = max(self.high, float(label.max(initial=-math.inf)))
    self.weight += float(weight.sum(dtype=np.float64))
    self.label_sum += float(label @ weight)

  @property
  def alike(self) -> bool:
    """Whether no two labels differ."""
    return self.low >= self.high

  @property
  def mean(self) -> float:
    """The mean label; NaN where there is none."""
    return self.label_sum / self.weight if self.known else math.nan


def count_labels(
  objectives: Sequence[Objective], blocks: Blocks
) -> dict[str, LabelCounts]:
  """How many rows count for each of `judged_labels`.

  So in the loss, too: that of `trained_name`.

  Args:
    objectives: the tasks.
    blocks: the columns of `label_rules` and the weights, block by block; a
      weight of 0 does not count.
  """
  none = lambda column: np.zeros(0, np.float32)
  counts = {name: LabelCounts() for name, _ in judged_labels(objectives, none)}
  for block, weight in blocks:
    for name, label in judged_labels(objectives, block.__getitem__):
      counts[name].add(label, weight)
  return counts


def check_counts(
  objectives: Sequence[Objective],
  counts: Mapping[str, LabelCounts],
  *,
  name: str,
  part: str,
  select: str = "",
  training_rate: bool = False,
) -> None:
  """Raises DataError where a task has nothing to be trained or judged by.

  Args:
    objectives: the tasks.
    counts: of `count_labels`.
    name: of the data.
    part: "train", "validation" or "test".
    select: the validation metric that picks the weights.
    training_rate: whether the normalized entropy is that of the training rate,
      and so defined where labels are alike.

  Raises:
    DataError: a task has no label, or the AUC that picks the weights is
      undefined.
  """
  for objective in objectives:
    trained = part == "train"
    key = trained_name(objective) if trained else objective.name
    found = counts[key]
    if not found.known:
      raise DataError(
        f"{name} {part}: no row has a label of the task {objective.name!r},"
        f" which the column {objective.column!r} would tell"
        f"{_where(objective, part)}. Leave the objective out, or give it"
        " labels."
      )
    if not trained and objective.truth:
      _check_truth(objective, counts, f"{name} {part}")
  if part == "validation":
    undefined = _OF_TWO_CLASSES[: 2 if training_rate else None]
    _check_select(counts, name, select, undefined)
  for objective in objectives:
    key = trained_name(objective) if part == "train" else objective.name
    if objective.kind == "binary" and counts[key].alike:
      more = "" if part == "train" else "; its AUC is undefined"
      told = _all_alike(counts[key], objective.name)
      logging.warning("%s %s: %s%s.", name, part, told, more)


def _check_truth(objective, counts, rows: str) -> None:
  if not counts[f"{objective.name}@all"].known:
    raise DataError(
      f"{rows}: no row has a label in the column {objective.truth!r}, the truth"
      f" of the task {objective.name!r}. Leave Objective.truth out, or give it"
      " labels."
    )


def _check_select(counts, name: str, select: str, undefined) -> None:
  """A served score is judged by what happened, as the product of tasks is."""
  metric, _, judged = select.partition("/")
  judged = judged.removesuffix("@served")
  if metric.partition("@")[0] not in undefined or judged not in counts:
    return
  if counts[judged].alike:
    raise DataError(
      f"{name} validation: {_all_alike(counts[judged], judged)}, so that"
      f" {select!r}, which TrainConfig.select names, is undefined. Select by"
      " another metric, or take other validation rows."
    )


def _all_alike(found: LabelCounts, task: str) -> str:
  return f"all {found.known:,} labels of the task {task!r} are {found.low:g}"


def base_rates(
  objectives: Sequence[Objective],
  counts: Mapping[str, LabelCounts],
  *,
  name: str,
  needed: bool = False,
) -> dict[str, float]:
  """The mean training label of each of `judged_labels`.

  One of a binary task that is 0, 1 or unknown is left out: nothing can be
  held against it.

  Args:
    objectives: the tasks.
    counts: of the training rows.
    name: of the data.
    needed: whether the entropy of these rates is asked for.

  Raises:
    DataError: a rate that is needed is left out.
  """
  real = {o.name for o in objectives if o.kind == "real"}
  rates = {}
  for key, found in counts.items():
    task = key.removesuffix("@all")
    if found.known and (task in real or not found.alike):
      rates[key] = found.mean
    elif needed and task not in real:
      told = _all_alike(found, key) if found.known else f"{key!r} has no label"
      raise DataError(
        f"{name} train: {told}, and the protocol takes the entropy of the"
        " training rate, which must lie between 0 and 1. Leave"
        " 'normalized_entropy' out, or set entropy_rate='evaluated'."
      )
  return rates


def _where(objective: Objective, part: str) -> str:
  """In which rows a label counts, for messages."""
  conditions = []
  if objective.where:
    conditions.append(f"{objective.where!r} is 1")
  if objective.given:
    everywhere = part == "train" and objective.space != "given"
    what = "is known" if everywhere else "happened"
    conditions.append(f"{objective.given!r} {what}")
  return f" where {' and '.join(conditions)}" if conditions else ""
