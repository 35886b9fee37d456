"""An experiment: everything that decides a number, and how it is carried out.

`Experiment` is the one root of a gin file and just as well built in a
notebook. `train` takes it from raw data to a finished run record; `evaluate`
judges the parameters of a record once more.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
from absl import logging
from jaxtyping import Float

from recjax import files
from recjax.data.batches import SequenceBatches, history_batches
from recjax.data.eval_set import EvalSet, make_eval_set
from recjax.data.interactions import Interactions
from recjax.data.negatives import item_counts
from recjax.data.planted_truth import bayes_optimal
from recjax.data.prepare import Source, prepare
from recjax.data.ragged import Ragged
from recjax.data.sequences import training_sequences
from recjax.data.sources.planted import PlantedSource
from recjax.data.splits import LeaveOneOut, Split
from recjax.errors import ConfigError, check_range
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.evaluate import evaluate as evaluate_scorer
from recjax.evaluation.protocol import Protocol
from recjax.models.sasrec import SASRec
from recjax.retrieval.scorers import DotProductScorer
from recjax.runs import environment, plots
from recjax.runs.record import RunRecord
from recjax.tasks.next_item import NextItem
from recjax.tasks.objectives import BinaryCrossEntropy, Objective
from recjax.train.checkpoint import Checkpoints
from recjax.train.loop import FitResult, TrainConfig, fit
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer
from recjax.types import Params

ENCODE_BATCH = 256
"""Histories encoded at a time; a matter of speed alone."""


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
    optimizer: optax by parameter path.
    train: how long, how often.
    mesh: devices.
    protocol: how the test part is judged, and the validation part alike.
    max_validation_users: validation on at most so many users; 0 is all.
    seed: of everything random but the protocol's candidates.
  """

  source: Source
  name: str = "experiment"
  splitter: Any = LeaveOneOut()
  model: SASRec = SASRec()
  objective: Objective = BinaryCrossEntropy()
  positions: str = "from_end"
  batch_size: int = 128
  micro_rows: int = 16
  optimizer: Optimizer = Optimizer()
  train: TrainConfig = TrainConfig()
  mesh: MeshConfig = MeshConfig()
  protocol: Protocol = Protocol()
  max_validation_users: int = 10_000
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


@dataclasses.dataclass(frozen=True, eq=False)
class Workbench:
  """An experiment with its data at hand.

  Attributes:
    experiment: the settings.
    interactions: the prepared data.
    split: its split.
    counts: training count of every item id.
    task: module, loss and negatives.
    protocol: of the experiment, with the split's name filled in.
  """

  experiment: Experiment
  interactions: Interactions
  split: Split
  counts: Float[np.ndarray, " vocab"]
  task: NextItem
  protocol: Protocol

  @functools.cached_property
  def _encode(self):
    return jax.jit(self.task.encode)

  def queries(
    self, params: Params, histories: Ragged
  ) -> Float[np.ndarray, "user dim"]:
    """The query of every history."""
    out = np.zeros((len(histories), self.task.model.dim), np.float32)
    for rows, batch in history_batches(
      histories, batch_size=ENCODE_BATCH, max_len=self.task.model.max_len
    ):
      vectors = np.asarray(self._encode(params, batch))
      out[rows[rows >= 0]] = vectors[rows >= 0]
    return out

  @functools.cached_property
  def _validation_set(self) -> EvalSet:
    users = make_eval_set(self.interactions, self.split, "validation")
    most = self.experiment.max_validation_users
    if not most or len(users) <= most:
      return users
    rng = np.random.default_rng(self.experiment.seed)
    return users.take(np.sort(rng.permutation(len(users))[:most]))

  def validate(self, params: Params) -> dict[str, float]:
    """Validation metrics, without intervals and floor."""
    return self.judge(
      params, self._validation_set, intervals=False, floor=False
    ).metrics

  def judge(
    self, params: Params, eval_set: EvalSet, **options: Any
  ) -> EvalResult:
    """Evaluates parameters under the protocol."""
    params = jax.device_put(params)
    return evaluate_scorer(
      DotProductScorer(params["tables"]["item"]),
      lambda rows: self.queries(params, eval_set.history.take(rows)),
      eval_set,
      self.protocol,
      num_items=self.interactions.num_items,
      popularity=self.counts,
      all_popularity=item_counts(
        self.interactions, np.arange(len(self.interactions))
      ),
      **options,
    )

  def test(self, params: Params) -> EvalResult:
    """Test metrics with intervals and floor."""
    eval_set = make_eval_set(self.interactions, self.split, "test")
    return self.judge(params, eval_set)


def open_workbench(
  experiment: Experiment,
  data_dir: files.PathLike,
  cache_dir: files.PathLike | None = None,
) -> Workbench:
  """Prepares the data of an experiment and everything that hangs on it.

  Args:
    experiment: the settings.
    data_dir: the folder of raw data sets.
    cache_dir: where prepared data lie.

  Returns:
    The workbench.
  """
  interactions = prepare(experiment.source, data_dir, cache_dir)
  split = experiment.splitter(interactions)
  for line in split.leakage.lines():
    logging.info("leakage: %s", line)
  task = NextItem(
    experiment.model,
    experiment.objective,
    interactions.num_items,
    positions=experiment.positions,
    micro_rows=experiment.micro_rows,
    data_shards=experiment.mesh.data or jax.device_count(),
  )
  protocol = dataclasses.replace(experiment.protocol, split=split.name)
  counts = item_counts(interactions, split.train)
  return Workbench(experiment, interactions, split, counts, task, protocol)


