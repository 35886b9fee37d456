"""Experiments of models with several objectives over the same rows."""

import dataclasses
from typing import Any

import flax.linen as nn

from recjax.balancing.fixed_weights import FixedWeights
from recjax.errors import ConfigError
from recjax.models.multi_task import MultiTask
from recjax.multi_task_bench import MultiTaskBench, judged_names
from recjax.ranking_experiment import RankingExperiment
from recjax.tasks.multi_task import MultiTaskRanking
from recjax.tasks.task_objectives import Objective, check_objectives
from recjax.train.loop import TrainConfig


@dataclasses.dataclass(frozen=True)
class MultiTaskExperiment(RankingExperiment):
  """A `RankingExperiment` with objectives; metrics are such as "auc/click".

  Rows are held in memory: `stream` and `loss` must be left away.

  Attributes:
    objectives: the tasks, in the order of the chain where one is given
      another.
    model: a `MultiTask`, whose `num_tasks` is that of the objectives.
    balancer: of `recjax.balancing`.
    measure_conflict: tells the cosines between the tasks' gradients.
    train: `select` names a metric of a task, "auc/click".
  """

  objectives: tuple[Objective, ...] = (Objective("label"),)
  name: str = "multi_task"
  model: nn.Module = MultiTask(num_tasks=1)
  balancer: Any = FixedWeights()
  measure_conflict: bool = False
  train: TrainConfig = TrainConfig(select="auc/label")

  def __post_init__(self):
    check_objectives(self.objectives)
    if not isinstance(self.model, MultiTask):
      raise ConfigError(
        "MultiTaskExperiment.model must be @multi_task.MultiTask(), with a"
        f" ranking model as its trunk if one is wanted; got {self.model!r}."
      )
    if self.model.num_tasks != len(self.objectives):
      # How many there are is said once, by the objectives.
      model = self.model.clone(num_tasks=len(self.objectives))
      object.__setattr__(self, "model", model)
    if self.stream is not None or self.loss != "binary_cross_entropy":
      raise ConfigError(
        "MultiTaskExperiment holds its rows in memory and takes its losses from"
        " the objectives: leave `stream` and `loss` away."
      )
    super().__post_init__()

  def _metric_names(self) -> list[str]:
    return judged_names(self.objectives, self.protocol)

  @property
  def _label_columns(self) -> tuple[str, ...]:
    columns = [objective.column for objective in self.objectives]
    return tuple(dict.fromkeys(columns))

  @property
  def _no_features(self) -> tuple[str, ...]:
    truths = [objective.truth for objective in self.objectives]
    return (*super()._no_features, *self._label_columns, *filter(None, truths))

  def _bench(self, *, fields, numeric, **options: Any) -> MultiTaskBench:
    task = MultiTaskRanking(
      self.model,
      fields,
      numeric,
      self._all_tables,
      objectives=self.objectives,
      balancer=self.balancer,
      measure_conflict=self.measure_conflict,
    )
    return MultiTaskBench(
      task=task, batch_size=self.batch_size, seed=self.seed, **options
    )
