"""A task of several objectives with its data at hand.

Each objective is judged on the rows where its label is known. One that is
given another, such as a conversion of a click, is judged three times:

  auc/conversion          where it was clicked
  auc/click*conversion    everywhere, by the probability of both (CTCVR)
  auc/conversion@all      everywhere, by labels that planted data alone have
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from recjax.errors import DataError
from recjax.evaluation.classification import (
  ClassificationResult,
  evaluate_examples,
)
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.layers.heads.gates import expert_utilization
from recjax.ranking_bench import PREDICT_BATCH, RankingBench
from recjax.runs.record import RunRecord
from recjax.runs.reliability_plot import plot_reliability, plot_roc
from recjax.runs.task_plots import plot_conflict, plot_utilization
from recjax.tasks.multi_task import BALANCING, MultiTaskRanking
from recjax.tasks.task_objectives import Objective, joint_logit
from recjax.types import Params

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
  """

  tasks: dict[str, ClassificationResult]
  utilization: dict[str, tuple[np.ndarray, np.ndarray]]
  cosines: np.ndarray | None
  wall_secs: float
  protocol: ClassificationProtocol

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
  objectives: Sequence[Objective], protocol: ClassificationProtocol
) -> list[str]:
  """The names of all metrics of an evaluation."""
  return [
    f"{key}/{name}"
    for name, kind in _judged(objectives)
    for key, _, _ in _protocol_of(kind, protocol).values()
  ]


def _judged(objectives: Sequence[Objective]) -> Iterator[tuple[str, str]]:
  """Name and kind of each thing that is judged."""
  for objective in objectives:
    yield objective.name, objective.kind
    if objective.given and objective.kind == "binary":
      yield f"{objective.given}*{objective.name}", "binary"
    if objective.truth:
      yield f"{objective.name}@all", objective.kind


def _protocol_of(
  kind: str, protocol: ClassificationProtocol
) -> ClassificationProtocol:
  if kind == "binary":
    return protocol
  return dataclasses.replace(protocol, metrics=_REAL)


