"""Ray on this machine, for real."""

import json
import sys
import time

import pytest

from recjax.errors import ConfigError
from recjax.sweeps.jobs import Job
from recjax.sweeps.launchers.ray import RayLauncher

GIN_FILES = ("runs/lr_frappe.gin", "overlays/tiny_ranking.gin")


@pytest.mark.filterwarnings("ignore")  # Of Ray's own making.
def test_trials_are_tasks_of_ray(tmp_path, frappe_dir):
  launcher = RayLauncher(2)
  try:
    assert launcher.wait(0.1) == []
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
      assert time.monotonic() < end, "Ray does not answer"
      found |= {each.key: each.error for each in launcher.wait(1.0)}
  finally:
    launcher.close()
  assert found["right"] == ""
  assert found["wrong"].startswith("ConfigError: no gin file 'runs/no.gin'")
  result = json.loads((tmp_path / "trials/right/result.json").read_text())
  assert result["name"] == "lr_frappe"
  log = (tmp_path / "logs" / "right.log").read_text()
  assert log.startswith("$ recjax train --gin_file=runs/lr_frappe.gin")


def test_without_ray_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  with pytest.raises(ConfigError, match=r"pip install 'recjax\[ray\]'"):
    RayLauncher(1)
