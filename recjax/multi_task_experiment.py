"""Experiments of models with several objectives over the same rows."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import numpy as np

from recjax.balancing.balancer import GradientBalancer, LossBalancer
from recjax.balancing.fixed_weights import FixedWeights
from recjax.data.example_parts import ExampleParts
from recjax.data.examples import PARTS
from recjax.data.label_columns import LabelRule, check_labels, label_names
from recjax.data.propensities.positions import position_means
from recjax.errors import ConfigError
from recjax.evaluation.served_front import ParetoFront
from recjax.evaluation.served_score import ServedScore
from recjax.models.multi_task import MultiTask
from recjax.multi_task_bench import MultiTaskBench
from recjax.ranking_experiment import RankingExperiment
from recjax.tasks.multi_task import MultiTaskRanking
from recjax.tasks.position_bias import biased_label, check_position_bias
from recjax.tasks.task_labels import (
  LabelCounts,
  base_rates,
  check_counts,
  count_labels,
  label_rules,
)
from recjax.tasks.task_objectives import (
  Objective,
  check_objectives,
  output_names,
)
from recjax.tested_tasks import judged_names
from recjax.train.loop import TrainConfig


@dataclasses.dataclass(frozen=True)
class MultiTaskExperiment(RankingExperiment):
  """A `RankingExperiment` with objectives; metrics are such as "auc/click".

  `loss` must be left away. With `stream` rows stay on disk, labels as well.

  Attributes:
    objectives: the tasks, in the order of the chain where one is given
      another.
    model: a `MultiTask`, whose `num_tasks` is that of the objectives.
    balancer: of `recjax.balancing`.
    measure_conflict: tells the cosines between the tasks' gradients.
    position_bias: of `recjax.tasks.position_bias`, for the objectives that are
      position_biased; None does nothing about it.
    served: makes one score of all tasks, by which rows would be served; it is
      judged as "auc/click@served".
    front: which weights of such a score are tried, for its Pareto front.
    train: `select` names a metric of a task, "auc/click".
  """

  objectives: tuple[Objective, ...] = (Objective("label"),)
  name: str = "multi_task"
  model: nn.Module = MultiTask(num_tasks=1)
  balancer: Any = FixedWeights()
  measure_conflict: bool = False
  position_bias: Any = None
  served: ServedScore | None = None
  front: ParetoFront | None = None
  train: TrainConfig = TrainConfig(select="auc/label")

  def __post_init__(self):
    check_objectives(self.objectives)
    check_position_bias(self.objectives, self.position_bias)
    self._check_features()
    self._check_balancer()
    self._check_served()
    if not isinstance(self.model, MultiTask):
      raise ConfigError(
        "MultiTaskExperiment.model must be @multi_task.MultiTask(), with a"
        f" ranking model as its trunk if one is wanted; got {self.model!r}."
      )
    num_tasks = len(output_names(self.objectives))
    if self.model.num_tasks != num_tasks:
      # How many there are is said once, by the objectives.
      model = self.model.clone(num_tasks=num_tasks)
      object.__setattr__(self, "model", model)
    if self.loss != "binary_cross_entropy":
      raise ConfigError(
        "MultiTaskExperiment takes its losses from the objectives: leave `loss`"
        f" away; got {self.loss!r}."
      )
    if self.stream is not None and getattr(self.position_bias, "estimator", 0):
      self.position_bias.fitted(None, "")  # Says that it can not be.
    super().__post_init__()

  def _check_balancer(self) -> None:
    what, balancer = "MultiTaskExperiment.balancer", self.balancer
    kinds = LossBalancer, GradientBalancer
    if isinstance(balancer, type) or not isinstance(balancer, kinds):
      raise ConfigError(
        f"{what} must be one of recjax.balancing, such as @pcgrad.PCGrad();"
        f" got {balancer!r}."
      )
    balancer.init(len(self.objectives))  # Says if it is for other tasks.
    if not isinstance(self.measure_conflict, bool):
      raise ConfigError(
        "MultiTaskExperiment.measure_conflict must be True or False; got"
        f" {self.measure_conflict!r}."
      )

  def _check_served(self) -> None:
    tasks = [objective.name for objective in self.objectives]
    for name, kind, example in (
      ("served", ServedScore, "@served_score.ServedScore()"),
      ("front", ParetoFront, "@served_front.ParetoFront()"),
    ):
      value = getattr(self, name)
      if value is not None and not isinstance(value, kind):
        raise ConfigError(
          f"MultiTaskExperiment.{name} must be {example} or None; got"
          f" {value!r}."
        )
    if self.served is not None:
      self.served.check(tasks)
    if self.front is not None:
      self.front.weights(len(tasks))  # Says if there are too many.

  def _check_features(self) -> None:
    """A position that the model sees would be asked for when it is served."""
    if self.position_bias is None:
      return
    column = self.position_bias.column
    for spec in self.features:
      if getattr(spec, "column", None) == column:
        raise ConfigError(
          f"the feature {spec.name!r} is the column {column!r} that"
          " position_bias takes out of the score; leave one of both away."
        )

  def _metric_names(self) -> list[str]:
    return judged_names(self.objectives, self.protocol, self.served)

  @property
  def _label_rules(self) -> tuple[LabelRule, ...]:
    return label_rules(self.objectives, self.position_bias)

  @property
  def _no_features(self) -> tuple[str, ...]:
    truths = [objective.truth for objective in self.objectives]
    own = [each.column for each in self.objectives]
    own += [each.where for each in self.objectives if each.where]
    if self.position_bias is not None:
      own += self.position_bias.no_features
    return (*super()._no_features, *own, *filter(None, truths))

  def _check_parts(self, parts: ExampleParts) -> dict[str, Any]:
    """Looks at the labels of all parts, before anything is trained."""
    self._check_positions(parts)
    weighted = self.protocol.weights == "given"
    of_training = self.protocol.entropy_rate == "training"
    name = self.source.name
    for part in PARTS:
      # The loss heeds weights, whatever the protocol says.
      check_counts(
        self.objectives,
        self._counts(parts, part, weighted=weighted or part == "train"),
        name=name,
        part=part,
        select=self.train.select,
        training_rate=of_training,
      )
    metrics = {metric for _, metric, _ in self.protocol.values()}
    rates = base_rates(
      self.objectives,
      self._counts(parts, "train", weighted=weighted),
      name=name,
      needed=of_training and "normalized_entropy" in metrics,
    )
    return {"base_rates": rates}

  def _check_positions(self, parts: ExampleParts) -> None:
    """Makes the true curve, which says if it can not be."""
    bias = self.position_bias
    if bias is None or not bias.truth:
      return
    rules = tuple(rule for rule in bias.label_rules if rule.train_only)
    blocks = (block for block, _ in self._checked_blocks(parts, "train", rules))
    position_means(blocks, bias.column, bias.num_positions, truth=bias.truth)

  def _counts(
    self, parts: ExampleParts, part: str, *, weighted: bool
  ) -> dict[str, LabelCounts]:
    """How many labels count, which keep to their rules."""
    blocks = self._checked_blocks(parts, part, self._label_rules)
    return count_labels(
      self.objectives,
      ((block, weight if weighted else None) for block, weight in blocks),
    )

  def _checked_blocks(
    self, parts: ExampleParts, part: str, rules: tuple[LabelRule, ...]
  ) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
    """The columns of labels, some rows at a time, that keep to their rules."""
    first_row = 0
    for block, weight in parts.weighted_blocks(part, label_names(rules)):
      name = f"{self.source.name} {part}"
      check_labels(rules, block, name=name, part=part, first_row=first_row)
      first_row += len(next(iter(block.values())))
      yield block, weight

  def _bench(self, *, fields, numeric, **options: Any) -> MultiTaskBench:
    bias = self.position_bias
    if bias is not None:
      label = biased_label(self.objectives)
      train = None if self.stream else options["parts"].split.train
      bias = bias.fitted(train, label)
    task = MultiTaskRanking(
      self.model,
      fields,
      numeric,
      self._all_tables,
      objectives=self.objectives,
      balancer=self.balancer,
      measure_conflict=self.measure_conflict,
      position_bias=bias,
    )
    return MultiTaskBench(
      task=task,
      batch_size=self.batch_size,
      seed=self.seed,
      served=self.served,
      front=self.front,
      **options,
    )
