"""The training loop, to be read from top to bottom."""

import contextlib
import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from recjax import files
from recjax.data.batches import Batches
from recjax.embeddings.pages import use_large_pages
from recjax.embeddings.plans import Plan
from recjax.errors import ConfigError, RunError, check_choice, check_range
from recjax.metrics.names import better
from recjax.progress import progress_bar
from recjax.tasks.task import Task
from recjax.train.checkpoint import Checkpoints
from recjax.train.events import EventWriter
from recjax.train.feeds import DeviceFeed, Feed, GrainFeed
from recjax.train.finite import (
  check_finite,
  check_parameters,
  finite_leaves,
)
from recjax.train.layout import Layout, check_divides, device_memory
from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.optimizer import Optimizer
from recjax.train.refreshed import RefreshedConstants, Refresher
from recjax.train.state import (
  init_state,
  leaf_names,
  state_shardings,
  to_host,
)
from recjax.train.step import make_step
from recjax.types import Params

LAST = "last"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long to train, and what is done on the way.

  Attributes:
    num_epochs: the most epochs; one visits every training sequence once.
    max_steps: the most steps; 0 sets no limit beside `num_epochs`.
    eval_every_epochs: validation after so many epochs; may be a fraction.
    select: validation metric whose best value picks the parameters: the
      lowest where less is better, see `recjax.metrics.names`, and else the
      highest. "last" takes those of the last validation, and needs no
      validation data; then nothing is ever worse, and patience and plateaus
      do nothing.
    patience: evaluations without a new best after which training stops; 0
      never stops early.
    plateau_factor: the learning rates of optax are multiplied by it after each
      evaluation without a new best; 1 is off. Row-wise optimizers of sparse
      tables keep to their own schedules.
    plateau_floor: the product of these factors does not fall below it.
    log_every_steps: the loss is logged as its mean over so many steps.
    checkpoint_every_steps: and besides at every evaluation.
    feed: "device" holds the data in device memory and takes many steps a
      dispatch; "grain" reads it on the host; "auto" takes the first where
      one process holds at most `device_feed_bytes`.
    device_feed_bytes: see `feed`.
    steps_per_dispatch: of the device feed; of the Grain feed as many, up to
      16, whose batches are held.
  """

  num_epochs: int = 100
  max_steps: int = 0
  eval_every_epochs: float = 1.0
  select: str = "ndcg@10"
  patience: int = 10
  plateau_factor: float = 1.0
  plateau_floor: float = 1e-3
  log_every_steps: int = 50
  checkpoint_every_steps: int = 500
  feed: str = "auto"
  device_feed_bytes: int = 2**30
  steps_per_dispatch: int = 50

  def __post_init__(self):
    for name in (
      "num_epochs",
      "log_every_steps",
      "checkpoint_every_steps",
      "steps_per_dispatch",
    ):
      check_range(f"TrainConfig.{name}", getattr(self, name), 1, integer=True)
    check_range("TrainConfig.max_steps", self.max_steps, 0, integer=True)
    check_range("TrainConfig.patience", self.patience, 0, integer=True)
    check_range("TrainConfig.eval_every_epochs", self.eval_every_epochs, 1e-6)
    check_range("TrainConfig.plateau_factor", self.plateau_factor, 1e-6, 1.0)
    check_range("TrainConfig.plateau_floor", self.plateau_floor, 0.0, 1.0)
    check_choice("TrainConfig.feed", self.feed, ("auto", "device", "grain"))


@dataclasses.dataclass
class _Progress:
  """What the loop remembers; saved with every checkpoint."""

  step: int = 0
  best_value: float = -math.inf
  best_step: int = 0
  evals_since_best: int = 0
  stopped: bool = False
  wall_secs: float = 0.0
  losses: list[float] = dataclasses.field(default_factory=list)
  feed: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FitResult:
  """What training gives.

  Attributes:
    params: weights of the best validation.
    best_step: the step they were at.
    best_value: their validation metric.
    num_steps: steps taken in all.
    wall_secs: time spent in training and validation, over all restarts.
  """

  params: Params
  best_step: int
  best_value: float
  num_steps: int
  wall_secs: float


def fit(
  task: Task,
  batches: Batches,
  optimizer: Optimizer,
  config: TrainConfig,
  mesh_config: MeshConfig,
  *,
  seed: int,
  constants: dict[str, np.ndarray],
  workdir: files.PathLike,
  validate: Callable[[Params], dict[str, float]],
  judge_on_mesh: bool = False,
  refresher: Refresher | None = None,
  log: Callable[[int, dict[str, float]], None],
  on_resume: Callable[[int], None],
) -> FitResult:
  """Trains until the epochs or the patience end; goes on where it stopped.

  Args:
    task: module, loss and negatives.
    batches: training sequences in their order.
    optimizer: optax by parameter path.
    config: how long, how often.
    mesh_config: the devices.
    seed: of parameters, dropout and negatives.
    constants: arrays that every step reads.
    workdir: holds "checkpoints", "best" and the TensorBoard files.
    validate: weights, see `TrainState.weights` -> validation metrics.
    judge_on_mesh: `validate` takes weights where they lie, and so does the
      result; else, and with several processes, they come from the host.
    refresher: makes some of `constants` anew from the weights.
    log: is told the step and its scalars, each step once.
    on_resume: is told the step training goes on from: what was logged after
      it will be logged again.

  Returns:
    The parameters of the best validation.

  Raises:
    ConfigError: settings that do not fit each other.
    RunError: the loss or a gradient is not finite.
  """
  # ---- Devices, state, step ----------------------------------------------
  mesh = make_mesh(mesh_config)
  check_divides(batches, mesh.shape["data"])
  init_key, base_key = jax.random.split(jax.random.key(seed))
  transformation = optimizer.build(jax.eval_shape(task.init, init_key)[0])
  layout = Layout(
    task, transformation, batches, constants, mesh_config.plan, init_key
  ).with_memory(device_memory())
  sparse = layout.place(
    mesh, functools.partial(_write_plan, pathlib.Path(workdir))
  )
  init = functools.partial(init_state, task, transformation, sparse=sparse)
  shapes = layout.shapes
  shardings = state_shardings(shapes, mesh, sparse=sparse)
  step = make_step(task, transformation, mesh, sparse)
  num_steps = config.num_epochs * batches.steps_per_epoch
  if config.max_steps:
    num_steps = min(num_steps, config.max_steps)
  feed = _make_feed(
    config,
    batches,
    num_steps,
    step=step,
    shardings=shardings,
    mesh=mesh,
    constants=constants,
    base_key=base_key,
  )
  parameter_names = leaf_names(shapes.params)
  trained_names = [*parameter_names, *leaf_names({"tables": shapes.tables})]
  replicated = NamedSharding(mesh, PartitionSpec())
  finite = jax.jit(finite_leaves, out_shardings=replicated)

  # A trial that is stopped or fails leaves no open file behind.
  with contextlib.ExitStack() as opened:
    # ---- Go on from the last checkpoint ------------------------------------
    workdir = pathlib.Path(workdir)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
    opened.callback(checkpoints.close)
    best_checkpoints = Checkpoints(workdir / "best", keep=2)
    opened.callback(best_checkpoints.close)
    template = jax.tree.map(
      lambda shape, sharding: jax.ShapeDtypeStruct(
        shape.shape, shape.dtype, sharding=sharding
      ),
      shapes,
      shardings,
    )
    restored = checkpoints.restore(template)
    if restored is None:
      state = jax.jit(init, out_shardings=shardings)(init_key)
      progress = _Progress()
    else:
      state, saved = restored
      progress = _Progress(**saved)
      feed.seek(progress.step, progress.feed)
    refreshed = RefreshedConstants(workdir / "constants")
    if refresher is not None and progress.step:
      feed.set_constants(constants | refreshed.load(progress.step))
    use_large_pages((state.tables, state.slots))
    on_resume(progress.step)
    events = EventWriter(workdir / "tensorboard", purge_step=progress.step + 1)
    opened.callback(events.close)

    # ---- Train -------------------------------------------------------------
    eval_every = max(
      1, round(config.eval_every_epochs * batches.steps_per_epoch)
    )
    refresh_every = batches.steps_per_epoch * (
      refresher.every_epochs if refresher else 1
    )
    periods = (
      config.log_every_steps,
      config.checkpoint_every_steps,
      eval_every,
      batches.steps_per_epoch,
    )
    stay = judge_on_mesh and jax.process_count() == 1
    take = (lambda weights: weights) if stay else to_host
    start_secs = time.monotonic() - progress.wall_secs
    with progress_bar(
      "training", num_steps, unit="steps", done=progress.step
    ) as bar:
      while progress.step < num_steps and not progress.stopped:
        # Up to the next step at which anything else is to be done.
        now = progress.step
        stop = min(num_steps, *((now // p + 1) * p for p in periods))
        state, metrics = feed.run(state, now, stop - now)
        check_finite(metrics, now, trained_names)
        progress.step = stop
        progress.losses.extend(float(x) for x in metrics["loss"])
        progress.wall_secs = time.monotonic() - start_secs
        is_eval = stop % eval_every == 0 or stop == num_steps
        is_log = stop % config.log_every_steps == 0 or is_eval
        is_refresh = bool(refresher) and stop % refresh_every == 0
        is_checkpoint = (
          stop % config.checkpoint_every_steps == 0 or is_eval or is_refresh
        )
        if is_checkpoint:
          check_parameters(
            finite((state.params, state.tables)), stop, trained_names
          )

        scalars: dict[str, float] = {}
        if is_log:
          scalars["loss"] = float(np.mean(progress.losses, dtype=np.float64))
          scalars["gradient_norm"] = float(
            np.linalg.norm(np.float64(metrics["gradient_norms"][-1]))
          )
          progress.losses = []
        if is_eval:
          values = validate(take(state.weights))
          if config.select not in (*values, LAST):
            check_choice("TrainConfig.select", config.select, (*values, LAST))
          scalars |= {f"validation/{name}": v for name, v in values.items()}
          progress.evals_since_best += 1
          value = values.get(config.select, float(stop))
          if _is_better(value, progress, config.select):
            progress.best_value = value
            progress.best_step = stop
            progress.evals_since_best = 0
            best_checkpoints.save(
              stop, state.weights, {"step": stop, "value": progress.best_value}
            )
          elif config.plateau_factor < 1.0:
            scale = jnp.maximum(
              state.rate_scale * config.plateau_factor, config.plateau_floor
            )
            state = dataclasses.replace(state, rate_scale=scale)
          if config.patience and progress.evals_since_best >= config.patience:
            progress.stopped = True
        if is_refresh and refresher and stop < num_steps:
          made = refresher.make(take(state.weights))
          if jax.process_index() == 0:
            refreshed.save(stop, made)
          feed.set_constants(constants | made)
        if scalars:
          log(stop, scalars)
          events.write(stop, scalars | _speed(progress))
        if is_checkpoint:
          progress.wall_secs = time.monotonic() - start_secs
          progress.feed = feed.position()
          checkpoints.save(stop, state, dataclasses.asdict(progress))
        bar.advance(stop - now, _note(scalars, progress, config))

    # ---- The best parameters -----------------------------------------------
    best = best_checkpoints.restore(template.weights)
    if best is None:
      raise RunError(
        f"no validation gave a number for {config.select!r}: nothing to keep."
      )
    best_params, best_loop = best
    params = take(best_params)
    return FitResult(
      params,
      # Not of `progress`, should the very best one be broken.
      best_loop["step"],
      best_loop["value"],
      progress.step,
      progress.wall_secs,
    )


def _make_feed(
  config: TrainConfig, batches: Batches, num_steps: int, **parts: Any
) -> Feed:
  fits = (
    batches.num_bytes <= config.device_feed_bytes and jax.process_count() == 1
  )
  if config.feed == "device" or (config.feed == "auto" and fits):
    if jax.process_count() > 1:
      raise ConfigError("feed='device' is for one process; use feed='grain'.")
    return DeviceFeed(
      batches=batches, steps_per_dispatch=config.steps_per_dispatch, **parts
    )
  return GrainFeed(
    batches=batches,
    num_steps=num_steps,
    steps_per_dispatch=min(config.steps_per_dispatch, 16),
    **parts,
  )


def _write_plan(workdir: pathlib.Path, plan: Plan) -> None:
  if jax.process_index() == 0:
    files.write_text_atomically(workdir / "plan.txt", plan.describe() + "\n")


def _is_better(value: float, progress: _Progress, metric: str) -> bool:
  """Whether a validation is the best so far; one that is NaN never is."""
  if progress.best_step == 0:
    return not math.isnan(value)
  best = progress.best_value
  return value < best if better(metric) < 0 else value > best


def _speed(progress: _Progress) -> dict[str, float]:
  return {"steps_per_sec": progress.step / max(progress.wall_secs, 1e-9)}


def _note(
  scalars: dict[str, float], progress: _Progress, config: TrainConfig
) -> str:
  loss = f"loss {scalars['loss']:.4f} " if "loss" in scalars else ""
  if progress.best_step == 0 or config.select == LAST:
    return loss
  return f"{loss}best {config.select} {progress.best_value:.4f}"
