import functools
import itertools
import math
import os

import jax
import numpy as np
import pytest

from recjax.errors import ConfigError, RunError
from recjax.tasks.objectives import FullSoftmax
from recjax.train.loop import TrainConfig
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer, ParamGroup

close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)

MESHES = [
  MeshConfig(data=8, model=1),
  MeshConfig(data=4, model=2),
  MeshConfig(data=2, model=4),
]


@pytest.fixture(scope="module")
def make_task(planted):
  """A task of a model and an objective, by their names."""

  def make(name, objective, **settings):
    model = planted.models[name](dim=8, max_len=12, dropout_rate=0.2)
    return planted.task(objective, model=model, **settings)

  return make


@pytest.fixture(scope="module")
def on_one_device(planted, make_task, tmp_path_factory):
  """Two epochs on one device: 8 steps."""

  @functools.cache
  def run(name="linear", objective=None):
    return planted.fit(
      tmp_path_factory.mktemp("one"),
      task=make_task(name, objective),
      num_epochs=2,
    )

  return run


@pytest.mark.parametrize(
  "mesh,name,objective",
  [
    *((mesh, "linear", None) for mesh in MESHES),
    (MESHES[2], "linear", FullSoftmax()),
    (MESHES[2], "sasrec", None),
  ],
)
def test_the_losses_do_not_hang_on_the_mesh(
  planted, make_task, on_one_device, tmp_path, mesh, name, objective
):
  task = make_task(name, objective, data_shards=mesh.data)
  result, run = planted.fit(tmp_path, mesh=mesh, task=task, num_epochs=2)
  expected, expected_run = on_one_device(name, objective)
  assert len(run.losses) == 8
  close(run.losses, expected_run.losses)
  # Not of all of SASRec: the gradient of the bias of its keys is zero but for
  # rounding, which Adam blows up to whole steps.
  close(result.params["tables"]["item"], expected.params["tables"]["item"])


def test_a_checkpoint_restores_on_another_mesh(
  planted, on_one_device, tmp_path
):
  run = planted.Run()

  def log(step, scalars):
    run.log(step, scalars)
    if step == 6:
      raise planted.Crash

  settings = {"num_epochs": 2, "checkpoint_every_steps": 3, "run": run}
  with pytest.raises(planted.Crash):
    planted.fit(tmp_path, mesh=MESHES[0], log=log, **settings)
  result, run = planted.fit(tmp_path, mesh=MESHES[2], **settings)
  assert run.resumed_from == [0, 4]  # The evaluation after the first epoch.
  expected, expected_run = on_one_device()
  assert [step for step, _ in run.lines] == list(range(1, 9))
  close(run.losses, expected_run.losses)
  jax.tree.map(close, result.params, expected.params)


@pytest.mark.parametrize(
  "what,settings",
  [
    ("micro_rows", {"task": {"micro_rows": 6}}),
    ("batch_size", {"task": {"micro_rows": 8}, "batch_size": 18}),
  ],
)
def test_what_the_mesh_must_divide(planted, tmp_path, what, settings):
  with pytest.raises(ConfigError, match=f"{what} must be a multiple of the 4"):
    planted.fit(
      tmp_path,
      mesh=MESHES[1],
      task=planted.task(data_shards=4, **settings["task"]),
      batches=planted.batches(settings.get("batch_size", 16)),
    )


class Script:
  """Validation with the values of a list; remembers what it was shown."""

  def __init__(self, *values):
    self._values = iter(values)
    self.params = []

  def __call__(self, params):
    self.params.append(jax.tree.map(np.copy, params))
    value = next(self._values)
    return {
      "ndcg@10": value,
      "log_loss": -value,
      "rmse/watch": -value,
      "mrr_gap/age": -value,
      "loss_of_other": 1.0,
    }


@pytest.mark.parametrize("select", ["log_loss", "rmse/watch", "mrr_gap/age"])
def test_of_a_loss_the_least_is_best(planted, tmp_path, select):
  result, _ = planted.fit(
    tmp_path,
    validate=Script(math.nan, -0.5, -0.2, -0.4),
    num_epochs=4,
    select=select,
  )
  # The first number there is, then the least: 0.2 in the third epoch.
  assert (result.best_step, result.best_value) == (12, 0.2)


def test_early_stopping_and_the_best_parameters(planted, tmp_path):
  validate = Script(0.1, 0.3, 0.2, 0.3, 9.0)
  result, run = planted.fit(
    tmp_path,
    validate=validate,
    num_epochs=5,
    eval_every_epochs=0.5,
    patience=2,
  )
  # Evaluated every second step; a value that is only as good is no new best.
  assert len(validate.params) == 4
  assert (result.best_step, result.best_value, result.num_steps) == (4, 0.3, 8)
  jax.tree.map(np.testing.assert_array_equal, result.params, validate.params[1])
  told = {
    step: scalars["validation/ndcg@10"]
    for step, scalars in run.lines
    if "validation/ndcg@10" in scalars
  }
  assert told == {2: 0.1, 4: 0.3, 6: 0.2, 8: 0.3}
  # Called once more, it knows that it has stopped, and gives the same.
  again, _ = planted.fit(
    tmp_path,
    validate=validate,
    num_epochs=5,
    eval_every_epochs=0.5,
    patience=2,
  )
  assert (again.best_step, again.num_steps) == (4, 8)
  jax.tree.map(np.testing.assert_array_equal, again.params, result.params)
  assert again.wall_secs == result.wall_secs > 0


