"""`recjax sweep` from the command line: for real, killed, and with mistakes."""

import collections
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from recjax import cli, sweep_command
from recjax.errors import ConfigError
from recjax.sweeps import carry_out
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.results import load_results
from recjax.sweeps.spec import load_sweep
from recjax.sweeps.sweep_report import make_report
from recjax.sweeps.trials import Refused
from tests.sweeps.made_up import finish, trials_of

NUM_TRIALS = 24
SWEEP = """
title = "Regularization of LR"
gin_files = ["runs/lr_frappe.gin", "overlays/tiny_ranking.gin"]
seeds = [0, 1, 2, 3, 4, 5]
metric = "auc"
[[factor]]
name = "l2"
[factor.levels]
"0" = ["TABLE_L2 = 0.0"]
".001" = ["TABLE_L2 = 0.001"]
[[factor]]
name = "init"
[factor.levels]
".0001" = ["TABLE_STDDEV = 1e-4"]
".1" = ["TABLE_STDDEV = 0.1"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  """A sweep file and tiny data in the format of Frappe."""
  made = tmp_path_factory.mktemp("sweep")
  (made / "it.toml").write_text(SWEEP)
  (made / "frappe").mkdir()
  random = np.random.default_rng(0)
  for part, num in (("train", 300), ("validation", 60), ("test", 60)):
    rows = random.integers(0, 9, (num, 10)) + 10 * np.arange(10)
    lines = [
      f"{1 if row[0] % 9 < 3 else -1} {' '.join(f'{i}:1' for i in row)}\n"
      for row in rows
    ]
    (made / "frappe" / f"frappe.{part}.libfm").write_text("".join(lines))
  return made


def arguments(folder, workdir, *more):
  return [
    "sweep",
    str(folder / "it.toml"),
    f"--workdir={folder / workdir}",
    f"--data_dir={folder}",
    f"--cache_dir={folder / 'cache'}",
    *more,
  ]


def start(folder, workdir, *more):
  command = [sys.executable, "-m", "recjax.cli"]
  with open(folder / f"{workdir}.log", "a") as log:
    return subprocess.Popen(
      [*command, *arguments(folder, workdir, *more)], stdout=log, stderr=log
    )


def events(folder, workdir):
  path = folder / workdir / "events.jsonl"
  if not path.exists():
    return []
  lines = path.read_text().splitlines()
  return [(e["event"], e["trial"]) for e in map(json.loads, lines)]


def num_finished(folder, workdir):
  return sum(event == "finished" for event, _ in events(folder, workdir))


def table(folder, workdir):
  """All tables of a report, without what depends on the clock."""
  report = make_report(load_results(folder / workdir))
  timed = ("time a run",)
  return [
    [
      cell.text
      for row in found.rows
      for name, cell in zip(found.header, row)
      if name not in timed
    ]
    for found in report.tables
  ]


def test_a_sweep_that_was_killed_three_times_has_the_table_of_an_unbroken_one(
  folder,
):
  unbroken = start(folder, "unbroken")
  assert unbroken.wait(timeout=600) == 0, (folder / "unbroken.log").read_text()
  random = np.random.default_rng(0)
  for number in range(1, 4):
    process = start(folder, "killed", "--num_workers=2")
    end = time.monotonic() + 600
    while num_finished(folder, "killed") < 6 * number:
      assert process.poll() is None and time.monotonic() < end
      time.sleep(0.05)
    time.sleep(random.uniform(0, 0.5))  # Somewhere in the next trials.
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert num_finished(folder, "killed") < NUM_TRIALS
  process = start(folder, "killed", "--num_workers=2")
  assert process.wait(timeout=600) == 0, (folder / "killed.log").read_text()
  assert table(folder, "killed") == table(folder, "unbroken")
  found = events(folder, "killed")
  ends = collections.Counter(key for event, key in found if event == "finished")
  assert len(ends) == NUM_TRIALS and set(ends.values()) == {1}
  # Nothing starts again once it has finished.
  for key in ends:
    own = [event for event, trial in found if trial == key]
    assert own.index("finished") == len(own) - 1
  again = start(folder, "killed")
  assert again.wait(timeout=600) == 0
  assert events(folder, "killed") == found
  log = (folder / "killed.log").read_text()
  assert "l2 .001, init .1" in log and "reference" in log


def run(capsys, *given):
  status = cli.main([str(each) for each in given])
  captured = capsys.readouterr()
  return status, captured.out, captured.err


def test_a_dry_run_lists_the_trials_and_starts_none(folder, capsys):
  status, out, _ = run(capsys, *arguments(folder, "dry", "--dry_run"))
  assert status == 0 and not (folder / "dry").exists()
  lines = out.splitlines()
  assert lines[0] == "Regularization of LR: 24 trials"
  assert len(lines) == 25 and lines[1].endswith("  l2 0, init .0001, seed 0")


@pytest.fixture
def made(folder, monkeypatch):
  """The trials, whose gin files are not read this time."""
  trials = trials_of(load_sweep(folder / "it.toml"))
  found = carry_out.Made(trials, "auc")
  monkeypatch.setattr(carry_out, "make", lambda *_: found)
  return found


def test_ctrl_c_has_a_status_of_its_own_and_says_what_goes_on(
  folder, capsys, monkeypatch, made
):
  def interrupted(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(carry_out, "carry_out", interrupted)
  status, _, err = run(capsys, *arguments(folder, "ctrl_c"))
  assert status == 130
  assert err == (
    f"recjax: the sweep in {folder / 'ctrl_c'} was stopped; the same command"
    " goes on.\n"
  )
  monkeypatch.setattr(carry_out, "make", interrupted)
  status, _, err = run(capsys, *arguments(folder, "early"))
  assert status == 130 and err == "recjax: interrupted.\n"


def test_failed_trials_are_told_by_the_status(
  folder, capsys, monkeypatch, made
):
  def end(sweep_folder, trial):
    workdir = sweep_folder.workdir(trial.key)
    if not workdir.exists():  # Else the first call has finished it.
      finish(workdir, trial.seed, np.full(3, 0.5), users=False,
        metrics={"auc": 0.5}, intervals={})  # fmt: skip

  def carried_out(sweep, given, sweep_folder, launcher, places):
    del sweep, launcher
    assert os.path.isabs(places.data_dir) and os.path.isabs(places.cache_dir)
    sweep_folder.write_trials(given.trials, given.metric)
    *done, last = given.trials
    for trial in done:
      end(sweep_folder, trial)
    if fails:
      sweep_folder.add_crash(last.key, "no")
      sweep_folder.add_crash(last.key, "OSError: disk full")
    else:
      sweep_folder.forget_crashes(last.key)
      end(sweep_folder, last)
    return given.trials

  monkeypatch.setattr(carry_out, "carry_out", carried_out)
  monkeypatch.chdir(folder)
  monkeypatch.setenv("COLUMNS", "200")
  given = ("sweep", "it.toml", "--workdir=failing", "--cache_dir=cache",
    "--data_dir=.")  # fmt: skip
  fails = True
  status, out, err = run(capsys, *given)
  assert status == 1 and "Regularization of LR" in out
  assert re.search(
    "1 of 24 trials failed, the first is 'l2 .001, init .1', seed 5: OSError:"
    r" disk full; see logs/l2.001init.1-5.log. --retry_failed tries them again",
    err,
  ), err
  fails = False
  status, out, err = run(capsys, *given, "--retry_failed")
  assert status == 0 and err == ""
  assert out.startswith("1 failed trials are tried again.\n")


def test_a_refused_call_changes_nothing(folder, tmp_path, capsys, made):
  there = SweepFolder(tmp_path / "w")
  there.take_up(load_sweep(folder / "it.toml"))
  first, *rest = made.trials
  there.write_trials([dataclasses.replace(first, key="b" * 12), *rest], "auc")
  before = {p.name: p.read_text() for p in there.path.glob("*.json")}
  more = SWEEP.replace("[0, 1, 2, 3, 4, 5]", "[0, 1, 2, 3, 4, 5, 6]")
  (tmp_path / "it.toml").write_text(more)
  given = arguments(tmp_path, "w")
  status, _, err = run(capsys, *given)
  assert status == 1 and "was planned as config bbbbbbbbbbbb" in err
  there.write_trials(made.trials, "auc")
  before["trials.json"] = (there.path / "trials.json").read_text()
  status, _, err = run(capsys, *given, "--num_workers=100000")
  assert status == 1 and "the number of trials at once" in err
  after = {p.name: p.read_text() for p in there.path.glob("*.json")}
  assert after == before


def test_options_of_launchers_are_numbers_where_they_look_like_it(
  folder, tmp_path, capsys, monkeypatch, made
):
  given = {}

  def launcher(num_slots, **options):
    given.update(options)
    raise ConfigError("enough")

  monkeypatch.setattr(sweep_command, "RayLauncher", launcher)
  status, _, err = run(
    capsys, *arguments(folder, tmp_path / "w", "--launcher=ray",
    "--launcher_option=address=1.2.3.4:6379",
    "--launcher_option=cores_per_trial=2",
    "--launcher_option=gpus_per_trial=.5")
  )  # fmt: skip
  assert status == 1 and "enough" in err
  assert given == {
    "address": "1.2.3.4:6379", "cores_per_trial": 2, "gpus_per_trial": 0.5
  }  # fmt: skip


def test_a_dry_run_tells_what_a_random_search_drew_again(
  folder, tmp_path, capsys, made, monkeypatch
):
  text = SWEEP.replace("[0, 1, 2, 3, 4, 5]", "[0]")
  (tmp_path / "it.toml").write_text('shape = "random"\nnum_trials = 9\n' + text)
  drawn = carry_out.Made(
    [t for t in made.trials if t.seed == 0], "auc",
    [Refused("l2 7", {"l2": "7"}, "no")],
  )  # fmt: skip
  monkeypatch.setattr(carry_out, "make", lambda *_: drawn)
  status, out, _ = run(capsys, *arguments(tmp_path, "dry", "--dry_run"))
  assert status == 0
  assert "NOTE 1 combinations are refused" in out and "'l2 7': no" in out
  assert "NOTE 9 draws came to 4 configs that run" in out


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("TABLE_L2 = 0.001", "TABEL_L2 = 0.001",
     "factor 'l2', level '.001'.*'TABEL_L2'.*'TABLE_L2'"),
    ('["TABLE_STDDEV = 0.1"]', "[]", "level '.1' is empty"),
    ("TABLE_STDDEV = 0.1", "TABLE_L2 = 0.1", "both set TABLE_L2"),
    ("TABLE_L2 = 0.001", "TABLE_L2 = -1.0", "trial 'l2 .001, init .0001'"),
    ("lr_frappe.gin", "lr_frape.gin", "no gin file 'runs/lr_frape.gin'"),
  ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_starts(
  folder, tmp_path, capsys, old, new, message
):
  text = SWEEP.replace(old, new)
  assert text != SWEEP
  (tmp_path / "it.toml").write_text(text)
  status, _, err = run(
    capsys, "sweep", tmp_path / "it.toml", f"--workdir={tmp_path / 'w'}",
    f"--data_dir={folder}",
  )  # fmt: skip
  assert status == 1
  assert re.search(message, err.replace("\n", " ")), err
  assert not (tmp_path / "w" / "trials").exists()


@pytest.mark.parametrize(
  ("more", "message"),
  [
    (["another.toml"], "needs one sweep file; got 2"),
    (["--gin.SEED=1"], "put SEED=1 into the bindings"),
    (["--launcher_option=a=1"], "the launcher 'local' has no options"),
    (["--launcher=ray", "--launcher_option=adress=1"],
     "'adress'. Did you mean 'address'"),
    (["--launcher=ray", "--launcher_option=gpus_per_trial=half"],
     "--launcher_option=gpus_per_trial must be a number; got 'half'"),
    (["--launcher=ray", "--launcher_option=cores_per_trial=-1"],
     "--launcher_option=cores_per_trial must be a number; got '-1'"),
    (["--launcher_option=a"], "must be NAME=VALUE"),
  ],
)  # fmt: skip
def test_wrong_flags_are_told(folder, capsys, more, message):
  status, _, err = run(capsys, *arguments(folder, "flags", *more))
  assert status == 1 and message in err


def test_a_workdir_of_another_sweep_is_refused(folder, tmp_path, capsys):
  (tmp_path / "w").mkdir()
  (tmp_path / "w" / "sweep.json").write_text(json.dumps({"seeds": [7]}))
  status, _, err = run(
    capsys, "sweep", folder / "it.toml", f"--workdir={tmp_path / 'w'}",
    f"--data_dir={folder}",
  )  # fmt: skip
  assert status == 1 and "holds another sweep" in err


def test_the_report_of_a_sweep_stands_alone(tmp_path, capsys):
  (tmp_path / "w").mkdir()
  (tmp_path / "w" / "sweep.json").write_text("{}")
  status, _, err = run(capsys, "report", tmp_path / "w", os.devnull)
  assert status == 1 and "is a sweep, which has a report of its own" in err
