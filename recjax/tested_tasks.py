"""What an evaluation of several tasks tells, and how it is called."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from recjax.evaluation.classification import ClassificationResult
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.served_front import Front
from recjax.evaluation.served_score import ServedScore, served_metrics
from recjax.runs.position_plot import FoundCurve
from recjax.runs.predictions import Predictions
from recjax.tasks.task_objectives import Objective

_REAL = ("rmse",)


@dataclasses.dataclass(frozen=True)
class TestedTasks:
  """What an evaluation of several tasks found.

  Attributes:
    tasks: of each that was judged.
    utilization: of each mixture of the head, the mean gate of each expert for
      each task, and the entropy of the gates of each task.
    cosines: running means between the tasks' gradients; None if not measured.
    wall_secs: how long it took.
    protocol: what was asked.
    predictions: of the test rows.
    front: of the weights of a served score; None if not asked for.
    positions: how much each is looked at; None if nothing is done about it.
  """

  tasks: dict[str, ClassificationResult]
  utilization: dict[str, tuple[np.ndarray, np.ndarray]]
  cosines: np.ndarray | None
  wall_secs: float
  protocol: ClassificationProtocol
  predictions: Predictions
  front: Front | None = None
  positions: FoundCurve | None = None

  @property
  def metrics(self) -> dict[str, float]:
    """The values of all tasks, such as "auc/click"."""
    return self._of_all("metrics")

  @property
  def intervals(self) -> dict[str, tuple[float, float]]:
    """Their intervals."""
    return self._of_all("intervals")

  @property
  def floor(self) -> dict[str, float]:
    """What base rates reach."""
    return self._of_all("floor")

  def _of_all(self, what: str) -> dict[str, Any]:
    return {
      f"{key}/{name}": value
      for name, result in self.tasks.items()
      for key, value in getattr(result, what).items()
    }


def judged_names(
  objectives: Sequence[Objective],
  protocol: ClassificationProtocol,
  served: ServedScore | None = None,
) -> list[str]:
  """The names of all metrics of an evaluation."""
  names = [
    f"{key}/{name}"
    for name, kind in _judged(objectives)
    for key, _, _ in task_protocol(kind, protocol).values()
  ]
  if served is not None:
    names += [
      f"{key}/{served_name(objective)}@served"
      for objective in objectives
      for key, _, _ in served_metrics(objective.kind, protocol)
    ]
  return names


def served_name(objective: Objective) -> str:
  """What of a task counts in all rows that are served: click*conversion."""
  if objective.given and objective.kind == "binary":
    return f"{objective.given}*{objective.name}"
  return objective.name


def _judged(objectives: Sequence[Objective]) -> Iterator[tuple[str, str]]:
  """Name and kind of each thing that is judged."""
  for objective in objectives:
    yield objective.name, objective.kind
    if objective.given and objective.kind == "binary":
      yield served_name(objective), "binary"
    if objective.truth:
      yield f"{objective.name}@all", objective.kind


def task_protocol(
  kind: str, protocol: ClassificationProtocol
) -> ClassificationProtocol:
  """The protocol of a task: of a real label the RMSE alone."""
  if kind == "binary":
    return protocol
  return dataclasses.replace(protocol, metrics=_REAL)
