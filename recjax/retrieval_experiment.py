"""Experiments of two towers: features, losses, negatives, exact judgement.

`RetrievalExperiment` is the root of a gin file and just as well built in a
notebook; `recjax.launch` carries it out.
"""

import dataclasses
from typing import Any

import numpy as np

from recjax import files
from recjax.data.hard_lists import HardListFile
from recjax.data.interactions import Interactions
from recjax.data.negatives import item_counts
from recjax.data.prepare import Source, prepare
from recjax.data.splits import LeaveOneOut, Split
from recjax.embeddings.groups import TableSettings
from recjax.errors import ConfigError, check_range
from recjax.evaluation.protocol import Protocol
from recjax.models.two_tower import TwoTower
from recjax.retrieval_bench import RetrievalBench
from recjax.retrieval_sides import Feature, encode_context, encode_side
from recjax.tasks.history_windows import HistoryWindow
from recjax.tasks.list_negatives import HARD_LISTS
from recjax.tasks.pairs import USER
from recjax.tasks.retrieval import Retrieval
from recjax.tasks.retrieval_negatives import InBatch
from recjax.tasks.retrieval_objectives import RetrievalObjective, Softmax
from recjax.train.loop import LAST, TrainConfig
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer
from recjax.types import ITEM
from recjax.workbench import split_data


