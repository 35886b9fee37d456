"""A run that is killed and goes on is the unbroken run, bit for bit."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from recjax.train import checkpoint

NUM_KILLS = 5


def read_checkpoint(folder, step):
  """The arrays of a checkpoint, and what the loop remembers but the clock."""
  checkpointer = ocp.StandardCheckpointer()
  state = checkpointer.restore(folder.absolute() / str(step) / "state")
  checkpointer.close()
  loop = json.loads((folder / str(step) / "loop" / "metadata").read_text())
  loop.pop("wall_secs", None)
  return jax.tree.map(np.asarray, state), loop


def last_step(folder):
  return max(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def assert_same_checkpoints(found, expected):
  for name in ("checkpoints", "best"):
    step = last_step(expected / name)
    assert last_step(found / name) == step
    state, loop = read_checkpoint(found / name, step)
    expected_state, expected_loop = read_checkpoint(expected / name, step)
    assert loop == expected_loop
    jax.tree.map(np.testing.assert_array_equal, state, expected_state)


@pytest.mark.parametrize("feed", ["device", "grain"])
def test_crashes_inside_of_one_process(planted, tmp_path, monkeypatch, feed):
  settings = {
    "feed": feed,
    "num_epochs": 4,
    "eval_every_epochs": 1.5,
    "checkpoint_every_steps": 3,
  }
  expected, expected_run = planted.fit(tmp_path / "unbroken", **settings)
  crashes = sorted(random.Random(feed).sample(range(1, 16), NUM_KILLS))
  run = planted.Run()

  def log(step, scalars):
    run.log(step, scalars)
    if crashes and step >= crashes[0]:
      raise planted.Crash

  def fit():
    return planted.fit(tmp_path / "broken", run=run, log=log, **settings)

  while crashes:
    with pytest.raises(planted.Crash):
      fit()
    crashes.pop(0)
  # Once more while the last checkpoint but one is being written.
  with monkeypatch.context() as patch:
    write = checkpoint.files.write_json_atomically

    def write_or_crash(path, value):
      if path.name == "digest-15.json":
        raise planted.Crash
      write(path, value)

    patch.setattr(checkpoint.files, "write_json_atomically", write_or_crash)
    with pytest.raises(planted.Crash):
      fit()
  result, _ = fit()
  assert len(run.resumed_from) == NUM_KILLS + 2
  assert run.resumed_from[-1] == 12
  assert run.lines == expected_run.lines
  assert result.best_step == expected.best_step
  jax.tree.map(np.testing.assert_array_equal, result.params, expected.params)
  assert_same_checkpoints(tmp_path / "broken", tmp_path / "unbroken")


class Trainer:
  """`recjax train` in a process of its own."""

  def __init__(self, command, env, workdir):
    self.workdir = workdir
    self._before = self._identity()
    self._log = workdir.with_suffix(".log")
    with open(self._log, "wb") as log:
      self.process = subprocess.Popen(
        command, env=env, stdout=log, stderr=subprocess.STDOUT
      )

  @property
  def _metrics(self):
    return self.workdir / "metrics.jsonl"

  def _identity(self):
    return self._metrics.stat().st_ino if self._metrics.exists() else None

  def step(self):
    """The last step of metrics.jsonl; 0 until this process wrote to it."""
    if self._identity() in (None, self._before):
      return 0
    lines = self._metrics.read_bytes().split(b"\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else 0

  def half_written(self):
    folder = self.workdir / "checkpoints"
    return list(folder.glob("*.orbax-checkpoint-tmp*"))

  def wait_until(self, condition):
    while not condition():
      assert self.process.poll() is None, self._log.read_text()
      time.sleep(0.001)

  def kill(self):
    self.process.send_signal(signal.SIGKILL)
    assert self.process.wait() == -signal.SIGKILL

  def kill_inside_of_a_checkpoint(self):
    while True:
      self.wait_until(self.half_written)
      self.process.send_signal(signal.SIGSTOP)
      if self.half_written():
        self.kill()
        assert self.half_written()
        return
      self.process.send_signal(signal.SIGCONT)

  def finish(self):
    assert self.process.wait() == 0, self._log.read_text()


@pytest.fixture
def train(tmp_path, tiny_gin, process_env):
  """Starts `recjax train` on a workdir."""
  trainers = []

  def start(workdir):
    command = [sys.executable, "-m", "recjax.cli", "train"]
    command += [f"--gin_file={tiny_gin()}", f"--workdir={workdir}"]
    command += [f"--cache_dir={tmp_path / 'cache'}"]
    trainers.append(Trainer(command, process_env, workdir))
    return trainers[-1]

  yield start
  for trainer in trainers:
    if trainer.process.poll() is None:
      trainer.process.kill()
      trainer.process.wait()


def read_per_user(workdir):
  with np.load(workdir / "per_user" / "test.npz") as arrays:
    return dict(arrays)


def test_sigkill_at_five_random_steps(tmp_path, train):
  expected, workdir = tmp_path / "unbroken", tmp_path / "killed"
  train(expected).finish()
  steps = sorted(random.Random(2018).sample(range(4, 50), NUM_KILLS))
  for number, step in enumerate(steps):
    trainer = train(workdir)
    trainer.wait_until(lambda: trainer.step() >= step)  # noqa: B023
    if number == 2:
      trainer.kill_inside_of_a_checkpoint()
    else:
      trainer.kill()
    assert not (workdir / "result.json").exists()
  train(workdir).finish()

  metrics = (workdir / "metrics.jsonl").read_text()
  assert metrics == (expected / "metrics.jsonl").read_text()
  logged = [json.loads(line)["step"] for line in metrics.splitlines()]
  assert logged == list(range(1, 81))
  assert_same_checkpoints(workdir, expected)
  found, wanted = read_per_user(workdir), read_per_user(expected)
  assert found.keys() == wanted.keys()
  for name in wanted:
    np.testing.assert_array_equal(found[name], wanted[name])
  results = [
    json.loads((folder / "result.json").read_text())
    for folder in (workdir, expected)
  ]
  for key in ("metrics", "intervals", "best_step", "validation"):
    assert results[0][key] == results[1][key]
  # Each of the six starts has its TensorBoard file.
  events = pathlib.Path(workdir, "tensorboard").iterdir()
  assert len(list(events)) == NUM_KILLS + 1
  assert not os.path.exists(workdir / "checkpoints-broken" / "80")
