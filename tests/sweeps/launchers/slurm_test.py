"""submitit's own processes stand in for the nodes of a cluster."""

import json
import sys
import time

import pytest

from recjax.errors import ConfigError
from recjax.sweeps.jobs import Job
from recjax.sweeps.launchers.slurm import SlurmLauncher

GIN_FILES = ("runs/lr_frappe.gin", "overlays/tiny_ranking.gin")


def test_trials_are_jobs_of_submitit(tmp_path, frappe_dir):
  launcher = SlurmLauncher(
    tmp_path / "slurm", 2, cluster="local", parameters={"timeout_min": 10}
  )
  for name, gin_files in (("right", GIN_FILES), ("wrong", ("runs/no.gin",))):
    launcher.start(
      Job(
        name,
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
  assert found["right"] == ""
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
