"""Trials are started, watched, stopped and tried again; nothing is trained."""

import json
import pathlib

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.runs.record import RunRecord
from recjax.sweeps import folder as folders
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.jobs import Outcome
from recjax.sweeps.scheduler import Scheduler, Watch, curve_of
from recjax.sweeps.stopping import HalvingRule, MedianRule
from tests.sweeps.made_up import (
  ScriptedLauncher,
  finish,
  job_of_trial,
  log_value,
  sweep_of,
  trials_of,
)


@pytest.fixture
def folder(tmp_path):
  made = SweepFolder(tmp_path / "sweep")
  made.take_up(sweep_of())
  return made


def done(job):
  """The job ends with a result."""
  finish(pathlib.Path(job.workdir), 0, np.full(3, 0.5))
  return Outcome(job.key)


def run(folder, act, *, num_slots=2, **watch):
  launcher = ScriptedLauncher(act, num_slots)
  scheduler = Scheduler(
    folder, launcher, Watch("ndcg@10", **watch), job_of_trial(folder)
  )
  trials = trials_of(sweep_of())
  scheduler.run(trials)
  return launcher, scheduler.states(trials)


def events(folder):
  lines = (folder.path / "events.jsonl").read_text().splitlines()
  return [(e["event"], e["trial"]) for e in map(json.loads, lines)]


def test_all_trials_run_once_in_their_order(folder):
  launcher, states = run(folder, done)
  assert launcher.started == [t.key for t in trials_of(sweep_of())]
  assert set(states.values()) == {folders.FINISHED}
  assert launcher.most == 2 and not launcher.running
  launcher, _ = run(folder, done)
  assert launcher.started == []


def test_a_crash_is_tried_once_more_and_takes_nothing_down(folder):
  tries = {}

  def act(job):
    tries[job.key] = tries.get(job.key, 0) + 1
    if job.key.startswith("depth2sizel"):
      return Outcome(job.key, "ValueError: no")
    if job.key.startswith("depth1sizel") and tries[job.key] == 1:
      return Outcome(job.key, "killed")
    return done(job)

  _, states = run(folder, act)
  for key, state in states.items():
    bad = key.startswith("depth2sizel")
    assert state == (folders.FAILED if bad else folders.FINISHED)
    twice = bad or key.startswith("depth1sizel")
    assert tries[key] == (2 if twice else 1)
  found = events(folder)
  assert found.count(("started", "depth2sizel-0")) == 2
  assert found.count(("crashed", "depth2sizel-0")) == 2
  assert [k for e, k in found].count("depth1sizes-0") == 2


def test_a_job_that_ends_without_a_result_has_crashed(folder):
  _, states = run(folder, lambda job: Outcome(job.key))
  assert set(states.values()) == {folders.FAILED}
  (first, *_) = folder.crashes("depth1sizes-0")
  assert first["error"] == (
    "its job ended without a result and without an error;"
    " see logs/depth1sizes-0.log"
  )


def test_a_hopeless_trial_is_asked_to_stop_and_its_place_is_taken(folder):
  def act(job):
    step = len(curve_of(folder, job.key, "ndcg@10")) + 1
    value = 0.1 if job.key.startswith("depth2sizel") else 0.5
    if log_value(job, step, value):
      return Outcome(job.key)
    return done(job) if step == 6 else None

  rule = MedianRule(after=2, min_trials=2)
  _, states = run(folder, act, rule=rule)
  for key, state in states.items():
    bad = key.startswith("depth2sizel")
    assert state == (folders.STOPPED if bad else folders.FINISHED)
  reason = folder.stop_reason("depth2sizel-2")
  assert reason == "median rule at step 2, with ndcg@10 0.1000"
  assert ("stopped", "depth2sizel-2") in events(folder)


def test_less_may_be_better(folder):
  def act(job):
    record = RunRecord(job.workdir)
    record.create_or_resume("", "", "0" * 12)
    value = 0.1 if job.key.startswith("depth2sizel") else 0.5
    record.log(1, **{"validation/log_loss": value})
    record.close()
    return done(job) if job.key[-1] == "0" else Outcome(job.key, "no")

  scheduler = Scheduler(
    folder,
    ScriptedLauncher(act),
    Watch("log_loss", HalvingRule()),
    job_of_trial(folder),
  )
  trials = trials_of(sweep_of())[:4]
  scheduler.run(trials)
  assert scheduler.states(trials)["depth2sizel-0"] == folders.FINISHED


