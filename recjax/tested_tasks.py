"""What an evaluation of several tasks tells, and how it is called."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from recjax.evaluation.classification import ClassificationResult
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.served_front import Front
from recjax.evaluation.served_score import ServedScore, served_metrics
from recjax.runs.position_plot import FoundCurve
from recjax.runs.predictions import Predictions
from recjax.tasks.task_labels import Numbers, judged_labels, served_name
from recjax.tasks.task_objectives import Objective, joint_logit

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
    predictions: of the test rows; None where they were judged in passing.
    front: of the weights of a served score; None if not asked for.
    positions: how much each is looked at; None if nothing is done about it.
  """

  tasks: dict[str, ClassificationResult]
  utilization: dict[str, tuple[np.ndarray, np.ndarray]]
  cosines: np.ndarray | None
  wall_secs: float
  protocol: ClassificationProtocol
  predictions: Predictions | None
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

  @property
  def notes(self) -> list[str]:
    """What is undefined or left out, by task."""
    return [
      f"{name}: {note}"
      for name, result in self.tasks.items()
      for note in result.notes
    ]

  @property
  def slices(self) -> dict[str, list[dict[str, Any]]]:
    """By feature, a record of each value with what was found for all tasks.

    A task lacks values on which it was not judged by themselves.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, result in self.tasks.items():
      for feature, parts in result.slices.items():
        records = found.setdefault(feature, {})
        for part in parts:
          record = records.setdefault(part.value, {"value": part.value})
          for field in ("num_examples", "num_positives"):
            record.setdefault(field, {})[name] = getattr(part, field)
          for field in ("metrics", "intervals"):
            told = {f"{k}/{name}": v for k, v in getattr(part, field).items()}
            record.setdefault(field, {}).update(told)
    return {name: [*records.values()] for name, records in found.items()}

  def _of_all(self, what: str) -> dict[str, Any]:
    return {
      f"{key}/{name}": value
      for name, result in self.tasks.items()
      for key, value in getattr(result, what).items()
    }


class RunningUtilization:
  """What tasks take of experts, over batches; see `expert_utilization`."""

  def __init__(self):
    self._sums: dict[str, Any] = {}
    self._num_rows = 0

  def add(
    self, found: Mapping[str, Any], where: Bool[np.ndarray, " batch"]
  ) -> None:
    """Adds a batch, weighed by its rows.

    Args:
      found: of each mixture, the mean gates and their entropy.
      where: rows that count.
    """
    num = int(np.sum(where))
    scaled = jax.tree.map(lambda x: num * np.asarray(x), dict(found))
    self._sums = (
      jax.tree.map(np.add, self._sums, scaled) if self._num_rows else scaled
    )
    self._num_rows += num

  def result(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The means over all rows, by mixture."""
    return jax.tree.map(lambda x: x / self._num_rows, self._sums)


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


def judged_rows(
  objectives: Sequence[Objective],
  logits: Float[np.ndarray, "row task"],
  numbers: Numbers,
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
  """(name, kind, score, label) of all that is judged in rows.

  Args:
    objectives: in the order of the logits.
    logits: of each row.
    numbers: gives a raw column of the rows.

  Yields:
    Those of `judged_labels`, of both a task and the one that it is given by
    the logit of their product.
  """
  labels = dict(judged_labels(objectives, numbers))
  scores = {o.name: logits[:, number] for number, o in enumerate(objectives)}
  for objective in objectives:
    name, kind = objective.name, objective.kind
    yield name, kind, scores[name], labels[name]
    both = served_name(objective)
    if both != name:
      parts = (jnp.asarray(scores[part]) for part in (objective.given, name))
      yield both, kind, np.asarray(joint_logit(*parts)), labels[both]
    if objective.truth:
      yield f"{name}@all", kind, scores[name], labels[f"{name}@all"]


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
