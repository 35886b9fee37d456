"""Two towers with their data at hand: what validation and test are made of."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, Shaped

from recjax.data.eval_set import EvalSet, make_eval_set
from recjax.data.example_batches import ExampleBatches
from recjax.data.interactions import Interactions
from recjax.data.negatives import item_counts
from recjax.data.ragged import Ragged
from recjax.data.splits import Split
from recjax.evaluation.chance import above_chance
from recjax.evaluation.eval_report import EvalReport, ReportedResult
from recjax.evaluation.evaluate import EvalResult, evaluate
from recjax.evaluation.protocol import Protocol
from recjax.retrieval.scorers import DotProductScorer, InterestScorer
from recjax.retrieval.topk import top_k
from recjax.runs.record import RunRecord
from recjax.runs.slice_files import save_slices
from recjax.tasks.hard_mining import mine_hard_negatives
from recjax.tasks.list_negatives import HARD_LISTS, MINED
from recjax.tasks.pairs import USER
from recjax.tasks.retrieval import PLACE, Retrieval
from recjax.tasks.sides import CONTEXT
from recjax.train.refreshed import Refresher
from recjax.types import ITEM, Batch, Params

ENCODE_BATCH = 1024
"""Users or items encoded at a time; a matter of speed alone."""


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalBench:
  """Two towers with their data at hand.

  Attributes:
    interactions: the prepared data.
    split: its split.
    counts: training count of every item id.
    task: towers, losses and negatives.
    columns: "side/feature" -> column, see `recjax.retrieval_sides`.
    protocol: how the test part is judged.
    validation_protocol: the same for the validation part.
    max_validation_users: validation on at most so many queries; 0 is all.
    batch_size: positives of one step.
    seed: of the order, and of the choice of validation queries.
    report: what the test gives besides.
  """

  judges_on_mesh = False

  interactions: Interactions
  split: Split
  counts: Num[np.ndarray, " vocab"]
  task: Retrieval
  columns: dict[str, Shaped[np.ndarray, "row ..."]]
  protocol: Protocol
  validation_protocol: Protocol
  max_validation_users: int
  batch_size: int
  seed: int
  report: EvalReport = EvalReport()

  @property
  def data_name(self) -> str:
    """The name of the data set."""
    return self.interactions.name

  @property
  def data_fingerprint(self) -> str:
    """The fingerprint of the prepared data, with that of lists beside them."""
    own = self.interactions.fingerprint
    if (lists := self.columns.get(HARD_LISTS)) is None:
      return own
    return hashlib.sha256(own.encode() + lists.tobytes()).hexdigest()

  # -- Training -------------------------------------------------------------

  @functools.cached_property
  def _train_rows(self) -> Int[np.ndarray, " train"]:
    """The training events by user and time."""
    return np.sort(self.split.train)

  @functools.cached_property
  def train_items(self) -> Ragged:
    """The training items of each user id, in the order of time."""
    rows = self._train_rows
    return Ragged.from_pairs(
      self.interactions.user_id[rows],
      self.interactions.item_id[rows],
      self.interactions.num_users + 1,
    )

  @functools.cached_property
  def batches(self) -> ExampleBatches:
    """The training events in their order."""
    rows = self._train_rows
    columns = {
      USER: self.interactions.user_id[rows],
      ITEM: self.interactions.item_id[rows],
      **self._context_of(rows),
    }
    if self.task.history is not None:
      columns[PLACE] = self.task.history.places(self.train_items)
    return ExampleBatches(columns, batch_size=self.batch_size, seed=self.seed)

  @functools.cached_property
  def constants(self) -> dict[str, np.ndarray]:
    """The features of users and items, and what negatives are drawn by."""
    constants = self.task.constants(self.train_items, self.counts)
    return constants | self._side_columns

  @property
  def _side_columns(self) -> dict[str, Shaped[np.ndarray, "row ..."]]:
    return {
      name: column
      for name, column in self.columns.items()
      if not name.startswith(f"{CONTEXT}/")
    }

  def _context_of(
    self, rows: Int[np.ndarray, " row"]
  ) -> dict[str, Shaped[np.ndarray, "row ..."]]:
    return {
      name: column[rows]
      for name, column in self.columns.items()
      if name.startswith(f"{CONTEXT}/")
    }

  @property
  def refresher(self) -> Refresher | None:
    """Mines hard negatives from the current vectors, if any are asked for."""
    mined = self.task.sources.mined
    if mined is None:
      return None
    return Refresher(mined.refresh_epochs, self._mine)

  def _mine(self, weights: Params) -> dict[str, np.ndarray]:
    """The items that the current vectors find for each user."""
    mined = self.task.sources.mined
    assert mined is not None
    users = np.arange(1, self.interactions.num_users + 1, dtype=np.int32)
    touched = self.train_items.take(users)
    last = np.maximum(self.train_items.offsets[users + 1] - 1, 0)
    queries = EvalSet(users, touched, touched, touched, self._train_rows[last])
    items = jnp.asarray(self.item_vectors(weights))
    vectors = self.user_vectors(weights, queries)
    scorer = (InterestScorer if vectors.ndim == 3 else DotProductScorer)(items)
    num_items = self.interactions.num_items
    lists = mine_hard_negatives(
      lambda block, k: top_k(
        scorer, jnp.asarray(block), k=k, num_items=num_items
      ),
      vectors,
      touched,
      pool=mined.pool,
      num_items=num_items,
      skip_top=mined.skip_top,
    )
    return {MINED: np.concatenate([np.zeros_like(lists[:1]), lists])}

  # -- Vectors --------------------------------------------------------------

  @functools.cached_property
  def _device_columns(self) -> dict[str, Array]:
    return {name: jnp.asarray(x) for name, x in self._side_columns.items()}

  @functools.cached_property
  def _encode_items(self):
    return jax.jit(self.task.item_vectors)

  @functools.cached_property
  def _encode_users(self):
    return jax.jit(self.task.user_vectors)

  def item_vectors(self, weights: Params) -> Float[np.ndarray, "vocab dim"]:
    """The vector of every item id; row 0 is padding, and zeros."""
    weights = jax.device_put(weights)
    ids = np.arange(1, self.interactions.num_items + 1, dtype=np.int32)
    parts = [
      np.asarray(self._encode_items(weights, self._device_columns, block))[:num]
      for block, num in _blocks({ITEM: ids})
    ]
    vectors = np.concatenate(parts)
    return np.concatenate([np.zeros_like(vectors[:1]), vectors])

  def user_vectors(
    self, weights: Params, eval_set: EvalSet
  ) -> Float[np.ndarray, "query *k dim"]:
    """The vector of every query, or one for each interest.

    Args:
      weights: of training.
      eval_set: users, their histories and the rows of their requests.
    """
    weights = jax.device_put(weights)
    columns: dict[str, np.ndarray] = {
      USER: np.asarray(eval_set.user_id, np.int32),
      **self._context_of(eval_set.rows),
    }
    if self.task.history is not None:
      columns["history"] = self.task.history.served(eval_set.history)
    parts = [
      np.asarray(self._encode_users(weights, self._device_columns, block))[:num]
      for block, num in _blocks(columns)
    ]
    return np.concatenate(parts)

  # -- Judging --------------------------------------------------------------

  def eval_set(self, part: str) -> EvalSet:
    """All queries of a part, "validation" or "test"."""
    return make_eval_set(
      self.interactions, self.split, part, per=self.protocol.per
    )

  @functools.cached_property
  def _validation_set(self) -> EvalSet:
    queries = self.eval_set("validation")
    most = self.max_validation_users
    if not most or len(queries) <= most:
      return queries
    rng = np.random.default_rng(self.seed)
    return queries.take(np.sort(rng.permutation(len(queries))[:most]))

  @functools.cached_property
  def _all_counts(self) -> Num[np.ndarray, " vocab"]:
    return item_counts(self.interactions, np.arange(len(self.interactions)))

  def judge(
    self,
    weights: Params,
    eval_set: EvalSet,
    protocol: Protocol,
    **options: Any,
  ) -> EvalResult:
    """Evaluates weights by exact search under a protocol."""
    users = self.user_vectors(weights, eval_set)
    items = jnp.asarray(self.item_vectors(weights))
    scorer = InterestScorer if users.ndim == 3 else DotProductScorer
    return evaluate(
      scorer(items),
      users,
      eval_set,
      protocol,
      num_items=self.interactions.num_items,
      popularity=self.counts,
      all_popularity=self._all_counts,
      **options,
    )

  def validate(self, weights: Params) -> dict[str, float]:
    """Validation metrics, without intervals and floor; none without data."""
    if not len(self.split.validation):
      return {}
    return self.judge(
      weights,
      self._validation_set,
      self.validation_protocol,
      intervals=False,
      floor=False,
    ).metrics

  def test(self, weights: Params) -> ReportedResult:
    """Test metrics with all that the report of this run asks for."""
    queries = self.eval_set("test")
    return self.report.test(
      functools.partial(self.judge, weights, queries),
      queries,
      self.protocol,
      self.interactions,
      self.split.train,
    )

  def facts(self, tested: ReportedResult) -> dict[str, Any]:
    """What result.json tells besides."""
    facts = {
      "objective": self.task.describe(),
      "num_test_users": tested.num_users,
      "leakage": self.split.leakage.to_dict(),
    } | tested.facts()
    if getattr(self.protocol.candidates, "among", "all") == "unseen":
      facts["above_chance"] = {
        name: dataclasses.asdict(value)
        for name, value in above_chance(tested).items()
      }
    return facts

  def save(self, record: RunRecord, tested: ReportedResult, name: str) -> None:
    """Writes the metrics of each query, and those of slices with a plot."""
    record.save_per_user(name, user_id=tested.user_id, **tested.per_user)
    title = f"{type(self.task.model).__name__}: test on {self.data_name}"
    save_slices(record, name, tested.slice_rows(), title=title)


def _blocks(
  columns: dict[str, Shaped[np.ndarray, "row ..."]],
) -> Iterator[tuple[Batch, int]]:
  """Blocks of one shape, and how many of their rows count."""
  total = len(next(iter(columns.values())))
  for start in range(0, total, ENCODE_BATCH):
    rows = np.minimum(start + np.arange(ENCODE_BATCH), total - 1)
    block: Any = {name: column[rows] for name, column in columns.items()}
    yield block, min(ENCODE_BATCH, total - start)
