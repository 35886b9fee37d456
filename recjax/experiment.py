"""Next-item experiments: all that decides a number.

`Experiment` is the root of a gin file and just as well built in a notebook;
`recjax.launch` carries it out.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import numpy as np

from recjax import files
from recjax.data.interactions import Interactions
from recjax.data.leakage import leakage_report
from recjax.data.negatives import item_counts
from recjax.data.prepare import Source, prepare
from recjax.data.sources.planted import PlantedSource
from recjax.data.splits import LeaveOneOut, Split
from recjax.embeddings.row_optimizers import RowOptimizer
from recjax.errors import ConfigError, check_range
from recjax.evaluation.protocol import Protocol
from recjax.models.sasrec import SASRec
from recjax.tasks.next_item import NextItem
from recjax.tasks.objectives import BinaryCrossEntropy, Objective
from recjax.train.loop import TrainConfig
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer
from recjax.workbench import Workbench, split_data


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Data, split, model, objective, training and protocol of one run.

  Attributes:
    source: where the interactions come from.
    name: of the run, in tables.
    splitter: what is trained on, selected on and reported on.
    model: the module.
    objective: the loss and its negatives.
    positions: "from_end" or "from_start", see `data.sequences.pack`.
    batch_size: sequences of one step.
    micro_rows: packed rows whose gradient is formed at a time.
    table_optimizer: row-wise, of the item table; None leaves it to optax.
    table_sharding: how such a table is cut over the mesh, see `TableSpec`.
    optimizer: optax by parameter path.
    train: how long, how often.
    mesh: devices.
    protocol: how the test part is judged, and the validation part alike.
    max_validation_users: validation on at most so many users; 0 is all.
    measure_sampling_bias: whether a test among sampled candidates ranks the
      whole catalogue besides, to tell what sampling did to the metrics.
    seed: of everything random but the protocol's candidates.
  """

  source: Source
  name: str = "experiment"
  splitter: Any = LeaveOneOut()
  model: nn.Module = SASRec()
  objective: Objective = BinaryCrossEntropy()
  positions: str = "from_end"
  batch_size: int = 128
  micro_rows: int = 16
  table_optimizer: RowOptimizer | None = None
  table_sharding: str = "auto"
  optimizer: Optimizer = Optimizer()
  train: TrainConfig = TrainConfig()
  mesh: MeshConfig = MeshConfig()
  protocol: Protocol = Protocol()
  max_validation_users: int = 10_000
  measure_sampling_bias: bool = True
  seed: int = 0

  def __post_init__(self):
    check_range("Experiment.batch_size", self.batch_size, 1, integer=True)
    check_range("Experiment.seed", self.seed, 0, 2**31 - 1, integer=True)
    check_range(
      "Experiment.max_validation_users",
      self.max_validation_users,
      0,
      integer=True,
    )
    if not isinstance(self.source, Source):
      raise ConfigError(
        "Experiment.source must be a data source such as"
        f" @sequence_file.SequenceFile(); got {self.source!r}."
      )
    if not callable(self.splitter):
      raise ConfigError(
        "Experiment.splitter must be a splitter such as @splits.LeaveOneOut();"
        f" got {self.splitter!r}."
      )

  def open(
    self, data_dir: files.PathLike, cache_dir: files.PathLike | None = None
  ) -> Workbench:
    """Prepares the data and everything that hangs on it.

    Args:
      data_dir: the folder of raw data sets.
      cache_dir: where prepared data lie.

    Returns:
      The workbench.
    """
    interactions = prepare(self.source, data_dir, cache_dir)
    split = split_data(self.splitter, interactions, data_dir)
    split = _with_what_is_known(split, interactions, self)
    task = NextItem(
      self.model,
      self.objective,
      interactions.num_items,
      positions=self.positions,
      micro_rows=self.micro_rows,
      data_shards=self.mesh.num_data(),
      table_optimizer=self.table_optimizer,
      table_sharding=self.table_sharding,
    )
    source = self.source
    return Workbench(
      interactions,
      split,
      item_counts(interactions, split.train),
      task,
      dataclasses.replace(self.protocol, split=split.name),
      self.max_validation_users,
      self.batch_size,
      self.seed,
      source.process() if isinstance(source, PlantedSource) else None,
      self.measure_sampling_bias,
    )


def _with_what_is_known(
  split: Split, interactions: Interactions, experiment: Experiment
) -> Split:
  """The split with the checks that only an experiment can make."""
  counts_from = getattr(experiment.protocol.candidates, "counts_from", "train")
  everything = np.arange(len(interactions))
  negatives = getattr(experiment.objective, "negatives", None)
  excludes = negatives is not None and negatives.exclude != "none"
  leakage = leakage_report(
    interactions,
    split.train,
    split.validation,
    split.test,
    popularity_rows=everything if counts_from == "all" else split.train,
    sampler_excluded_rows=split.train if excludes else everything[:0],
  )
  return dataclasses.replace(split, leakage=leakage)
