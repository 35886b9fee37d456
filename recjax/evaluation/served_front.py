"""What weights of a served score can reach: the front of the tasks' AUCs.

Weights on a lattice of the simplex are tried. Which of them no other beats is
found on validation rows alone; the test values of the same weights are told
beside them, and nothing is chosen by them.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from recjax import progress
from recjax.errors import ConfigError, check_choice, check_range
from recjax.evaluation.served_score import (
  COMBINES,
  ServedScore,
  ServedTarget,
  ServedValues,
  order_auc,
)
from recjax.metrics.pareto import hypervolume, non_dominated

MAX_POINTS = 5000


@dataclasses.dataclass(frozen=True)
class ParetoFront:
  """Which weights of a `ServedScore` are tried.

  Attributes:
    num_weights: values of a weight from 0 to 1, evenly spaced. Two tasks have
      so many points; T tasks those of the lattice whose weights add up to 1.
    combine: "product" or "sum".
  """

  num_weights: int = 21
  combine: str = "product"

  def __post_init__(self):
    what = "ParetoFront.num_weights"
    check_range(what, self.num_weights, 2, integer=True)
    check_choice("ParetoFront.combine", self.combine, COMBINES)

  def weights(self, num_tasks: int) -> Float[np.ndarray, "point task"]:
    """All weights, by rising weights of the first task.

    Raises:
      ConfigError: there is a single task, or there are too many points.
    """
    if num_tasks < 2:
      raise ConfigError(
        f"ParetoFront weighs two tasks or more; there is {num_tasks}."
      )
    steps = self.num_weights - 1
    num = math.comb(steps + num_tasks - 1, num_tasks - 1)
    if num > MAX_POINTS:
      raise ConfigError(
        f"ParetoFront.num_weights={self.num_weights} makes {num:,} points of"
        f" {num_tasks} tasks, at most {MAX_POINTS:,}: take fewer."
      )
    # Bars among steps + bars places cut the steps into parts.
    places = range(steps + num_tasks - 1)
    bars = itertools.combinations(places, num_tasks - 1)
    parts = [np.diff((-1, *bar, steps + num_tasks - 1)) - 1 for bar in bars]
    return np.array(parts, np.float64) / steps


@dataclasses.dataclass(frozen=True, eq=False)
class ServedPart:
  """Rows of a part.

  Attributes:
    values: what the tasks predict.
    targets: what happened, one a task.
    weight: of each row, or None.
  """

  values: ServedValues
  targets: Sequence[ServedTarget]
  weight: Float[np.ndarray, " row"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Front:
  """What each weighing reaches.

  Attributes:
    combine: "product" or "sum".
    tasks: whose weights they are.
    judged: what the values are AUCs of, one a task, such as "click*buy".
    weights: of each point, adding up to 1.
    validation: the AUC of each point and task; NaN where undefined.
    test: likewise.
    on_front: which points no other beats on validation.
  """

  combine: str
  tasks: tuple[str, ...]
  judged: tuple[str, ...]
  weights: Float[np.ndarray, "point task"]
  validation: Float[np.ndarray, "point task"]
  test: Float[np.ndarray, "point task"]
  on_front: Bool[np.ndarray, " point"]

  def to_dict(self) -> dict[str, Any]:
    """As JSON has it; of two tasks with the area above AUCs of one half."""
    told = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }
    told = {
      name: value.tolist() if isinstance(value, np.ndarray) else value
      for name, value in told.items()
    }
    if len(self.tasks) == 2:
      told["hypervolume"] = {
        part: hypervolume(getattr(self, part)[self.on_front], (0.5, 0.5))
        for part in ("validation", "test")
      }
    return told


def served_front(
  settings: ParetoFront, tasks: Sequence[str], parts: Mapping[str, ServedPart]
) -> Front:
  """The AUC of each task under each weighing, and which none beats.

  Args:
    settings: which weights are tried.
    tasks: their names.
    parts: of "validation" and "test".

  Returns:
    The points; the front is that of the validation.

  Raises:
    ConfigError: there is a single task, or there are too many points.
  """
  weights = settings.weights(len(tasks))
  found: dict[str, list[list[float]]] = {name: [] for name in parts}
  total = len(weights) * len(parts)
  with progress.progress_bar("Pareto front", total, unit="points") as bar:
    for name, part in parts.items():
      for point in weights:
        score = ServedScore(settings.combine, tuple(map(float, point)))
        found[name].append(_aucs(score.scores(part.values), part))
        bar.advance()
  validation, test = (np.array(found[k]) for k in ("validation", "test"))
  judged = tuple(target.name for target in parts["validation"].targets)
  return Front(
    settings.combine,
    tuple(tasks),
    judged,
    weights,
    validation,
    test,
    non_dominated(validation),
  )


def _aucs(score: Float[np.ndarray, " row"], part: ServedPart) -> list[float]:
  values = []
  for target in part.targets:
    kept = np.isfinite(target.label)
    weight = part.weight
    if weight is not None:
      kept &= weight > 0
      weight = weight[kept]
    label = target.label[kept].astype(np.float64)
    values.append(order_auc(target.kind, score[kept], label, weight))
  return values
