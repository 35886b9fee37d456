"""How an experiment is carried out, whatever kind it is.

`train` takes it from raw data to a finished run record; `evaluate` judges the
weights of a record once more.
"""

import dataclasses
import functools
import hashlib
import math
import pathlib
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax import files
from recjax.data.batches import Batches
from recjax.embeddings.tables import ROW_MULTIPLE
from recjax.errors import ConfigError, RunError
from recjax.runs import environment, plots
from recjax.runs.record import RunRecord
from recjax.tasks.task import Task
from recjax.train.checkpoint import Checkpoints
from recjax.train.loop import FitResult, TrainConfig, fit
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer
from recjax.train.refreshed import Refresher
from recjax.train.state import init_state
from recjax.types import Params


@runtime_checkable
class Tested(Protocol):
  """What the test part gave; such as `EvalResult` or `ClassificationResult`."""

  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]
  floor: dict[str, float]
  wall_secs: float
  protocol: Any


@runtime_checkable
class Bench(Protocol):
  """A task with its data at hand.

  Attributes:
    task: module, loss and labels.
    protocol: how it is judged.
    judges_on_mesh: whether weights are taken where they lie, so that their
      tables need not fit on one device; else they come from the host.
  """

  task: Any
  protocol: Any
  judges_on_mesh: bool

  @property
  def refresher(self) -> Refresher | None:
    """Makes some of `constants` anew while training; None where none are."""
    ...

  @property
  def batches(self) -> Batches:
    """The training data in their order."""
    ...

  @property
  def data_name(self) -> str:
    """The name of the data set."""
    ...

  @property
  def data_fingerprint(self) -> str:
    """The fingerprint of its content."""
    ...

  @property
  def constants(self) -> dict[str, Any]:
    """Arrays that every step reads."""
    ...

  def validate(self, weights: Params) -> dict[str, float]:
    """Validation metrics."""
    ...

  def test(self, weights: Params) -> Any:
    """Test metrics with intervals and floor: a `Tested`."""
    ...

  def facts(self, tested: Any) -> dict[str, Any]:
    """What else result.json tells: of the data, and of the test."""
    ...

  def save(self, record: RunRecord, tested: Any, name: str) -> None:
    """Writes what was found for each user or example, and its plots."""
    ...


@runtime_checkable
class Settings(Protocol):
  """All that decides a number: one root of a gin file."""

  name: str
  seed: int
  model: Any
  optimizer: Optimizer
  train: TrainConfig
  mesh: MeshConfig

  def open(
    self, data_dir: files.PathLike, cache_dir: files.PathLike | None = None
  ) -> Bench:
    """Prepares the data and everything that hangs on it."""
    ...


