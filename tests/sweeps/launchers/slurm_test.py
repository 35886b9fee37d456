"""submitit's own processes stand in for the nodes of a cluster."""

import json
import pathlib
import sys
import time
import types

import pytest
from submitit.core.utils import FailedJobError, UncompletedJobError

from recjax.errors import ConfigError
from recjax.sweeps.jobs import Job, Outcome
from recjax.sweeps.launchers.slurm import SlurmLauncher

GIN_FILES = ("runs/lr_frappe.gin", "overlays/tiny_ranking.gin")


def test_trials_are_jobs_of_submitit(tmp_path, frappe_dir, key_elsewhere):
  key = key_elsewhere(GIN_FILES)
  launcher = SlurmLauncher(
    tmp_path / "slurm", 2, cluster="local", parameters={"timeout_min": 10}
  )
  for name, gin_files in (("right", GIN_FILES), ("wrong", ("runs/no.gin",))):
    launcher.start(
      Job(
        key if name == "right" else name,
        gin_files,
        (),
        str(tmp_path / "trials" / name),
        str(tmp_path / "logs" / f"{name}.log"),
        str(frappe_dir),
        str(tmp_path / "cache"),
      )
    )
  found, end = {}, time.monotonic() + 300
  while len(found) < 2:
    assert time.monotonic() < end, "submitit does not answer"
    found |= {each.key: each.error for each in launcher.wait(0.5)}
  launcher.close()
  assert found[key] == ""
  assert found["wrong"].startswith("ConfigError: no gin file 'runs/no.gin'")
  result = json.loads((tmp_path / "trials/right/result.json").read_text())
  assert result["name"] == "lr_frappe"


def test_without_submitit_it_says_what_to_install(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "submitit", None)
  with pytest.raises(ConfigError, match=r"pip install 'recjax\[slurm\]'"):
    SlurmLauncher(tmp_path)


def test_wrong_parameters_and_a_missing_slurm_are_told(tmp_path):
  with pytest.raises(ConfigError, match="submitit: .*slurm"):
    SlurmLauncher(tmp_path, cluster="slurm")
  with pytest.raises(ConfigError, match="submitit: .*tiemout_min"):
    SlurmLauncher(tmp_path, cluster="local", parameters={"tiemout_min": 3})


def test_paths_are_absolute_and_what_is_taken_away_is_told_apart(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  launcher = SlurmLauncher("slurm", 4, cluster="local")
  timed_out = "UncompletedJobError: Job not requeued because: timed-out"
  results = {
    "done": {"key": "done", "error": ""},
    # What submitit raises within the trial when its time is over.
    "late": {"key": "late", "error": timed_out, "unexpected": True},
    "lost": UncompletedJobError("no output (state: PREEMPTED)\nCANCELLED"),
    # As submitit words it.
    "failed": FailedJobError(
      "Job (task=0) failed during processing with trace:\n"
      "----------------------\n"
      "Traceback (most recent call last):\nImportError: recjax\n\n"
      "----------------------\nYou can check full logs with 'job.stderr(0)'"
      " and 'job.stdout(0)'or at paths:\n  - a\n  - b"
    ),
  }
  submitted = []

  def submit(run, values):
    submitted.append(values)

    def result():
      found = results[values["key"]]
      if isinstance(found, Exception):
        raise found
      return found

    return types.SimpleNamespace(done=lambda: True, result=result, job_id=7)

  monkeypatch.setattr(launcher._executor, "submit", submit)
  for name in results:
    launcher.start(Job(name, (), (), f"trials/{name}", "log", "data"))
  assert all(pathlib.Path(job["workdir"]).is_absolute() for job in submitted)
  assert submitted[0]["data_dir"] == str(tmp_path / "data")
  assert launcher.wait(0.1) == [
    Outcome("done"),
    Outcome("late", timed_out, unexpected=True, lost=True),
    Outcome("lost", "SLURM job 7: CANCELLED", lost=True),
    Outcome("failed", "SLURM job 7: ImportError: recjax"),
  ]