def train(
  experiment: Experiment,
  record: RunRecord,
  data_dir: files.PathLike,
  *,
  config_hash: str = "",
  config_hash_without_seed: str = "",
  cache_dir: files.PathLike | None = None,
) -> dict[str, Any]:
  """Trains, evaluates and records; goes on where an earlier call stopped.

  Args:
    experiment: the settings.
    record: of a workdir of the same experiment.
    data_dir: the folder of raw data sets.
    config_hash: names the settings.
    config_hash_without_seed: names what seeds of one experiment share.
    cache_dir: where prepared data lie.

  Returns:
    What result.json holds.
  """
  bench = open_workbench(experiment, data_dir, cache_dir)
  writes = jax.process_index() == 0
  env = environment.collect(
    data_fingerprint=bench.interactions.fingerprint,
    protocol_hash=bench.protocol.hash(),
  )
  if writes:
    record.write_env(env)
  batches = SequenceBatches(
    training_sequences(bench.interactions, bench.split),
    batch_size=experiment.batch_size,
    max_len=experiment.model.max_len,
    seed=experiment.seed,
  )
  fitted = fit(
    bench.task,
    batches,
    experiment.optimizer,
    experiment.train,
    experiment.mesh,
    seed=experiment.seed,
    counts=bench.counts,
    workdir=record.workdir,
    validate=bench.validate,
    log=lambda step, scalars: record.log(step, **scalars) if writes else None,
    on_resume=record.truncate_after if writes else lambda step: None,
  )
  tested = bench.test(fitted.params)
  result = _result(bench, fitted, tested, record, env) | {
    "config_hash": config_hash,
    "config_hash_without_seed": config_hash_without_seed,
  }
  if writes:
    record.save_per_user("test", user_id=tested.user_id, **tested.per_user)
    record.plots_dir.mkdir(exist_ok=True)
    plots.plot_training(
      record.read_metrics(),
      record.plots_dir / "training.png",
      best_step=fitted.best_step,
    )
    plots.plot_test(result, record.plots_dir / "test.png")
    record.write_result(result)
  record.close()
  return result


def _result(
  bench: Workbench,
  fitted: FitResult,
  tested: EvalResult,
  record: RunRecord,
  env: dict[str, Any],
) -> dict[str, Any]:
  experiment = bench.experiment
  result = {
    "name": experiment.name,
    "dataset": bench.interactions.name,
    "model": type(experiment.model).__name__,
    "objective": type(experiment.objective).__name__,
    "seed": experiment.seed,
    "metrics": tested.metrics,
    "intervals": tested.intervals,
    "floor": tested.floor,
    "num_test_users": tested.num_users,
    "validation": _validation_at(record, fitted.best_step),
    "best_step": fitted.best_step,
    "num_steps": fitted.num_steps,
    "protocol": bench.protocol.to_dict(),
    "protocol_text": bench.protocol.describe(),
    "protocol_hash": bench.protocol.hash(),
    "data_fingerprint": bench.interactions.fingerprint,
    "leakage": bench.split.leakage.to_dict(),
    "wall_secs": fitted.wall_secs + tested.wall_secs,
    "device": env["device"],
    "versions": env["versions"],
    "commit": env["commit"],
    "dirty": env["dirty"],
    "command": env["command"],
  }
  if isinstance(experiment.source, PlantedSource):
    truth = bayes_optimal(
      experiment.source.process(),
      make_eval_set(bench.interactions, bench.split, "test"),
    )
    result["bayes_optimal"] = truth.measured
    result["bayes_optimal_expected"] = truth.expected
  return result


def _validation_at(record: RunRecord, step: int) -> dict[str, float]:
  """The validation metrics that were logged at a step."""
  prefix = "validation/"
  if jax.process_index() != 0:
    return {}
  for line in record.read_metrics():
    if line["step"] == step:
      return {
        name.removeprefix(prefix): value
        for name, value in line.items()
        if name.startswith(prefix)
      }
  return {}


def evaluate(
  experiment: Experiment,
  workdir: files.PathLike,
  data_dir: files.PathLike,
  cache_dir: files.PathLike | None = None,
) -> EvalResult:
  """Judges the best parameters of a workdir under the experiment's protocol.

  Args:
    experiment: of the workdir; its protocol may be another.
    workdir: of a run with at least one validation.
    data_dir: the folder of raw data sets.
    cache_dir: where prepared data lie.

  Returns:
    Test metrics with intervals and floor.

  Raises:
    ConfigError: the workdir holds no parameters.
  """
  bench = open_workbench(experiment, data_dir, cache_dir)
  folder = pathlib.Path(workdir) / "best"
  if not folder.exists():
    raise ConfigError(
      f"{workdir} holds no parameters (no folder 'best'): train it first with"
      " `recjax train --workdir`."
    )
  shapes = jax.eval_shape(bench.task.init, jax.random.key(0))
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  template = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
  )
  checkpoints = Checkpoints(folder, keep=2)
  restored = checkpoints.restore(template)
  checkpoints.close()
  assert restored is not None
  return bench.test(restored[0])