@dataclasses.dataclass(frozen=True)
class RetrievalExperiment:
  """Data, features, towers, losses, training and protocol of one run.

  Attributes:
    source: where the interactions come from.
    name: of the run, in tables.
    splitter: what is trained on, selected on and reported on.
    user_id: whether the id of a user is a feature.
    item_id: whether the id of an item is one; without it an item is known by
      its content alone, new ones as well as old ones.
    user_features: of the source's table of users.
    item_features: of its table of items.
    context_features: of the events themselves, such as their time.
    history: what the user tower sees of the items before; None is nothing.
    model: the towers.
    embedding_dim: width of the tables.
    feature_dims: (feature, width) pairs for features that differ.
    tables: of all sides.
    side_tables: (side, settings) pairs for sides that differ; sides are
      "user", "item" and "context".
    objective: the loss.
    negatives: where the items come from that a positive is compared with.
    hard_lists: of users, for `HardLists` among the negatives.
    remove_hits: of these, "target" leaves out the positive itself, "touched"
      all training items of the user, "none" nothing.
    interest_power: of several interests of a user, how sharply the target
      chooses the one that answers for it; infinite takes the best.
    batch_size: positives of one step.
    optimizer: optax by parameter path.
    train: how long, how often.
    mesh: devices.
    protocol: how the test part is judged, and the validation part alike.
    max_validation_users: validation on at most so many queries; 0 is all.
    measure_sampling_bias: whether a test among sampled candidates ranks the
      whole catalogue besides, to tell what sampling did to the metrics.
    seed: of everything random but the protocol's candidates.
  """

  source: Source
  name: str = "retrieval"
  splitter: Any = LeaveOneOut()
  user_id: bool = True
  item_id: bool = True
  user_features: tuple[Feature, ...] = ()
  item_features: tuple[Feature, ...] = ()
  context_features: tuple[Feature, ...] = ()
  history: HistoryWindow | None = None
  model: TwoTower = TwoTower()
  embedding_dim: int = 64
  feature_dims: tuple[tuple[str, int], ...] = ()
  tables: TableSettings = TableSettings(init_stddev=0.01)
  side_tables: tuple[tuple[str, TableSettings], ...] = ()
  objective: RetrievalObjective = Softmax()
  negatives: tuple[Any, ...] = (InBatch(),)
  hard_lists: HardListFile | None = None
  remove_hits: str = "target"
  interest_power: float = float("inf")
  batch_size: int = 1024
  optimizer: Optimizer = Optimizer()
  train: TrainConfig = TrainConfig()
  mesh: MeshConfig = MeshConfig()
  protocol: Protocol = Protocol()
  max_validation_users: int = 10_000
  measure_sampling_bias: bool = True
  seed: int = 0

  def __post_init__(self):
    name = "RetrievalExperiment"
    check_range(f"{name}.batch_size", self.batch_size, 1, integer=True)
    check_range(f"{name}.seed", self.seed, 0, 2**31 - 1, integer=True)
    check_range(
      f"{name}.max_validation_users",
      self.max_validation_users,
      0,
      integer=True,
    )
    if not isinstance(self.source, Source):
      raise ConfigError(
        f"{name}.source must be a data source such as"
        f" @movielens.MovieLens100K(); got {self.source!r}."
      )
    if not isinstance(self.model, TwoTower):
      raise ConfigError(
        f"{name}.model must be a @two_tower.TwoTower(); got {self.model!r}."
      )
    if not callable(self.splitter):
      raise ConfigError(
        f"{name}.splitter must be a splitter such as @splits.LeaveOneOut();"
        f" got {self.splitter!r}."
      )

  def open(
    self, data_dir: files.PathLike, cache_dir: files.PathLike | None = None
  ) -> RetrievalBench:
    """Prepares the data and everything that hangs on it.

    Args:
      data_dir: the folder of raw data sets.
      cache_dir: where prepared data lie.

    Returns:
      The bench.
    """
    interactions = prepare(self.source, data_dir, cache_dir)
    split = split_data(self.splitter, interactions, data_dir)
    user, context, item = self._sides(interactions, split)
    task = Retrieval(
      self.model,
      self.objective,
      self.negatives,
      num_users=interactions.num_users,
      num_items=interactions.num_items,
      user=user.side,
      context=context.side,
      item=item.side,
      history=self.history,
      embedding_dim=self.embedding_dim,
      feature_dims=self.feature_dims,
      tables=(("", self.tables), *self.side_tables),
      remove_hits=self.remove_hits,
      interest_power=self.interest_power,
    )
    if task.sources.needs_lists != (self.hard_lists is not None):
      raise ConfigError(
        "RetrievalExperiment.hard_lists is for HardLists among the negatives,"
        f" and these need it; got {self.hard_lists!r} with {self.negatives}."
      )
    columns = {**user.columns, **context.columns, **item.columns}
    if self.hard_lists is not None:
      columns[HARD_LISTS] = self.hard_lists.read(data_dir, interactions)
    protocol = self._protocol(split)
    return RetrievalBench(
      interactions,
      split,
      item_counts(interactions, split.train),
      task,
      columns,
      protocol,
      protocol,
      self.max_validation_users,
      self.batch_size,
      self.seed,
      self.measure_sampling_bias,
    )

  def _protocol(self, split: Split) -> Protocol:
    """The protocol, with the split and how the weights were chosen."""
    selection = self.protocol.selection
    if self.train.select == LAST:
      selection = "last weights"
    elif not len(split.validation):
      raise ConfigError(
        f"the split {split.name} has no validation part, by which weights are"
        " selected: give it one, or set TrainConfig.select = 'last'."
      )
    return dataclasses.replace(
      self.protocol, split=split.name, selection=selection
    )

  def _sides(self, interactions: Interactions, split: Split):
    """The encoded features of users, requests and items."""
    rows = split.train
    seen = lambda ids, num: np.bincount(ids[rows], minlength=num + 1)[1:] > 0
    num_users, num_items = interactions.num_users, interactions.num_items
    user = encode_side(
      "user",
      num_users,
      interactions.users,
      self.user_features,
      id_name=USER if self.user_id else "",
      in_training=seen(interactions.user_id, num_users),
    )
    item = encode_side(
      "item",
      num_items,
      interactions.items,
      self.item_features,
      id_name=ITEM if self.item_id else "",
      in_training=seen(interactions.item_id, num_items),
    )
    context = encode_context(interactions, self.context_features, rows)
    return user, context, item
