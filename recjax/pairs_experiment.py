"""Experiments of pointwise user-item models on implicit feedback, as NCF's.

`PairsExperiment` is the root of a gin file and just as well built in a
notebook; `recjax.launch` carries it out.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from recjax import files
from recjax.data.eval_set import EvalSet, make_eval_set
from recjax.data.example_batches import ExampleBatches
from recjax.data.interactions import Interactions
from recjax.data.negatives import item_counts
from recjax.data.prepare import Source, prepare
from recjax.data.ragged import Ragged
from recjax.data.splits import LeaveOneOut, Split
from recjax.embeddings.groups import TableSettings
from recjax.errors import ConfigError, check_range
from recjax.evaluation.candidates import GivenLists, UniformNegatives
from recjax.evaluation.eval_report import EvalReport, ReportedResult
from recjax.evaluation.evaluate import EvalResult, evaluate
from recjax.evaluation.protocol import Protocol
from recjax.models.neumf import NeuMF
from recjax.runs.record import RunRecord
from recjax.runs.slice_files import save_slices
from recjax.tasks.pairs import USER, Pairs, PairScorer
from recjax.tasks.ranking import Ranking
from recjax.train.loop import TrainConfig
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer
from recjax.types import ITEM, Params
from recjax.workbench import split_data


@dataclasses.dataclass(frozen=True)
class PairsExperiment:
  """Data, split, model, tables, training and protocol of one run.

  Attributes:
    source: where the interactions come from.
    name: of the run, in tables.
    splitter: what is trained on, selected on and reported on.
    model: scores a user and an item, such as `NeuMF`.
    tables: of all groups of the model.
    group_tables: (group, settings) pairs for groups that differ.
    num_negatives: drawn for each positive, anew in every step.
    batch_size: positives of a step; it has 1 + num_negatives times as many
      examples.
    optimizer: optax by parameter path.
    train: how long, how often.
    mesh: devices.
    protocol: how the test part is judged.
    validation_candidates: among what validation targets are ranked, for lists
      given with the test are of no use there.
    max_validation_users: validation on at most so many users; 0 is all.
    report: what the test gives besides: slices, and metrics of lists.
    seed: of everything random but the protocol's candidates.
  """

  source: Source
  name: str = "pairs"
  splitter: Any = LeaveOneOut()
  model: nn.Module = NeuMF()
  tables: TableSettings = TableSettings(init_stddev=0.01)
  group_tables: tuple[tuple[str, TableSettings], ...] = ()
  num_negatives: int = 4
  batch_size: int = 256
  optimizer: Optimizer = Optimizer()
  train: TrainConfig = TrainConfig()
  mesh: MeshConfig = MeshConfig()
  protocol: Protocol = Protocol()
  validation_candidates: Any = UniformNegatives(99)
  max_validation_users: int = 10_000
  report: EvalReport = dataclasses.field(
    default=EvalReport(), metadata={"silent_default": True}
  )
  seed: int = 0

  def __post_init__(self):
    check_range("PairsExperiment.batch_size", self.batch_size, 1, integer=True)
    check_range("PairsExperiment.seed", self.seed, 0, 2**31 - 1, integer=True)
    if not isinstance(self.source, Source):
      raise ConfigError(
        "PairsExperiment.source must be a data source such as"
        f" @ncf.NcfFiles(); got {self.source!r}."
      )

  def open(
    self, data_dir: files.PathLike, cache_dir: files.PathLike | None = None
  ) -> "PairsBench":
    """Prepares the data and everything that hangs on it.

    Args:
      data_dir: the folder of raw data sets.
      cache_dir: where prepared data lie.

    Returns:
      The bench.
    """
    interactions = prepare(self.source, data_dir, cache_dir)
    split = split_data(self.splitter, interactions, data_dir)
    counts = item_counts(interactions, split.train)
    self.report.check(interactions, self.protocol, counts)
    ranking = Ranking(
      self.model,
      Pairs.make_fields(interactions.num_users, interactions.num_items),
      tables=(("", self.tables), *self.group_tables),
    )
    candidates = self.protocol.candidates
    if isinstance(candidates, GivenLists) and candidates.path:
      path = str(pathlib.Path(data_dir) / candidates.path)
      candidates = dataclasses.replace(candidates, path=path)
    protocol = dataclasses.replace(
      self.protocol, split=split.name, candidates=candidates
    )
    return PairsBench(
      interactions,
      split,
      Pairs(ranking, self.num_negatives),
      protocol,
      dataclasses.replace(protocol, candidates=self.validation_candidates),
      self.batch_size,
      self.max_validation_users,
      self.seed,
      self.report,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class PairsBench:
  """A task with its data at hand.

  Attributes:
    interactions: the prepared data.
    split: its split.
    task: model, tables and negatives.
    protocol: of the test part.
    validation_protocol: of the validation part.
    batch_size: positives of a step.
    max_validation_users: 0 is all.
    seed: of the order, and of the choice of validation users.
    report: what the test gives besides.
  """

  judges_on_mesh = False
  refresher = None

  interactions: Interactions
  split: Split
  task: Pairs
  protocol: Protocol
  validation_protocol: Protocol
  batch_size: int
  max_validation_users: int
  seed: int
  report: EvalReport = EvalReport()

  @property
  def data_name(self) -> str:
    """The name of the data set."""
    return self.interactions.name

  @property
  def data_fingerprint(self) -> str:
    """The fingerprint of the prepared data."""
    return self.interactions.fingerprint

  @functools.cached_property
  def batches(self) -> ExampleBatches:
    """The training pairs in their order."""
    rows = self.split.train
    columns = {
      USER: self.interactions.user_id[rows],
      ITEM: self.interactions.item_id[rows],
    }
    return ExampleBatches(columns, batch_size=self.batch_size, seed=self.seed)

  @functools.cached_property
  def constants(self) -> dict[str, np.ndarray]:
    """The training items of each user, which are no negatives."""
    rows = self.split.train
    return self.task.constants(
      Ragged.from_pairs(
        self.interactions.user_id[rows] - 1,
        self.interactions.item_id[rows],
        self.interactions.num_users,
      )
    )

  @functools.cached_property
  def _validation_set(self) -> EvalSet:
    users = make_eval_set(self.interactions, self.split, "validation")
    most = self.max_validation_users
    if not most or len(users) <= most:
      return users
    rng = np.random.default_rng(self.seed)
    return users.take(np.sort(rng.permutation(len(users))[:most]))

  def _judge(
    self, weights: Params, users: EvalSet, protocol: Protocol, **options: Any
  ) -> EvalResult:
    everything = np.arange(len(self.interactions))
    return evaluate(
      PairScorer(jax.device_put(weights), self.task.ranking),
      np.asarray(users.user_id, np.int32),
      users,
      protocol,
      num_items=self.interactions.num_items,
      popularity=item_counts(self.interactions, self.split.train),
      all_popularity=item_counts(self.interactions, everything),
      **options,
    )

  def validate(self, weights: Params) -> dict[str, float]:
    """Validation metrics, without intervals and floor."""
    return self._judge(
      weights,
      self._validation_set,
      self.validation_protocol,
      intervals=False,
      floor=False,
    ).metrics

  def test(self, weights: Params) -> ReportedResult:
    """Test metrics with all that the report of this run asks for."""
    users = make_eval_set(self.interactions, self.split, "test")
    return self.report.test(
      functools.partial(self._judge, weights, users),
      users,
      self.protocol,
      self.interactions,
      self.split.train,
    )

  def facts(self, tested: ReportedResult) -> dict[str, Any]:
    """What result.json tells besides."""
    return {
      "objective": f"BinaryCrossEntropy({self.task.num_negatives} negatives)",
      "num_test_users": tested.num_users,
      "leakage": self.split.leakage.to_dict(),
      "validation_protocol": self.validation_protocol.describe(),
    } | tested.facts()

  def save(self, record: RunRecord, tested: ReportedResult, name: str) -> None:
    """Writes the metrics of each user, and those of slices with a plot."""
    record.save_per_user(name, user_id=tested.user_id, **tested.per_user)
    title = (
      f"{type(self.task.ranking.model).__name__}: test on {self.data_name}"
    )
    save_slices(record, name, tested.slice_rows(), title=title)
