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
import functools
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from recjax.data.label_columns import label_key
from recjax.data.propensities.positions import position_means
from recjax.errors import DataError
from recjax.evaluation.classification import (
  ClassificationResult,
  evaluate_examples,
)
from recjax.evaluation.running_judge import RunningJudge
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
from recjax.ranking_bench import PREDICT_BATCH, RankingBench, left_out
from recjax.runs.front import plot_front, save_front_csv
from recjax.runs.position_plot import FoundCurve, plot_propensities
from recjax.runs.predictions import TaskScores, save_predictions
from recjax.runs.record import RunRecord
from recjax.runs.reliability_plot import plot_reliability, plot_roc
from recjax.runs.task_plots import plot_conflict, plot_utilization
from recjax.tasks.multi_task import BALANCING, MultiTaskRanking
from recjax.tasks.position_bias import TOWER
from recjax.tasks.task_labels import Numbers, served_name
from recjax.tested_tasks import (
  RunningUtilization,
  TestedTasks,
  judged_rows,
  task_protocol,
)
from recjax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class MultiTaskBench(RankingBench):
  """As `RankingBench`, with the metrics of each task.

  Attributes:
    served: makes one score of all tasks, which is judged as well.
    front: which weights of such a score are tried.
    base_rates: the mean training label of all that is judged, such as
      "click*buy", for its floor and the entropy of the training rate.
  """

  task: MultiTaskRanking
  parts: Any
  served: ServedScore | None = None
  front: ParetoFront | None = None
  base_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def validate(self, weights: Params) -> dict[str, float]:
    """Validation metrics of all tasks, and how spread the gates are."""
    results, utilization, _ = self._judged(
      weights, "validation", intervals=False
    )
    metrics = {
      f"{key}/{name}": value
      for name, result in results.items()
      for key, value in result.metrics.items()
    }
    for mixture, (_, entropy) in utilization.items():
      for task, value in enumerate(entropy):
        metrics[f"gate_entropy/{mixture}/{task}"] = float(value)
    return metrics

  def test(self, weights: Params) -> TestedTasks:
    """Test metrics of all tasks with intervals and slices."""
    start = time.perf_counter()
    results, utilization, logits = self._judged(
      weights, "test", slices=self._slice_values("test")
    )
    predictions = None
    if logits is not None:
      rows = judged_rows(self.task.objectives, logits, self._numbers("test"))
      predictions = self._predictions(
        {name: TaskScores(kind, *row) for name, kind, *row in rows}
      )
    front = None
    if self.front is not None:
      front = self.find_front(weights, self.front)
    cosines = weights.get(BALANCING, {}).get("cosines")
    return TestedTasks(
      results,
      utilization,
      None if cosines is None else np.asarray(cosines),
      time.perf_counter() - start,
      self.protocol,
      predictions,
      front,
      self._positions(weights),
    )

  def _judged(self, weights: Params, part: str, *, slices=None, **options: Any):
    """Results, utilization, and the logits unless rows only pass by."""
    if self.parts.in_passing(part):
      return *self._in_passing(weights, part, **options), None
    logits = self.scores(weights, part)
    results = self._results(logits, part, slices=slices, **options)
    return results, self._utilization(weights, part), logits

  def _in_passing(self, weights: Params, part: str, *, intervals: bool = True):
    """Results and utilization, of rows that are read once and forgotten."""
    weights = jax.device_put(weights)
    judges: dict[str, RunningJudge] = {}
    utilization = RunningUtilization()
    for batch in self.parts.batches(part, PREDICT_BATCH):
      logits, found = self._scores_and_gates(weights, batch)
      utilization.add(found, batch["where"])
      numbers = lambda column, batch=batch: batch[label_key(column)]
      rows = judged_rows(self.task.objectives, np.asarray(logits), numbers)
      for name, kind, score, label in rows:
        if name not in judges:
          judges[name] = RunningJudge(
            task_protocol(kind, self.protocol),
            from_logits=kind == "binary",
            base_rate=self.base_rates.get(name),
          )
        judges[name].add(score, label, batch.get("weight"), batch["where"])
    if part == "validation":
      for name, judge in judges.items():
        judge.warn(f"{self.data_name} validation, {name}")
    results = {
      name: judge.result(intervals=intervals) for name, judge in judges.items()
    }
    return results, utilization.result()

  def _numbers(self, part: str) -> Numbers:
    """Gives raw columns of a part; each is read once."""
    return functools.cache(functools.partial(self.parts.numbers, part))

  def _positions(self, weights: Params) -> FoundCurve | None:
    """How much each position is looked at, and what was planted."""
    bias = self.task.position_bias
    if bias is None:
      return None
    columns = [bias.column, *bias.columns, *filter(None, [bias.truth])]
    means, truth = position_means(
      self.parts.number_blocks("train", columns),
      bias.column,
      bias.num_positions,
      bias.columns,
      bias.truth,
    )
    curve = bias.curve(weights.get(TOWER, {}), means)
    return FoundCurve(curve.values, curve.stderr, truth, curve.method)

  def find_front(self, weights: Params, settings: ParetoFront) -> Front:
    """What weights of a served score reach on validation and test rows."""
    objectives = self.task.objectives
    parts = {}
    for part in ("validation", "test"):
      self.refuse_in_passing(part, "a Pareto front needs all scores at once")
      logits = self.scores(weights, part)
      given = self.parts.weights(part)
      rows = judged_rows(objectives, logits, self._numbers(part))
      parts[part] = ServedPart(
        served_values(objectives, logits),
        self._targets(rows),
        None if self.protocol.weights == "none" else given,
      )
    names = [objective.name for objective in objectives]
    return served_front(settings, names, parts)

  def check_in_passing(self) -> None:
    """Raises ConfigError for what a part that is too large can not have."""
    super().check_in_passing()
    for part in ("validation", "test"):
      if self.served is not None:
        self.refuse_in_passing(part, "a served score is judged by all rows")
      if self.front is not None:
        self.refuse_in_passing(part, "a Pareto front needs all scores at once")

  def _targets(self, rows: Iterable[tuple]) -> list[ServedTarget]:
    """Of each task what is judged in all rows, out of `judged_rows`."""
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
    rows = list(judged_rows(self.task.objectives, logits, self._numbers(part)))
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
        base_rate=self.base_rates.get(name),
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

  @functools.cached_property
  def _scores_and_gates(self):
    return jax.jit(lambda *args: (self._scores(*args), self._gates(*args)))

  @functools.cached_property
  def _gates(self):
    """Of each mixture of the head the mean gates of a batch, see `gates`."""
    return jax.jit(
      lambda weights, batch: {
        name: expert_utilization(gates, batch["where"])
        for name, gates in self.task.gates(weights, batch).items()
      }
    )

  def _utilization(
    self, weights: Params, part: str
  ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each mixture of the head, over all rows."""
    weights = jax.device_put(weights)
    utilization = RunningUtilization()
    for batch in self.parts.batches(part, PREDICT_BATCH):
      found = self._gates(weights, batch)
      if not found:
        return {}
      utilization.add(found, batch["where"])
    return utilization.result()

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
      "notes": [*tested.notes, *left_out(tested.predictions)],
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
      "slices": tested.slices,
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
    if tested.predictions is not None:
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