def test_max_steps_ends_with_an_evaluation(planted, tmp_path):
  validate = Script(0.5, 0.6)
  result, run = planted.fit(
    tmp_path, validate=validate, num_epochs=9, max_steps=6
  )
  assert (result.best_step, result.num_steps) == (6, 6)
  assert [s for s, x in run.lines if "validation/ndcg@10" in x] == [4, 6]


def test_the_logged_loss_is_the_mean_since_the_last_line(
  planted, on_one_device, tmp_path
):
  _, run = planted.fit(tmp_path, num_epochs=2, log_every_steps=3)
  losses = on_one_device()[1].losses
  # Lines at multiples of 3, and at the evaluations: every 4 steps.
  steps = [0, 3, 4, 6, 8]
  assert [step for step, _ in run.lines] == steps[1:]
  means = [np.mean(losses[a:b]) for a, b in itertools.pairwise(steps)]
  np.testing.assert_allclose(run.losses, means, rtol=1e-6)


def test_an_unknown_metric_names_the_nearest(planted, tmp_path):
  with pytest.raises(ConfigError, match=r"select.*mean 'ndcg@10'"):
    planted.fit(tmp_path, select="ndgc@10")


def test_a_metric_that_is_never_a_number(planted, tmp_path):
  with pytest.raises(RunError, match="no validation gave a number for 'ndcg"):
    planted.fit(tmp_path, validate=Script(*[float("nan")] * 9), num_epochs=1)


def with_rate(rate):
  return Optimizer(groups=(ParamGroup(learning_rate=rate),))


def test_nan_stops_the_run_and_the_checkpoint_before_is_whole(
  planted, tmp_path
):
  good, _ = planted.fit(tmp_path, num_epochs=1)
  assert good.num_steps == 4
  run = planted.Run()
  with pytest.raises(RunError, match="step 6: .*not finite in .*tables/item"):
    planted.fit(tmp_path, optimizer=with_rate(1e30), run=run)
  assert run.resumed_from == [4]
  assert run.lines[-1][0] == 5  # The step after which nothing was finite.
  # With the old rate it goes on from there as if nothing had happened.
  result, run = planted.fit(tmp_path, num_epochs=2)
  assert run.resumed_from == [4]
  assert np.isfinite(run.losses).all()
  assert result.num_steps == 8


def test_parameters_that_are_not_finite_are_never_saved(planted, tmp_path):
  # Without epsilon Adam divides zero by zero where there is no gradient: in
  # the rows of items that the batch does not have.
  optimizer = Optimizer(groups=(ParamGroup(eps=0.0),))
  with pytest.raises(RunError, match="step 1: the parameters .*tables/item"):
    planted.fit(tmp_path, optimizer=optimizer, checkpoint_every_steps=1)
  assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_a_broken_best_checkpoint_gives_the_one_before(planted, tmp_path):
  settings = {"num_epochs": 3, "validate": Script(0.1, 0.2, 0.1)}
  result, _ = planted.fit(tmp_path, **settings)
  assert result.best_step == 8
  data = [p for p in (tmp_path / "best" / "8").rglob("*") if p.is_file()]
  max(data, key=lambda path: path.stat().st_size).write_bytes(b"broken")
  again, _ = planted.fit(tmp_path, **settings)
  assert (again.best_step, again.best_value) == (4, 0.1)


@pytest.mark.parametrize("feed", ["device", "grain"])
def test_a_run_that_is_broken_off_leaves_nothing_open(planted, tmp_path, feed):
  def log(step, scalars):
    raise planted.Crash

  found = []
  for place in range(3):
    with pytest.raises(planted.Crash):
      planted.fit(tmp_path / str(place), log=log, feed=feed)
    found.append(len(os.listdir("/proc/self/fd")))
  # What is opened once for the whole process, the first one has opened.
  assert found[2] <= found[1]


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"num_epochs": 0}, r"TrainConfig.num_epochs must lie in \[1, inf\]"),
    ({"log_every_steps": 0}, "TrainConfig.log_every_steps"),
    ({"checkpoint_every_steps": 0}, "TrainConfig.checkpoint_every_steps"),
    ({"steps_per_dispatch": 0}, "TrainConfig.steps_per_dispatch"),
    ({"max_steps": -1}, "TrainConfig.max_steps"),
    ({"patience": -1}, "TrainConfig.patience"),
    ({"eval_every_epochs": 0.0}, "TrainConfig.eval_every_epochs"),
    ({"feed": "grian"}, "Did you mean 'grain'"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    TrainConfig(**settings)
