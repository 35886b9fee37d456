"""A task of several objectives with its data at hand.

Each objective is judged on the rows where its label is known. One that is
given another, such as a conversion of a click, is judged three times:

  auc/conversion          where it was clicked
  auc/click*conversion    everywhere, by the probability of both (CTCVR)
  auc/conversion@all      everywhere, by labels that planted data alone have

Where a `ServedScore` makes one score of them, it is judged by what happened to
all rows, "auc/click@served" and "auc/click*conversion@served".
"""

import dataclasses
import time
from collections.abc import Iterable
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
from recjax.evaluation.served_front import (
  Front,
  ParetoFront,
  ServedPart,
  served_front,
)
from recjax.evaluation.served_score import (
  ServedScore,
  ServedTarget,
  judge_served,
  served_values,
)
from recjax.layers.heads.gates import expert_utilization
from recjax.ranking_bench import PREDICT_BATCH, RankingBench
from recjax.runs.front import plot_front, save_front_csv
from recjax.runs.position_plot import FoundCurve, plot_propensities
from recjax.runs.predictions import TaskScores, save_predictions
from recjax.runs.record import RunRecord
from recjax.runs.reliability_plot import plot_reliability, plot_roc
from recjax.runs.task_plots import plot_conflict, plot_utilization
from recjax.tasks.multi_task import BALANCING, MultiTaskRanking
from recjax.tasks.position_bias import TOWER
from recjax.tasks.task_objectives import Objective, joint_logit
from recjax.tested_tasks import TestedTasks, served_name, task_protocol
from recjax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class MultiTaskBench(RankingBench):
  """As `RankingBench`, with the metrics of each task.

  Attributes:
    served: makes one score of all tasks, which is judged as well.
    front: which weights of such a score are tried.
  """

  task: MultiTaskRanking
  parts: Any
  served: ServedScore | None = None
  front: ParetoFront | None = None

  def validate(self, weights: Params) -> dict[str, float]:
    """Validation metrics of all tasks, and how spread the gates are."""
    logits = self.scores(weights, "validation")
    results = self._results(logits, "validation", intervals=False)
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
    logits = self.scores(weights, "test")
    results = self._results(logits, "test", slices=slices)
    predictions = self._predictions(
      {
        name: TaskScores(kind, score, label)
        for name, kind, score, label in self._rows(logits, "test")
      }
    )
    front = None
    if self.front is not None:
      front = self.find_front(weights, self.front)
    cosines = weights.get(BALANCING, {}).get("cosines")
    return TestedTasks(
      results,
      self._utilization(weights, "test"),
      None if cosines is None else np.asarray(cosines),
      time.perf_counter() - start,
      self.protocol,
      predictions,
      front,
      self._positions(weights),
    )

  def _positions(self, weights: Params) -> FoundCurve | None:
    """How much each position is looked at, and what was planted."""
    bias = self.task.position_bias
    if bias is None:
      return None
    mean = lambda column: float(self.parts.numbers("train", column).mean())
    means = {column: mean(column) for column in bias.columns}
    curve = bias.curve(weights.get(TOWER, {}), means)
    truth = None
    if bias.truth:
      values = self.parts.numbers("train", bias.truth).astype(np.float64)
      position = self.parts.numbers("train", bias.column).astype(np.int64)
      shown = np.bincount(position, minlength=len(curve.values) + 1)[1:]
      sums = np.bincount(position, values, len(curve.values) + 1)[1:]
      truth = sums / np.maximum(shown, 1)
      truth = truth / truth[0]
    return FoundCurve(curve.values, curve.stderr, truth, curve.method)

  def find_front(self, weights: Params, settings: ParetoFront) -> Front:
    """What weights of a served score reach on validation and test rows."""
    objectives = self.task.objectives
    parts = {}
    for part in ("validation", "test"):
      logits = self.scores(weights, part)
      given = self.parts.weights(part)
      parts[part] = ServedPart(
        served_values(objectives, logits),
        self._targets(self._rows(logits, part)),
        None if self.protocol.weights == "none" else given,
      )
    names = [objective.name for objective in objectives]
    return served_front(settings, names, parts)

  def _targets(self, rows: Iterable[tuple]) -> list[ServedTarget]:
    """Of each task what is judged in all rows, out of `_rows`."""
    found = {name: (kind, label) for name, kind, _, label in rows}
    names = [served_name(objective) for objective in self.task.objectives]
    return [ServedTarget(name, *found[name]) for name in names]

  def _results(
    self,
    logits: Float[np.ndarray, "row task"],
    part: str,
    *,
    slices=None,
    **options: Any,
  ) -> dict[str, ClassificationResult]:
    given = self.parts.weights(part)
    groups = {
      column: found.codes for column, found in self._groups(part).items()
    }
    results = {}
    rows = list(self._rows(logits, part))
    for name, kind, score, label in rows:
      known = np.isfinite(label)
      if not known.any():
        raise DataError(
          f"{self.data_name} {part}: no row has a label of the task {name!r}."
        )
      results[name] = evaluate_examples(
        score,
        np.where(known, label, 0.0),
        given,
        protocol=task_protocol(kind, self.protocol),
        where=known,
        from_logits=kind == "binary",
        groups=groups,
        slices=slices,
        **options,
      )
    if self.served is not None:
      values = served_values(self.task.objectives, logits)
      score = self.served.scores(values)
      for target in self._targets(rows):
        results[f"{target.name}@served"] = judge_served(
          score, target, given, groups, protocol=self.protocol, **options
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
        # Where nothing was clicked nothing was bought, whatever is written.
        joint = np.where(before == 0, 0.0, label * before)
        yield served_name(objective), "binary", np.asarray(both), joint
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
      ]
      + [note for note in (tested.predictions.too_many(),) if note],
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
      "served": None
      if self.served is None
      else dataclasses.asdict(self.served),
      "pareto_front": None if tested.front is None else tested.front.to_dict(),
      "position_bias": None
      if tested.positions is None
      else tested.positions.to_dict(),
    }

  def save(self, record: RunRecord, tested: TestedTasks, name: str) -> None:
    """Writes features, predictions, the front, and plots of all of them."""
    self.features.save(record.workdir / "features.npz")
    save_predictions(record.workdir, name, tested.predictions)
    record.plots_dir.mkdir(exist_ok=True)
    if tested.front is not None:
      front, suffix = tested.front.to_dict(), name.removeprefix("test")
      save_front_csv(front, record.workdir / f"pareto_front{suffix}.csv")
      plot_front(front, record.plots_dir / f"{name}-pareto.png")
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
      plot_utilization(means, self.task.outputs, path)
    if tested.cosines is not None:
      path = record.plots_dir / f"{name}-conflict.png"
      plot_conflict(tested.cosines, names, path)
    if tested.positions is not None:
      path = record.plots_dir / f"{name}-propensities.png"
      plot_propensities(tested.positions, path)
