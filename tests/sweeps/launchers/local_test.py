"""Jobs in real processes: outcomes, logs, crashes, cores."""

import json
import os
import signal
import time

import pytest

from recjax.errors import ConfigError
from recjax.sweeps.jobs import Job
from recjax.sweeps.launchers.launcher import Launcher
from recjax.sweeps.launchers.local import LocalLauncher

GIN_FILES = ("runs/lr_frappe.gin", "overlays/tiny_ranking.gin")


def make_job(tmp_path, name, data_dir, *, gin_files=GIN_FILES, bindings=()):
  return Job(
    name,
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
def launcher():
  made = LocalLauncher(1)
  yield made
  made.close()


def test_a_process_carries_out_jobs_and_outlives_those_that_fail(
  launcher, tmp_path, frappe_dir
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
  launcher.start(make_job(tmp_path, "right", frappe_dir))
  assert outcomes(launcher, 1) == {"right": ""}
  result = json.loads((tmp_path / "trials/right/result.json").read_text())
  assert result["name"] == "lr_frappe"
  assert result["command"].startswith("recjax train --gin_file=runs/lr_frappe")
  assert launcher._workers[0].process is process
  # Programs are shared: later processes find them.
  assert any((tmp_path / "xla").iterdir())


def test_a_process_that_is_killed_is_told_and_made_anew(
  launcher, tmp_path, frappe_dir
):
  job = make_job(
    tmp_path, "a", frappe_dir, bindings=("TrainConfig.max_steps = 100000",
      "TrainConfig.num_epochs = 100000", "PATIENCE = 0"),
  )  # fmt: skip
  launcher.start(job)
  metrics = tmp_path / "trials" / "a" / "metrics.jsonl"
  end = time.monotonic() + 300
  while not metrics.exists():
    assert time.monotonic() < end, (tmp_path / "logs" / "a.log").read_text()
    assert launcher.wait(0.2) == []
  os.kill(launcher._workers[0].process.pid, signal.SIGKILL)
  (error,) = outcomes(launcher, 1).values()
  assert error == "its process ended with signal 9 (out of memory?)."
  wrong = make_job(tmp_path, "wrong", frappe_dir, gin_files=("runs/no.gin",))
  launcher.start(wrong)
  assert set(outcomes(launcher, 1)) == {"wrong"}


def test_processes_end_with_their_launcher(tmp_path, frappe_dir):
  launcher = LocalLauncher(1)
  launcher.start(make_job(tmp_path, "a", frappe_dir))
  process = launcher._workers[0].process
  launcher.close()
  assert process.returncode is not None


def test_cores_and_gpus_are_dealt_out(monkeypatch):
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


def test_a_worker_ends_when_nobody_listens():
  launcher = LocalLauncher(1)
  made = launcher._make_worker(0)
  made.process.stdin.close()
  assert made.process.wait(timeout=120) == 0
  launcher._workers[0] = None
  launcher.close()
  made.process.stdout.close()
