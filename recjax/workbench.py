"""A task with its data at hand: what validation and test are made of."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from recjax import files
from recjax.data.batches import SequenceBatches, history_batches
from recjax.data.eval_set import EvalSet, make_eval_set
from recjax.data.interactions import Interactions
from recjax.data.negatives import item_counts
from recjax.data.planted_process import PlantedProcess
from recjax.data.planted_truth import bayes_optimal
from recjax.data.ragged import Ragged
from recjax.data.sequences import training_sequences
from recjax.data.splits import Split
from recjax.evaluation.eval_report import EvalReport, ReportedResult
from recjax.evaluation.evaluate import EvalResult, evaluate
from recjax.evaluation.protocol import Protocol
from recjax.retrieval.scorers import DotProductScorer
from recjax.runs.record import RunRecord
from recjax.runs.slice_files import save_slices
from recjax.tasks.next_item import NextItem
from recjax.types import Params

ENCODE_BATCH = 256
"""Histories encoded at a time; a matter of speed alone."""


@dataclasses.dataclass(frozen=True, eq=False)
class Workbench:
  """A task with its data at hand.

  Attributes:
    interactions: the prepared data.
    split: its split.
    counts: training count of every item id.
    task: module, loss and negatives.
    protocol: how the validation and the test part are judged.
    max_validation_users: validation on at most so many users; 0 is all.
    batch_size: sequences of one step.
    seed: of the order, and of the choice of validation users.
    planted: the process that the data were drawn from, if it is known.
    report: what the test gives besides.
  """

  judges_on_mesh = False
  refresher = None

  interactions: Interactions
  split: Split
  counts: Num[np.ndarray, " vocab"]
  task: NextItem
  protocol: Protocol
  max_validation_users: int
  batch_size: int
  seed: int
  planted: PlantedProcess | None = None
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
  def batches(self) -> SequenceBatches:
    """The training sequences in their order."""
    return SequenceBatches(
      training_sequences(self.interactions, self.split),
      batch_size=self.batch_size,
      max_len=self.task.model.max_len,
      seed=self.seed,
    )

  @property
  def constants(self) -> dict[str, Any]:
    """Arrays that every step reads."""
    return self.task.constants(self.counts)

  @functools.cached_property
  def _encode(self):
    return jax.jit(self.task.encode)

  def queries(
    self, params: Params, histories: Ragged
  ) -> Float[Array, "user dim"]:
    """The query of every history."""
    out = np.zeros((len(histories), self.task.model.dim), np.float32)
    for rows, batch in history_batches(
      histories, batch_size=ENCODE_BATCH, max_len=self.task.model.max_len
    ):
      vectors = np.asarray(self._encode(params, batch))
      out[rows[rows >= 0]] = vectors[rows >= 0]
    return jnp.asarray(out)

  @functools.cached_property
  def _all_counts(self) -> Num[np.ndarray, " vocab"]:
    """The count of every item id over all parts; some protocols use it."""
    return item_counts(self.interactions, np.arange(len(self.interactions)))

  @functools.cached_property
  def _validation_set(self) -> EvalSet:
    users = make_eval_set(self.interactions, self.split, "validation")
    most = self.max_validation_users
    if not most or len(users) <= most:
      return users
    rng = np.random.default_rng(self.seed)
    return users.take(np.sort(rng.permutation(len(users))[:most]))

  def validate(self, params: Params) -> dict[str, float]:
    """Validation metrics, without intervals and floor."""
    return self.judge(
      params, self._validation_set, intervals=False, floor=False
    ).metrics

  def judge(
    self,
    params: Params,
    eval_set: EvalSet,
    protocol: Protocol | None = None,
    **options: Any,
  ) -> EvalResult:
    """Evaluates parameters under a protocol; that of the bench by default."""
    params = jax.device_put(params)
    return evaluate(
      DotProductScorer(params["tables"]["item"]),
      lambda rows: self.queries(params, eval_set.history.take(rows)),
      eval_set,
      protocol or self.protocol,
      num_items=self.interactions.num_items,
      popularity=self.counts,
      all_popularity=self._all_counts,
      **options,
    )

  def test(self, params: Params) -> ReportedResult:
    """Test metrics with all that the report of this run asks for."""
    eval_set = make_eval_set(self.interactions, self.split, "test")
    return self.report.test(
      functools.partial(self.judge, params, eval_set),
      eval_set,
      self.protocol,
      self.interactions,
      self.split.train,
    )

  def facts(self, tested: ReportedResult) -> dict[str, Any]:
    """What result.json tells besides."""
    facts = {
      "objective": type(self.task.objective).__name__,
      "num_test_users": tested.num_users,
      "leakage": self.split.leakage.to_dict(),
    } | tested.facts()
    if self.planted is not None:
      eval_set = make_eval_set(self.interactions, self.split, "test")
      truth = bayes_optimal(self.planted, eval_set)
      facts["bayes_optimal"] = truth.measured
      facts["bayes_optimal_expected"] = truth.expected
    return facts

  def save(self, record: RunRecord, tested: ReportedResult, name: str) -> None:
    """Writes the metrics of each user, and those of slices with a plot."""
    record.save_per_user(name, user_id=tested.user_id, **tested.per_user)
    title = f"{type(self.task.model).__name__}: test on {self.data_name}"
    save_slices(record, name, tested.slice_rows(), title=title)


def split_data(
  splitter: Any, interactions: Interactions, data_dir: files.PathLike
) -> Split:
  """Splits, with the files of a splitter that reads any under `data_dir`."""
  if getattr(splitter, "data_dir", None) == "":
    splitter = dataclasses.replace(splitter, data_dir=str(data_dir))
  return splitter(interactions)
