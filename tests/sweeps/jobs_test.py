"""Jobs are carried out, or tell why not; here without processes."""

import dataclasses
import json
import os
import pathlib
import threading

import jax
import pytest

from recjax.named_run import read_run
from recjax.runs.record import RunRecord
from recjax.sweeps import jobs
from recjax.sweeps.folder import STOP
from recjax.sweeps.jobs import Job, job_of, run_job, run_logged

GIN_FILES = ("runs/lr_frappe.gin", "overlays/tiny_ranking.gin")


def key_of(*bindings):
  return read_run(GIN_FILES, bindings).config_hash


@pytest.fixture
def job(tmp_path, frappe_dir):
  return Job(
    key_of("TABLE_L2 = 1e-3"),
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
  assert outcome.key == job.key and outcome.error.startswith(message)
  assert not outcome.unexpected
  assert "Traceback" in capfd.readouterr().err


def test_an_error_that_nothing_explains_is_told_as_such(job, monkeypatch):
  def spoil(_):
    raise MemoryError("RESOURCE_EXHAUSTED")

  monkeypatch.setattr(jobs, "_run", spoil)
  outcome = run_job(job)
  assert outcome.error == "MemoryError: RESOURCE_EXHAUSTED"
  assert outcome.unexpected


def test_a_workdir_of_another_run_is_told(job):
  run_job(dataclasses.replace(job, data_dir="/nowhere"))
  bindings = ("TABLE_L2 = 1e-2",)
  other = dataclasses.replace(job, bindings=bindings, key=key_of(*bindings))
  assert "holds a run of another config" in run_job(other).error


def test_a_trial_whose_config_has_another_hash_than_its_key_does_not_run(job):
  # As after a change of the code, or with an older one on another machine.
  error = run_job(dataclasses.replace(job, key="0" * 12)).error
  assert error.startswith("RunError: the config of the trial 000000000000")
  assert f"has the hash {job.key} here" in error
  assert not pathlib.Path(job.workdir).exists()


def test_a_result_of_another_config_is_not_taken_as_done(job):
  assert run_job(job).error == ""
  path = pathlib.Path(job.workdir) / "result.json"
  changed = json.loads(path.read_text()) | {"config_hash": "f" * 12}
  path.write_text(json.dumps(changed))
  error = run_job(job).error
  assert f"{path} is of the config ffffffffffff, not {job.key}" in error


def test_two_processes_never_write_one_record(job, monkeypatch, capfd):
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
  # Those that waited say for whom, in their log.
  assert f"process {os.getpid()} on " in capfd.readouterr().out


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


def test_what_a_job_prints_goes_to_its_log_and_nothing_else(job, capfd):
  def prints(_):
    os.write(1, b"of the trial\n")
    os.write(2, b"of its native code\n")

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jobs, "_run", prints)
    run_logged(job)
    run_logged(job)
  os.write(2, b"of the process\n")
  log = pathlib.Path(job.log_path).read_text()
  assert log.count("$ recjax train --gin_file=runs/lr_frappe.gin") == 2
  assert log.count("of the trial\nof its native code\n") == 2
  assert "of the process" not in log
  assert capfd.readouterr().err == "of the process\n"


def test_programs_are_dropped_after_a_job(job, monkeypatch):
  @jax.jit
  def program(x):
    return x + 1

  monkeypatch.setattr(jobs, "_run", lambda _: program(1.0))
  run_logged(job)
  assert program._cache_size() == 0


def test_paths_are_made_absolute_for_other_machines(job, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("mine.gin").touch()
  relative = dataclasses.replace(
    job,
    gin_files=("runs/lr_frappe.gin", "mine.gin"),
    workdir="w/trials/a",
    log_path="w/logs/a.log",
    data_dir="data",
    cache_dir=None,
    compilation_dir="xla",
  )
  made = relative.absolute()
  assert made == dataclasses.replace(
    relative,
    # What lies in the packaged folder is found there by all.
    gin_files=("runs/lr_frappe.gin", f"{tmp_path}/mine.gin"),
    workdir=f"{tmp_path}/w/trials/a",
    log_path=f"{tmp_path}/w/logs/a.log",
    data_dir=f"{tmp_path}/data",
    compilation_dir=f"{tmp_path}/xla",
  )
  none = dataclasses.replace(relative, compilation_dir="").absolute()
  assert none.compilation_dir == ""
