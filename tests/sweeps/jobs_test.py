"""Jobs are carried out, or tell why not; here without processes."""

import dataclasses
import json
import pathlib
import threading

import jax
import pytest

from recjax.named_run import read_run
from recjax.runs.record import RunRecord
from recjax.sweeps.folder import STOP
from recjax.sweeps.jobs import Job, job_of, run_job

GIN_FILES = ("runs/lr_frappe.gin", "overlays/tiny_ranking.gin")


@pytest.fixture
def job(tmp_path, frappe_dir):
  return Job(
    "a",
    GIN_FILES,
    ("TABLE_L2 = 1e-3",),
    str(tmp_path / "trials" / "a"),
    str(tmp_path / "a.log"),
    str(frappe_dir),
    str(tmp_path / "cache"),
  )


def test_a_job_makes_the_record_of_its_run_once(job):
  assert run_job(job).error == ""
  record = RunRecord(job.workdir)
  result = record.read_result()
  run = read_run(job.gin_files, job.bindings)
  assert result["config_hash"] == run.config_hash == record.read_config_hash()
  assert result["command"] == (
    "recjax train --gin_file=runs/lr_frappe.gin"
    " --gin_file=overlays/tiny_ranking.gin '--gin.TABLE_L2 = 1e-3'"
    f" --workdir={job.workdir}"
  )
  assert run_job(job).error == ""
  assert record.read_result() == result  # The time it finished at as well.


def test_a_wish_to_stop_ends_the_job_without_an_error(job):
  path = pathlib.Path(job.workdir) / STOP
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps({"reason": "too slow"}))
  assert run_job(job).error == ""
  record = RunRecord(job.workdir)
  assert not record.is_finished()
  # It stopped at the first line that it logged.
  assert len(record.read_metrics()) == 1


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"gin_files": ("runs/none.gin",)}, "ConfigError: no gin file"),
    ({"bindings": ("TABLE_L3 = 1",)}, "ConfigError: --gin.TABLE_L3"),
    ({"data_dir": "/nowhere"}, "DataError"),
  ],
)
def test_what_goes_wrong_is_the_outcome(job, changes, message, capfd):
  outcome = run_job(dataclasses.replace(job, **changes))
  assert outcome.key == "a" and outcome.error.startswith(message)
  assert "Traceback" in capfd.readouterr().err


def test_a_workdir_of_another_run_is_told(job):
  run_job(dataclasses.replace(job, data_dir="/nowhere"))
  other = dataclasses.replace(job, bindings=("TABLE_L2 = 1e-2",))
  assert "RunError" in run_job(other).error


def test_two_processes_never_write_one_record(job, monkeypatch):
  from recjax.sweeps import jobs

  inside, most = [], []

  def slow(_):
    inside.append(1)
    most.append(len(inside))
    threading.Event().wait(0.2)
    inside.pop()

  monkeypatch.setattr(jobs, "_run", slow)
  threads = [threading.Thread(target=run_job, args=(job,)) for _ in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert most == [1, 1, 1]


def test_compilations_are_shared_where_a_folder_is_named(job, tmp_path):
  before = jax.config.jax_compilation_cache_dir
  try:
    folder = str(tmp_path / "xla")
    wrong = dataclasses.replace(job, compilation_dir=folder, gin_files=("x",))
    run_job(wrong)
    assert jax.config.jax_compilation_cache_dir == folder
  finally:
    jax.config.update("jax_compilation_cache_dir", before)


def test_a_job_comes_back_from_json(job):
  assert job_of(json.loads(json.dumps(dataclasses.asdict(job)))) == job
