"""What a sweep's workdir remembers, and what it refuses."""

import json
import os
import socket

import numpy as np
import pytest

from recjax.errors import RunError
from recjax.sweeps import folder as folders
from recjax.sweeps.folder import SweepFolder, is_sweep
from recjax.sweeps.trials import Refused
from recjax.train.checkpoint import Checkpoints
from tests.sweeps.made_up import finish, sweep_of, trials_of, value_of


def test_the_same_sweep_is_taken_up_again(tmp_path):
  folder = SweepFolder(tmp_path / "a")
  assert not is_sweep(folder.path)
  folder.take_up(sweep_of())
  assert is_sweep(folder.path)
  folder.take_up(sweep_of())
  assert folder.read_sweep()["seeds"] == [0, 1, 2]


def test_more_seeds_another_title_and_more_trials_are_the_same_sweep(tmp_path):
  folder = SweepFolder(tmp_path)
  folder.take_up(sweep_of(num_seeds=2))
  folder.take_up(sweep_of(num_seeds=4, title="better", metric="mrr"))
  assert folder.read_sweep()["seeds"] == [0, 1, 2, 3]
  assert folder.read_sweep()["title"] == "better"
  with pytest.raises(RunError, match=r"seeds: \[0, 1, 2, 3\] there, \[0, 1\]"):
    folder.take_up(sweep_of(num_seeds=2))
  search = SweepFolder(tmp_path / "search")
  search.take_up(sweep_of("random", num_trials=3))
  search.take_up(sweep_of("random", num_trials=5))
  with pytest.raises(RunError, match="num_trials: 5 there, 3 now"):
    search.take_up(sweep_of("random", num_trials=3))


def test_another_sweep_is_refused_with_what_differs(tmp_path):
  folder = SweepFolder(tmp_path)
  folder.take_up(sweep_of())
  before = (tmp_path / folders.SWEEP).read_text()
  with pytest.raises(RunError, match="holds another sweep") as error:
    folder.take_up(sweep_of(bindings=["SEED = 1"]))
  assert 'bindings: [] there, ["SEED = 1"] now' in str(error.value)
  assert "shape" not in str(error.value)
  assert (tmp_path / folders.SWEEP).read_text() == before


def test_a_folder_of_something_else_is_refused(tmp_path):
  (tmp_path / "thesis.txt").write_text("")
  with pytest.raises(RunError, match="no workdir of a sweep: it holds thesis"):
    SweepFolder(tmp_path).take_up(sweep_of())


def test_one_process_at_a_time(tmp_path):
  holder = f"process {os.getpid()} on {socket.gethostname()}"
  with SweepFolder(tmp_path).locked():
    with pytest.raises(RunError, match=f"{holder} is carrying out the sweep"):
      with SweepFolder(tmp_path).locked():
        pass
  with SweepFolder(tmp_path).locked():
    pass


def test_trials_come_back(tmp_path):
  folder = SweepFolder(tmp_path)
  assert folder.read_trials() == []
  trials = trials_of(sweep_of())
  folder.write_trials(trials, "ndcg@10")
  assert folder.read_trials() == trials
  assert folder.read_select() == "ndcg@10"
  (tmp_path / "trials.json").write_text("{")
  with pytest.raises(RunError, match="trials.json is corrupt"):
    folder.read_trials()


def test_refused_combinations_come_back(tmp_path):
  folder = SweepFolder(tmp_path)
  assert folder.read_refused() == []
  refused = Refused("a 1, b 2", {"a": "1", "b": "2"}, "no")
  folder.write_trials(trials_of(sweep_of()), "ndcg@10", [refused])
  assert folder.read_refused() == [refused]
  assert folder.read_trials() == trials_of(sweep_of())


def test_a_list_of_trials_that_lacks_something_is_corrupt(tmp_path):
  folder = SweepFolder(tmp_path)
  (tmp_path / "trials.json").write_text('{"refused": [{"levels": 1}]}')
  for read, message in (
    (folder.read_trials, "it lacks 'trials'"),
    (folder.read_select, "it lacks 'select'"),
    (folder.read_refused, ".*'combination'"),
  ):
    with pytest.raises(RunError, match=f"trials.json is corrupt: {message}"):
      read()
  (tmp_path / "trials.json").write_text('{"trials": [{"key": "a"}]}')
  with pytest.raises(RunError, match="is corrupt: it lacks 'gin_files'"):
    folder.read_trials()


