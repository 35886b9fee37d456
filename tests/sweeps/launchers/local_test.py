"""Jobs in real processes: outcomes, logs, crashes, cores."""

import json
import os
import pathlib
import signal
import time

import pytest

from recjax.errors import ConfigError
from recjax.sweeps.jobs import Job
from recjax.sweeps.launchers import gpus
from recjax.sweeps.launchers.launcher import Launcher
from recjax.sweeps.launchers.local import LocalLauncher

GIN_FILES = ("runs/lr_frappe.gin", "overlays/tiny_ranking.gin")


LONG = (
  "TrainConfig.max_steps = 100000",
  "TrainConfig.num_epochs = 100000",
  "PATIENCE = 0",
)


def make_job(
  tmp_path, name, data_dir, *, key="", gin_files=GIN_FILES, bindings=()
):
  return Job(
    key or name,
    gin_files,
    bindings,
    str(tmp_path / "trials" / name),
    str(tmp_path / "logs" / f"{name}.log"),
    str(data_dir),
    str(tmp_path / "cache"),
    str(tmp_path / "xla"),
  )


def outcomes(launcher, num, secs=300):
  found = []
  end = time.monotonic() + secs
  while len(found) < num:
    assert time.monotonic() < end, "the processes do not answer"
    found += launcher.wait(0.5)
  return {each.key: each.error for each in found}


@pytest.fixture
def launcher(tmp_path):
  made = LocalLauncher(1, tmp_path / "logs")
  yield made
  made.close()


def test_a_process_carries_out_jobs_and_outlives_those_that_fail(
  launcher, tmp_path, frappe_dir, key_elsewhere
):
  assert isinstance(launcher, Launcher)
  wrong = make_job(tmp_path, "wrong", frappe_dir, gin_files=("runs/no.gin",))
  launcher.start(wrong)
  (error,) = outcomes(launcher, 1).values()
  assert error.startswith("ConfigError: no gin file 'runs/no.gin'")
  log = (tmp_path / "logs" / "wrong.log").read_text()
  assert log.startswith("$ recjax train --gin_file=runs/no.gin --workdir=")
  assert "Traceback" in log
  process = launcher._workers[0].process
  key = key_elsewhere(GIN_FILES)
  right = make_job(tmp_path, "right", frappe_dir, key=key)
  launcher.start(right)
  assert outcomes(launcher, 1) == {right.key: ""}
  result = json.loads((tmp_path / "trials/right/result.json").read_text())
  assert result["name"] == "lr_frappe"
  assert result["command"].startswith("recjax train --gin_file=runs/lr_frappe")
  assert launcher._workers[0].process is process
  # Programs are shared: later processes find them.
  assert any((tmp_path / "xla").iterdir())


def test_a_process_that_is_killed_is_told_and_made_anew(
  launcher, tmp_path, frappe_dir, key_elsewhere
):
  key = key_elsewhere(GIN_FILES, LONG)
  job = make_job(tmp_path, "a", frappe_dir, key=key, bindings=LONG)
  launcher.start(job)
  metrics = tmp_path / "trials" / "a" / "metrics.jsonl"
  end = time.monotonic() + 300
  while not metrics.exists():
    assert time.monotonic() < end, (tmp_path / "logs" / "a.log").read_text()
    assert launcher.wait(0.2) == []
  os.kill(launcher._workers[0].process.pid, signal.SIGKILL)
  (error,) = outcomes(launcher, 1).values()
  assert error == (
    "its process ended with signal 9 (out of memory?), see logs/worker-0.log."
  )
  wrong = make_job(tmp_path, "wrong", frappe_dir, gin_files=("runs/no.gin",))
  launcher.start(wrong)
  assert set(outcomes(launcher, 1)) == {"wrong"}


def test_a_process_that_died_while_it_had_nothing_is_made_anew(
  launcher, tmp_path
):
  # Long enough for the pipe to be full, were nobody there to read it.
  jobs = [
    make_job(tmp_path, name, "", gin_files=("runs/no.gin",),
      bindings=("A = 1",) * 10_000)
    for name in "abc"
  ]  # fmt: skip
  for number, job in enumerate(jobs):
    launcher.start(job)
    (error,) = outcomes(launcher, 1).values()
    assert error.startswith("ConfigError: no gin file 'runs/no.gin'")
    if number == 0:
      dead = launcher._workers[0].process
      os.kill(dead.pid, signal.SIGSEGV)
      dead.wait(60)
    else:
      assert launcher._workers[0].process is not dead
  # Where it was when it died.
  log = (tmp_path / "logs" / "worker-0.log").read_text()
  assert log.startswith("Fatal Python error: Segmentation fault")
  assert "worker.py" in log


def test_an_error_that_nothing_explains_ends_the_process(launcher, tmp_path):
  (tmp_path / "trials").touch()
  job = make_job(tmp_path, "a", "", gin_files=("runs/no.gin",))
  launcher.start(job)
  process = launcher._workers[0].process
  (error,) = outcomes(launcher, 1).values()
  assert error.startswith("FileExistsError")
  assert process.returncode == -signal.SIGKILL
  (tmp_path / "trials").unlink()
  launcher.start(job)
  (error,) = outcomes(launcher, 1).values()
  assert error.startswith("ConfigError")


def test_processes_end_with_their_launcher(tmp_path, frappe_dir):
  launcher = LocalLauncher(1)
  launcher.start(make_job(tmp_path, "a", frappe_dir))
  process = launcher._workers[0].process
  launcher.close()
  assert process.returncode is not None


def test_cores_are_dealt_out():
  cores = sorted(os.sched_getaffinity(0))
  if len(cores) < 2:
    pytest.skip("there is one core")
  launcher = LocalLauncher(2)
  assert sorted(sum(launcher._cores, [])) == cores
  assert all(launcher._cores)
  launcher.close()
  most = len(cores)
  with pytest.raises(ConfigError, match=rf"cores of this machine.*{most + 1}"):
    LocalLauncher(most + 1)


def environment(process):
  path = pathlib.Path(f"/proc/{process.pid}/environ")
  while not (content := path.read_bytes()):  # The program is being loaded.
    assert process.poll() is None
  entries = content.decode().split("\0")
  return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_gpus_are_dealt_out(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
  monkeypatch.setattr(gpus, "visible_gpus", lambda: ["GPU-a", "GPU-b"])
  launcher = LocalLauncher(2)
  for place, name in enumerate(("GPU-a", "GPU-b")):
    launcher._workers[place] = made = launcher._make_worker(place)
    assert environment(made.process)["CUDA_VISIBLE_DEVICES"] == name
  launcher.close()
  with pytest.raises(ConfigError, match="3 trials at once need a GPU each"):
    LocalLauncher(3)


def test_without_a_gpu_the_environment_is_left_alone(monkeypatch):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
  monkeypatch.setattr(gpus, "visible_gpus", lambda: [])
  launcher = LocalLauncher(1)
  launcher._workers[0] = made = launcher._make_worker(0)
  assert environment(made.process)["CUDA_VISIBLE_DEVICES"] == "7"
  launcher.close()


def test_a_worker_ends_when_nobody_listens():
  launcher = LocalLauncher(1)
  made = launcher._make_worker(0)
  made.process.stdin.close()
  assert made.process.wait(timeout=120) == 0
  launcher._workers[0] = None
  launcher.close()
  made.process.stdout.close()
