"""An experiment: all that decides a number, and how it is carried out.

`Experiment` is the one root of a gin file and just as well built in a
notebook. `train` takes it from raw data to a finished run record; `evaluate`
judges the parameters of a record once more.
"""

import dataclasses
import hashlib
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from recjax import files
from recjax.data.batches import SequenceBatches
from recjax.data.eval_set import make_eval_set
from recjax.data.interactions import Interactions
from recjax.data.leakage import leakage_report
from recjax.data.negatives import item_counts
from recjax.data.planted_truth import bayes_optimal
from recjax.data.prepare import Source, prepare
from recjax.data.sequences import training_sequences
from recjax.data.sources.planted import PlantedSource
from recjax.data.splits import LeaveOneOut, Split
from recjax.errors import ConfigError, RunError, check_range
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.protocol import Protocol
from recjax.models.sasrec import SASRec
from recjax.runs import environment, plots
from recjax.runs.record import RunRecord
from recjax.tasks.next_item import NextItem
from recjax.tasks.objectives import BinaryCrossEntropy, Objective
from recjax.train.checkpoint import Checkpoints
from recjax.train.loop import FitResult, TrainConfig, fit
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
  model: nn.Module = SASRec()
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
  split = split_data(experiment.splitter, interactions, data_dir)
  split = _with_what_is_known(split, interactions, experiment)
  task = NextItem(
    experiment.model,
    experiment.objective,
    interactions.num_items,
    positions=experiment.positions,
    micro_rows=experiment.micro_rows,
    data_shards=experiment.mesh.num_data(),
  )
  protocol = dataclasses.replace(experiment.protocol, split=split.name)
  counts = item_counts(interactions, split.train)
  return Workbench(
    interactions,
    split,
    counts,
    task,
    protocol,
    experiment.max_validation_users,
    experiment.seed,
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
    config_hash: names the settings; without one, as in a notebook, it is
      made of them, and a workdir of other settings is refused.
    config_hash_without_seed: names what seeds of one experiment share.
    cache_dir: where prepared data lie.

  Returns:
    What result.json holds.
  """
  if not config_hash:
    config_hash = _settings_hash(experiment)
    seedless = dataclasses.replace(experiment, seed=0, name="")
    config_hash_without_seed = _settings_hash(seedless)
    text = _settings_text(experiment)
    record.create_or_resume(text, text, config_hash)
  bench = open_workbench(experiment, data_dir, cache_dir)
  writes = jax.process_index() == 0
  env = environment.collect(
    data_fingerprint=bench.interactions.fingerprint,
    protocol_hash=bench.protocol.hash(),
  )
  if writes:
    record.write_env(env)
  fitted = fit(
    bench.task,
    _batches(experiment, bench),
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
  result = _result(experiment, bench, fitted, tested, record, env) | {
    "config_hash": config_hash,
    "config_hash_without_seed": config_hash_without_seed,
  }
  if writes:
    _finish(record, tested, result)
  return result


def _batches(experiment: Experiment, bench: Workbench) -> SequenceBatches:
  return SequenceBatches(
    training_sequences(bench.interactions, bench.split),
    batch_size=experiment.batch_size,
    max_len=bench.task.model.max_len,
    seed=experiment.seed,
  )


def _settings_text(experiment: Experiment) -> str:
  """One line a setting; what gin would write, for those who do without."""
  return "".join(
    f"Experiment.{field.name} = {getattr(experiment, field.name)!r}\n"
    for field in dataclasses.fields(experiment)
  )


def _settings_hash(experiment: Experiment) -> str:
  text = _settings_text(experiment)
  return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def _finish(
  record: RunRecord, tested: EvalResult, result: dict[str, Any]
) -> None:
  """Writes what is made of a trained model; result.json at last."""
  record.save_per_user("test", user_id=tested.user_id, **tested.per_user)
  record.plots_dir.mkdir(exist_ok=True)
  plots.plot_training(
    record.read_metrics(),
    record.plots_dir / "training.png",
    best_step=result["best_step"],
  )
  plots.plot_test(result, record.plots_dir / "test.png")
  record.write_result(result)
  record.close()


def _result(
  experiment: Experiment,
  bench: Workbench,
  fitted: FitResult,
  tested: EvalResult,
  record: RunRecord,
  env: dict[str, Any],
) -> dict[str, Any]:
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
    ConfigError: the workdir is not of a training.
    RunError: no validation was reached in it.
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
  if restored is None:
    raise RunError(f"{folder} holds no parameters: no validation was reached.")
  return bench.test(restored[0])
