"""Trials are started, watched, stopped and tried again; nothing is trained."""

import json
import pathlib

import numpy as np
import pytest

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
  assert (
    first["error"] == "its job ended without a result and without an error."
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
  assert Watch("rmse/watch").less_is_better
  assert not Watch("auc/watch").less_is_better

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


def test_a_curve_leaves_out_what_is_not_finite(folder):
  record = folder.record("x")
  record.log(1, **{"validation/ndcg@10": float("nan")})
  record.log(2, loss=1.0)
  record.log(3, **{"validation/ndcg@10": 0.25})
  record.close()
  assert curve_of(folder, "x", "ndcg@10") == [(3, 0.25)]