@dataclasses.dataclass(frozen=True, eq=False)
class MultiTaskBench(RankingBench):
  """As `RankingBench`, with the metrics of each task."""

  task: MultiTaskRanking
  parts: Any

  def validate(self, weights: Params) -> dict[str, float]:
    """Validation metrics of all tasks, and how spread the gates are."""
    results = self._results(weights, "validation", intervals=False)
    metrics = {
      f"{key}/{name}": value
      for name, result in results.items()
      for key, value in result.metrics.items()
    }
    for mixture, (_, entropy) in self._utilization(
      weights, "validation"
    ).items():
      for task, value in enumerate(entropy):
        metrics[f"gate_entropy/{mixture}/{task}"] = float(value)
    return metrics

  def test(self, weights: Params) -> TestedTasks:
    """Test metrics of all tasks with intervals and slices."""
    start = time.perf_counter()
    slices = {}
    for name, column in self.slices.items():
      texts = self.parts.texts("test", column)
      slices[name] = np.array(texts.values, object)[texts.codes]
    results = self._results(weights, "test", slices=slices)
    cosines = weights.get(BALANCING, {}).get("cosines")
    return TestedTasks(
      results,
      self._utilization(weights, "test"),
      None if cosines is None else np.asarray(cosines),
      time.perf_counter() - start,
      self.protocol,
    )

  def _results(
    self, weights: Params, part: str, *, slices=None, **options: Any
  ) -> dict[str, ClassificationResult]:
    logits = self.scores(weights, part)
    given = self.parts.weights(part)
    groups = {
      column: self.parts.texts(part, column).codes
      for _, _, column in self.protocol.values()
      if column
    }
    results = {}
    for name, kind, score, label in self._rows(logits, part):
      known = np.isfinite(label)
      if not known.any():
        raise DataError(
          f"{self.data_name} {part}: no row has a label of the task {name!r}."
        )
      results[name] = evaluate_examples(
        score,
        np.where(known, label, 0.0),
        given,
        protocol=_protocol_of(kind, self.protocol),
        where=known,
        from_logits=kind == "binary",
        groups=groups,
        slices=slices,
        **options,
      )
    return results

  def _rows(self, logits: Float[np.ndarray, "row task"], part: str):
    """(name, kind, score, label) of all that is judged; NaN is not."""
    objectives = self.task.objectives
    place = {objective.name: i for i, objective in enumerate(objectives)}
    for number, objective in enumerate(objectives):
      label, score = self._labels(objective, part), logits[:, number]
      before = None
      if objective.given:
        number_before = place[objective.given]
        before = self._labels(objectives[number_before], part)
      on_given = (
        label if before is None else np.where(before == 1, label, np.nan)
      )
      yield objective.name, objective.kind, score, on_given
      if before is not None and objective.kind == "binary":
        both = joint_logit(
          jnp.asarray(logits[:, number_before]), jnp.asarray(score)
        )
        name = f"{objective.given}*{objective.name}"
        # Where nothing was clicked nothing was bought, whatever is written.
        joint = np.where(before == 0, 0.0, label * before)
        yield name, "binary", np.asarray(both), joint
      if objective.truth:
        truth = self.parts.numbers(part, objective.truth)
        yield f"{objective.name}@all", objective.kind, score, truth

  def _labels(self, objective: Objective, part: str) -> np.ndarray:
    label = self.parts.numbers(part, objective.column)
    if objective.where:
      label = np.where(
        self.parts.numbers(part, objective.where) == 1, label, np.nan
      )
    return np.log1p(label) if objective.log_label else label

  def _utilization(
    self, weights: Params, part: str
  ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each mixture of the head, weighed by the rows of each batch."""
    weights = jax.device_put(weights)
    sums: dict[str, Any] = {}
    rows = 0
    utilization = jax.jit(
      lambda weights, batch: {
        name: expert_utilization(gates, batch["where"])
        for name, gates in self.task.gates(weights, batch).items()
      }
    )
    for batch in self.parts.batches(part, PREDICT_BATCH):
      found = utilization(weights, batch)
      if not found:
        return {}
      num = int(batch["where"].sum())
      scaled = jax.tree.map(lambda x, num=num: num * np.asarray(x), found)
      sums = jax.tree.map(np.add, sums, scaled) if sums else scaled
      rows += num
    return jax.tree.map(lambda x: x / rows, sums)

  # -- What is told -----------------------------------------------------------

  def facts(self, tested: TestedTasks) -> dict[str, Any]:
    """What result.json tells besides."""
    objectives = [
      dataclasses.asdict(objective) for objective in self.task.objectives
    ]
    return {
      "objective": ", ".join(o.name for o in self.task.objectives),
      "objectives": objectives,
      "head": type(self.task.model.head).__name__,
      "balancer": repr(self.task.balancer),
      "floor_name": "base rate",
      "num_test_examples": {
        name: result.num_examples for name, result in tested.tasks.items()
      },
      "num_test_positives": {
        name: result.num_positives for name, result in tested.tasks.items()
      },
      "notes": [
        f"{name}: {note}"
        for name, result in tested.tasks.items()
        for note in result.notes
      ],
      "expert_utilization": {
        name: mean.tolist() for name, (mean, _) in tested.utilization.items()
      },
      "gate_entropy": {
        name: entropy.tolist()
        for name, (_, entropy) in tested.utilization.items()
      },
      "gradient_cosines": None
      if tested.cosines is None
      else tested.cosines.tolist(),
      "features_fingerprint": self.features.fingerprint,
    }

  def save(self, record: RunRecord, tested: TestedTasks, name: str) -> None:
    """Writes the fitted features, and plots of tasks, gates and conflict."""
    self.features.save(record.workdir / "features.npz")
    record.plots_dir.mkdir(exist_ok=True)
    curves = {}
    for task, result in tested.tasks.items():
      stem = f"{name}-{task.replace('*', '-')}"
      if result.reliability is not None:
        path = record.plots_dir / f"{stem}-reliability.png"
        plot_reliability(result.reliability, path)
      if result.roc is not None:
        curves[task] = result.roc
    if curves:
      plot_roc(curves, record.plots_dir / f"{name}-roc.png")
    names = [objective.name for objective in self.task.objectives]
    if tested.utilization:
      means = {key: mean for key, (mean, _) in tested.utilization.items()}
      path = record.plots_dir / f"{name}-experts.png"
      plot_utilization(means, names, path)
    if tested.cosines is not None:
      path = record.plots_dir / f"{name}-conflict.png"
      plot_conflict(tested.cosines, names, path)
