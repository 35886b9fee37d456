"""The labels of tasks in rows: what they must hold, and how many there are.

Rows come as a function that gives a raw column as float32, NaN where it is
null, so that they may lie in memory or be a block of those on disk.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float

from recjax.data.label_columns import LabelRule
from recjax.errors import DataError
from recjax.tasks.task_objectives import Objective

_OF_TWO_CLASSES = ("auc", "gauc", "normalized_entropy")
Numbers = Callable[[str], Float[np.ndarray, " row"]]
# Blocks have no length in common.
Blocks = Iterable[Mapping[str, Float[np.ndarray, "_"]]]


def label_rules(
  objectives: Sequence[Objective], position_bias: Any = None
) -> tuple[LabelRule, ...]:
  """What the columns of tasks must hold.

  Args:
    objectives: the tasks.
    position_bias: of `recjax.tasks.position_bias`, or None.
  """
  columns = {each.name: each.column for each in objectives}
  rules = []
  for each in objectives:
    kind = "log" if each.log_label else each.kind
    given = columns[each.given] if each.given and kind == "binary" else ""
    rules.append(LabelRule(each.column, kind, given=given))
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


def label_on_given(
  objectives: Sequence[Objective], objective: Objective, numbers: Numbers
) -> Float[np.ndarray, " row"]:
  """`known_label` where the task that it is given happened, else NaN."""
  label = known_label(objective, numbers)
  if not objective.given:
    return label
  (before,) = (o for o in objectives if o.name == objective.given)
  return np.where(known_label(before, numbers) == 1, label, np.nan)


# --- How many there are ------------------------------------------------------


@dataclasses.dataclass
class LabelCounts:
  """The rows of a part that count for a task.

  Attributes:
    known: those with a label.
    positive: those of them whose label is above 0.
  """

  known: int = 0
  positive: int = 0

  @property
  def one_class(self) -> bool:
    """Whether all labels are 0, or all are not."""
    return self.positive in (0, self.known)


def count_labels(
  objectives: Sequence[Objective],
  blocks: Blocks,
  *,
  training: bool = False,
) -> dict[str, LabelCounts]:
  """How many rows count for each task.

  Args:
    objectives: the tasks.
    blocks: the columns of `label_rules`, block by block.
    training: whether rows count as in the loss: in the entire space a row
      counts where nothing happened before; else as in "auc/TASK".
  """
  counts = {objective.name: LabelCounts() for objective in objectives}
  for block in blocks:
    for objective in objectives:
      if training and objective.space != "given":
        label = known_label(objective, block.__getitem__)
      else:
        label = label_on_given(objectives, objective, block.__getitem__)
      found = counts[objective.name]
      found.known += int(np.isfinite(label).sum())
      found.positive += int((label > 0).sum())
  return counts


def check_counts(
  objectives: Sequence[Objective],
  counts: Mapping[str, LabelCounts],
  *,
  name: str,
  part: str,
  select: str = "",
) -> None:
  """Raises DataError where a task has nothing to be trained or judged by.

  Args:
    objectives: the tasks.
    counts: of `count_labels`.
    name: of the data.
    part: "train", "validation" or "test".
    select: the validation metric that picks the weights.

  Raises:
    DataError: a task has no label, or the AUC that picks the weights is
      undefined.
  """
  metric, _, judged = select.partition("/")
  for objective in objectives:
    task, found = objective.name, counts[objective.name]
    if not found.known:
      raise DataError(
        f"{name} {part}: no row has a label of the task {task!r}, which the"
        f" column {objective.column!r} would tell"
        f"{_where(objective, part)}. Leave the objective out, or give it"
        " labels."
      )
    if objective.kind != "binary" or not found.one_class:
      continue
    told = (
      f"{name} {part}: all {found.known:,} labels of the task {task!r} are"
      f" {1 if found.positive else 0}"
    )
    undefined = [task]
    if objective.given and not found.positive:
      undefined.append(f"{objective.given}*{task}")
    if (
      part == "validation"
      and judged in undefined
      and metric.partition("@")[0] in _OF_TWO_CLASSES
    ):
      raise DataError(
        f"{told}, so that {select!r}, which TrainConfig.select names, is"
        " undefined. Select by another metric, or take other validation rows."
      )
    more = "" if part == "train" else "; its AUC is undefined"
    logging.warning("%s%s.", told, more)


def _where(objective: Objective, part: str) -> str:
  """In which rows a label counts, for messages."""
  conditions = []
  if objective.where:
    conditions.append(f"{objective.where!r} is 1")
  if objective.given and (part != "train" or objective.space == "given"):
    conditions.append(f"{objective.given!r} happened")
  return f" where {' and '.join(conditions)}" if conditions else ""