def test_more_trials_come_while_there_is_room(folder):
  trials = trials_of(sweep_of())
  waiting = [[trials[2]], [trials[3]], []]
  launcher = ScriptedLauncher(done, num_slots=1)
  scheduler = Scheduler(
    folder, launcher, Watch("ndcg@10"), job_of_trial(folder)
  )
  scheduler.run(trials[:2], lambda: waiting.pop(0) if waiting else [])
  assert launcher.started == [t.key for t in trials[:4]]


def test_states_are_shown(folder):
  shown = []
  run(folder, done, show=lambda states: shown.append(dict(states)))
  assert set(shown[-1].values()) == {folders.FINISHED}
  assert any(Scheduler.RUNNING in states.values() for states in shown)


def test_what_crashed_comes_again_after_all_others(folder):
  tries = []

  def act(job):
    tries.append(job.key)
    if job.key == "depth1sizel-0" and tries.count(job.key) == 1:
      return Outcome(job.key, "no")
    return done(job)

  run(folder, act, num_slots=1)
  in_order = [t.key for t in trials_of(sweep_of())]
  assert tries == [*in_order, "depth1sizel-0"]


def save_checkpoint(job, step):
  RunRecord(job.workdir).create_or_resume("", "", "0" * 12)
  (pathlib.Path(job.workdir) / "checkpoints" / str(step)).mkdir(parents=True)


def test_what_was_taken_away_after_a_checkpoint_has_not_crashed(folder):
  calls = {}

  def act(job):
    number = calls[job.key] = calls.get(job.key, 0) + 1
    if job.key == "depth1sizel-0" and number <= 4:
      save_checkpoint(job, 10 * number)
      return Outcome(job.key, "preempted", lost=True)
    if job.key == "depth2sizes-0":  # It never gets anywhere.
      return Outcome(job.key, "preempted", lost=True)
    if job.key == "depth2sizel-0":  # It fails by itself.
      save_checkpoint(job, number)
      return Outcome(job.key, "no")
    return done(job)

  _, states = run(folder, act)
  assert calls["depth1sizel-0"] == 5
  assert states["depth1sizel-0"] == folders.FINISHED
  assert folder.crashes("depth1sizel-0") == []
  assert events(folder).count(("preempted", "depth1sizel-0")) == 4
  for key in ("depth2sizes-0", "depth2sizel-0"):
    assert states[key] == folders.FAILED and calls[key] == 2


def test_a_result_of_another_config_takes_one_trial_down(folder):
  def act(job):
    outcome = done(job)
    if job.key == "depth2sizel-1":
      path = pathlib.Path(job.workdir) / "result.json"
      result = json.loads(path.read_text()) | {"config_hash": "0" * 12}
      path.write_text(json.dumps(result))
    if job.key == "depth2sizel-2":
      (pathlib.Path(job.workdir) / "result.json").write_text("{")
    return outcome

  launcher, states = run(folder, act)
  failed = {key for key, state in states.items() if state == folders.FAILED}
  assert failed == {"depth2sizel-1", "depth2sizel-2"}
  # Again, with what lies there.
  launcher, states = run(folder, act)
  assert launcher.started == []
  assert {k for k, s in states.items() if s == folders.FAILED} == failed
  (crash,) = folder.crashes("depth2sizel-1")
  path = folder.workdir("depth2sizel-1") / "result.json"
  assert crash["error"].startswith(f"{path} is of the config 000000000000")


def test_a_metric_that_is_not_there_is_told_by_the_first_result(folder):
  with pytest.raises(ConfigError, match="'ngcd@10'. Did you mean 'ndcg@10'"):
    run(folder, done, num_slots=1, reported="ngcd@10")
  assert [e for e in events(folder) if e[0] == "finished"] == [
    ("finished", "depth1sizes-0")
  ]
  # It is known before anything starts.
  before = events(folder)
  with pytest.raises(ConfigError, match="`metric` of the sweep file"):
    run(folder, done, reported="mrr")
  assert events(folder) == before
  _, states = run(folder, done, reported="ndcg@10")
  assert set(states.values()) == {folders.FINISHED}


def test_only_the_first_combination_must_have_the_metric(folder):
  def act(job):
    metrics = {"ndcg@10": 0.5}
    if job.key.startswith("depth1sizes"):
      metrics["gauc"] = 0.5
    finish(pathlib.Path(job.workdir), 0, np.full(3, 0.5), metrics=metrics)
    return Outcome(job.key)

  _, states = run(folder, act, reported="gauc")
  assert set(states.values()) == {folders.FINISHED}


def test_a_curve_leaves_out_what_is_not_finite(folder):
  record = folder.record("x")
  record.log(1, **{"validation/ndcg@10": float("nan")})
  record.log(2, loss=1.0)
  record.log(3, **{"validation/ndcg@10": 0.25})
  record.close()
  assert curve_of(folder, "x", "ndcg@10") == [(3, 0.25)]