def train(
  experiment: Settings,
  record: RunRecord,
  data_dir: files.PathLike,
  *,
  config_hash: str = "",
  config_hash_without_seed: str = "",
  cache_dir: files.PathLike | None = None,
  command: str | None = None,
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
    command: the command line that is recorded; this process's by default.

  Returns:
    What result.json holds.
  """
  if not config_hash:
    config_hash = _settings_hash(experiment)
    seedless: Any = dataclasses.replace(experiment, seed=0, name="")  # pyright: ignore
    config_hash_without_seed = _settings_hash(seedless)
    text = _settings_text(experiment)
    record.create_or_resume(text, text, config_hash)
  bench = experiment.open(data_dir, cache_dir)
  writes = jax.process_index() == 0
  env = environment.collect(
    data_fingerprint=bench.data_fingerprint,
    protocol_hash=bench.protocol.hash(),
    command=command,
  )
  if writes:
    record.write_env(env)
  fitted = _fit(experiment, bench, record, writes)
  tested = bench.test(fitted.params)
  result = _result(experiment, bench, fitted, tested, record, env) | {
    "config_hash": config_hash,
    "config_hash_without_seed": config_hash_without_seed,
  }
  if writes:
    bench.save(record, tested, "test")
    _finish(record, result)
  return result


def _fit(
  experiment: Settings, bench: Bench, record: RunRecord, writes: bool
) -> FitResult:
  return fit(
    bench.task,
    bench.batches,
    experiment.optimizer,
    experiment.train,
    experiment.mesh,
    seed=experiment.seed,
    constants=bench.constants,
    workdir=record.workdir,
    validate=bench.validate,
    judge_on_mesh=bench.judges_on_mesh,
    refresher=bench.refresher,
    log=lambda step, scalars: record.log(step, **scalars) if writes else None,
    on_resume=record.truncate_after if writes else lambda step: None,
  )


def _finish(record: RunRecord, result: dict[str, Any]) -> None:
  """Draws what is plotted of every run; writes result.json at last."""
  record.plots_dir.mkdir(exist_ok=True)
  plots.plot_training(
    record.read_metrics(),
    record.plots_dir / "training.png",
    best_step=result["best_step"],
  )
  plots.plot_test(result, record.plots_dir / "test.png")
  record.write_result(result)
  record.close()


def _settings_text(experiment: Any) -> str:
  """One line a setting; what gin would write, for those who do without.

  A setting that came later and has a `silent_default` is told where it is set,
  so that the hashes of runs from before there was one stay.
  """
  owner = type(experiment).__name__
  return "".join(
    f"{owner}.{field.name} = {getattr(experiment, field.name)!r}\n"
    for field in dataclasses.fields(experiment)
    if not field.metadata.get("silent_default")
    or getattr(experiment, field.name) != field.default
  )


def _settings_hash(experiment: Any) -> str:
  text = _settings_text(experiment)
  return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def _result(
  experiment: Settings,
  bench: Bench,
  fitted: FitResult,
  tested: Tested,
  record: RunRecord,
  env: dict[str, Any],
) -> dict[str, Any]:
  return {
    "name": experiment.name,
    "dataset": bench.data_name,
    "model": type(experiment.model).__name__,
    "seed": experiment.seed,
    "metrics": tested.metrics,
    "intervals": tested.intervals,
    "floor": tested.floor,
    "validation": _validation_at(record, fitted.best_step),
    "best_step": fitted.best_step,
    "num_steps": fitted.num_steps,
    "protocol": bench.protocol.to_dict(),
    "protocol_text": bench.protocol.describe(),
    "protocol_hash": bench.protocol.hash(),
    "data_fingerprint": bench.data_fingerprint,
    "wall_secs": fitted.wall_secs + tested.wall_secs,
    "device": env["device"],
    "versions": env["versions"],
    "commit": env["commit"],
    "dirty": env["dirty"],
    "command": env["command"],
    **bench.facts(tested),
    **_sampled_bias(tested),
  }


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


def best_weights(
  task: Task, workdir: files.PathLike, *, over_devices: bool = False
) -> Params:
  """The weights of the best validation of a workdir.

  Args:
    task: of the workdir.
    workdir: of a run.
    over_devices: the rows of the tables are shared by the devices of this
      machine; else all weights lie on the first.

  Raises:
    ConfigError: the workdir is not of a training.
    RunError: no validation was reached in it.
  """
  folder = pathlib.Path(workdir) / "best"
  if not folder.exists():
    raise ConfigError(
      f"{workdir} holds no parameters (no folder 'best'): train it first with"
      " `recjax train --workdir`."
    )
  init = functools.partial(init_state, task, optax.identity())
  shapes = jax.eval_shape(init, jax.random.key(0)).weights
  template = jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding
    ),
    shapes,
    _shardings(shapes, over_devices),
  )
  checkpoints = Checkpoints(folder, keep=2)
  restored = checkpoints.restore(template)
  checkpoints.close()
  if restored is None:
    raise RunError(f"{folder} holds no parameters: no validation was reached.")
  return restored[0]


def _shardings(weights: Params, over_devices: bool) -> Params:
  """The tables by rows over the devices; all else on each."""
  devices = jax.local_devices()
  # So many divide the rows of every table.
  num = 2 ** int(math.log2(min(len(devices), ROW_MULTIPLE)))
  mesh = Mesh(np.array(devices[: num if over_devices else 1]), ("model",))
  everywhere = NamedSharding(mesh, PartitionSpec())
  by_rows = NamedSharding(mesh, PartitionSpec("model"))
  shardings = jax.tree.map(lambda _: everywhere, weights)
  if "tables" in weights:
    shardings["tables"] = jax.tree.map(lambda _: by_rows, weights["tables"])
  return shardings


def evaluate(
  experiment: Settings,
  workdir: files.PathLike,
  data_dir: files.PathLike,
  cache_dir: files.PathLike | None = None,
) -> Any:
  """Judges the best weights of a workdir under the experiment's protocol.

  Args:
    experiment: of the workdir; its protocol may be another.
    workdir: of a run with at least one validation.
    data_dir: the folder of raw data sets.
    cache_dir: where prepared data lie.

  Returns:
    Test metrics with intervals, floor and, among sampled candidates, their
    bias; saved in the workdir as well.

  Raises:
    ConfigError: the workdir is not of a training.
    RunError: no validation was reached in it.
  """
  bench = experiment.open(data_dir, cache_dir)
  weights = best_weights(bench.task, workdir, over_devices=bench.judges_on_mesh)
  tested = bench.test(weights)
  name = f"test-{tested.protocol.hash()}"
  bench.save(RunRecord(workdir), tested, name)
  if found := _sampled_bias(tested):
    path = pathlib.Path(workdir) / "sampled_bias" / f"{name}.json"
    files.write_json_atomically(path, found["sampled_bias"])
  return tested


def _sampled_bias(tested: Any) -> dict[str, Any]:
  """What sampling did to the metrics, where candidates are sampled."""
  found = getattr(tested, "sampled_bias", None)
  return {} if found is None else {"sampled_bias": found.to_dict()}
