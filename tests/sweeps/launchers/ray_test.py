"""Ray on this machine, for real."""

import json
import pathlib
import sys
import time
import types

import pytest

from recjax.errors import ConfigError
from recjax.sweeps.jobs import Job, Outcome
from recjax.sweeps.launchers.ray import RayLauncher

GIN_FILES = ("runs/lr_frappe.gin", "overlays/tiny_ranking.gin")


@pytest.mark.filterwarnings("ignore")  # Of Ray's own making.
def test_trials_are_tasks_of_ray(tmp_path, frappe_dir, key_elsewhere):
  key = key_elsewhere(GIN_FILES)
  launcher = RayLauncher(2)
  try:
    assert launcher.wait(0.1) == []
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
      assert time.monotonic() < end, "Ray does not answer"
      found |= {each.key: each.error for each in launcher.wait(1.0)}
  finally:
    launcher.close()
  assert found[key] == ""
  assert found["wrong"].startswith("ConfigError: no gin file 'runs/no.gin'")
  result = json.loads((tmp_path / "trials/right/result.json").read_text())
  assert result["name"] == "lr_frappe"
  log = (tmp_path / "logs" / "right.log").read_text()
  assert log.startswith("$ recjax train --gin_file=runs/lr_frappe.gin")


def test_without_ray_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  with pytest.raises(ConfigError, match=r"pip install 'recjax\[ray\]'"):
    RayLauncher(1)


class FakeRay(types.ModuleType):
  """Notes what it is given; `results` are what tasks give or raise."""

  class RayError(Exception):
    pass

  class RayTaskError(RayError):
    pass

  class WorkerCrashedError(RayError):
    pass

  def __init__(self):
    super().__init__("ray")
    self.exceptions = self
    self.options, self.jobs, self.results = {}, [], []
    self.reserved = {}

  def init(self, **options):
    self.options = options

  def remote(self, **reserved):
    self.reserved = reserved

    def submit(values):
      self.jobs.append(values)
      return len(self.jobs) - 1

    return lambda run: types.SimpleNamespace(remote=submit)

  def wait(self, references, timeout):
    del timeout
    return references, []

  def get(self, reference):
    result = self.results[reference]
    if isinstance(result, Exception):
      raise result
    return result


@pytest.fixture
def ray(monkeypatch):
  made = FakeRay()
  monkeypatch.setitem(sys.modules, "ray", made)
  monkeypatch.delenv("RAY_ADDRESS", raising=False)
  return made


def test_the_address_may_come_from_the_environment(ray, monkeypatch):
  RayLauncher(2, cores_per_trial=3)
  assert ray.options["num_cpus"] == 6 and "address" not in ray.options
  monkeypatch.setenv("RAY_ADDRESS", "there:6379")
  RayLauncher(2)
  assert ray.options["address"] == "there:6379"
  assert "num_cpus" not in ray.options  # Ray refuses it for a cluster.
  RayLauncher(2, address="here:1")
  assert ray.options["address"] == "here:1"


def test_parts_of_cores_and_devices_are_reserved(ray):
  RayLauncher(3, cores_per_trial=0.5, gpus_per_trial=0.25)
  assert ray.options["num_cpus"] == 2  # Ray has whole ones alone.
  assert ray.reserved["num_cpus"] == 0.5 and ray.reserved["num_gpus"] == 0.25


@pytest.mark.parametrize("value", [-1, -0.5, 1.5, float("nan")])
@pytest.mark.parametrize("name", ["cores_per_trial", "gpus_per_trial"])
def test_what_ray_can_not_reserve_is_refused_before_it_starts(ray, name, value):
  with pytest.raises(ConfigError, match=f"{name} must"):
    RayLauncher(1, **{name: value})
  assert ray.options == {}


def test_paths_are_absolute_and_what_is_taken_away_is_told_apart(
  ray, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  launcher = RayLauncher(3)
  for name in ("done", "failed", "lost"):
    launcher.start(Job(name, (), (), f"trials/{name}", "log", "data"))
  assert all(pathlib.Path(job["workdir"]).is_absolute() for job in ray.jobs)
  assert ray.jobs[0]["workdir"] == str(tmp_path / "trials" / "done")
  ray.results = [
    {"key": "done", "error": ""},
    ray.RayTaskError("no module recjax\nmore"),
    ray.WorkerCrashedError("the worker died"),
  ]
  assert launcher.wait(0.1) == [
    Outcome("done"),
    Outcome("failed", "Ray: no module recjax"),
    Outcome("lost", "Ray: the worker died", lost=True),
  ]