def test_states(tmp_path):
  folder = SweepFolder(tmp_path)
  (trial, *_) = trials_of(sweep_of())
  state = lambda: folder.state(trial.key)
  assert state() == folders.OPEN
  folder.add_crash(trial.key, "out of memory")
  assert state() == folders.OPEN
  folder.add_crash(trial.key, "out of memory again")
  assert state() == folders.FAILED
  assert [c["error"] for c in folder.crashes(trial.key)] == [
    f"out of memory; see logs/{trial.key}.log",
    f"out of memory again; see logs/{trial.key}.log",
  ]
  folder.forget_crashes(trial.key)
  assert state() == folders.OPEN
  folder.stop(trial.key, "too slow")
  assert state() == folders.STOPPED
  assert folder.stop_reason(trial.key) == "too slow"
  finish(folder.workdir(trial.key), 0, value_of(trial))
  assert state() == folders.FINISHED


def test_a_result_that_can_not_be_used_is_a_failed_trial(tmp_path):
  folder = SweepFolder(tmp_path)
  path = folder.workdir("a") / "result.json"
  finish(folder.workdir("a"), 0, np.full(3, 0.5))
  assert folder.state("a") == folders.FINISHED
  assert folder.crashes("a") == []
  # A folder that was copied from another trial.
  whole = json.loads(path.read_text())
  path.write_text(json.dumps(whole | {"config_hash": "b"}))
  assert folder.state("a") == folders.FAILED
  (crash,) = folder.crashes("a")
  assert f"{path} is of the config b, not a" in crash["error"]
  for number in range(2):
    folder.forget_crashes("a")
    assert folder.state("a") == folders.OPEN
    aside = tmp_path / "set_aside" / f"a.{number}"
    assert json.loads((aside / "result.json").read_text())["name"] == "run"
    assert (aside / "metrics.jsonl").exists() and not path.parent.exists()
    finish(folder.workdir("a"), number, np.full(3, 0.5), config_hash="b")
    assert folder.state("a") == folders.FAILED
  path.write_text("{")
  assert folder.state("a") == folders.FAILED
  (crash,) = folder.crashes("a")
  assert f"{path} is corrupt" in crash["error"]
  folder.forget_crashes("a")
  assert folder.state("a") == folders.OPEN
  assert path.with_name("result.json.corrupt").read_text() == "{"


def test_a_result_with_corrupt_values_of_users(tmp_path):
  folder = SweepFolder(tmp_path)
  finish(folder.workdir("a"), 0, np.full(3, 0.5))
  record = folder.record("a")
  users = record.per_user_path("test")
  users.write_bytes(users.read_bytes()[:-30])
  assert folder.record("a").is_finished()
  # What is asked again and again is not so thorough.
  assert folder.state("a") == folders.FINISHED
  assert folder.state("a", thorough=True) == folders.FAILED
  (crash,) = folder.crashes("a")
  assert f"{users} is corrupt" in crash["error"]
  folder.forget_crashes("a")
  assert folder.state("a", thorough=True) == folders.OPEN
  for path in (users, record.workdir / "result.json"):
    assert path.with_name(f"{path.name}.corrupt").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"crashes": 3}', "{}"])
def test_a_corrupt_list_of_crashes_is_a_crash(tmp_path, text):
  folder = SweepFolder(tmp_path)
  folder.add_crash("a", "no")
  (tmp_path / "attempts" / "a.json").write_text(text)
  (crash,) = folder.crashes("a")
  assert "attempts/a.json is corrupt" in crash["error"]
  folder.add_crash("a", "no")
  assert folder.state("a") == folders.FAILED
  folder.workdir("b").mkdir(parents=True)
  (folder.workdir("b") / folders.STOP).write_text(text[:1])
  assert "stop.json is corrupt" in folder.stop_reason("b")


def test_an_error_is_one_short_line_with_its_log(tmp_path):
  folder = SweepFolder(tmp_path)
  folder.add_crash("a", "RunError: the config differs:\n  - a = 1\n  + a = 2\n")
  folder.add_crash("a", "no " * 500)
  first, second = (crash["error"] for crash in folder.crashes("a"))
  assert first == (
    "RunError: the config differs: - a = 1 + a = 2; see logs/a.log"
  )
  assert len(second) == 200 and second.startswith("no no no")
  assert second.endswith("...; see logs/a.log")


def test_the_step_of_the_newest_checkpoint(tmp_path):
  folder = SweepFolder(tmp_path)
  assert folder.checkpoint_step("a") == 0
  checkpoints = Checkpoints(folder.record("a").checkpoints_dir, keep=2)
  for step in (5, 20, 100):
    checkpoints.save(step, {"x": np.zeros(2)}, {})
  checkpoints.close()
  (folder.record("a").checkpoints_dir / "300.orbax-checkpoint-tmp-1").mkdir()
  assert folder.checkpoint_step("a") == 100


def test_events_are_lines(tmp_path):
  folder = SweepFolder(tmp_path)
  folder.add_event("started", "x", attempt=1)
  folder.add_event("finished", "x")
  lines = (tmp_path / "events.jsonl").read_text().splitlines()
  assert [json.loads(line)["event"] for line in lines] == [
    "started",
    "finished",
  ]
