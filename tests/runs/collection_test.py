"""Runs read from workdirs, and their seeds put together."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from recjax.runs import collection


def seeds_of(make_workdir, values):
  for seed, value in enumerate(values):
    make_workdir(
      f"seed{seed}", seed=seed, config_hash=f"c{seed}", metrics={"mrr": value}
    )


def test_seeds_are_put_together(make_workdir, tmp_path):
  values = [0.30, 0.34, 0.31, 0.29]
  seeds_of(make_workdir, values)
  runs, failures = collection.load_runs([tmp_path])
  (group,), left_out = collection.group_runs(runs)
  assert not failures and not left_out
  assert group.seeds == (0, 1, 2, 3)
  estimate = group.estimate("mrr")
  assert estimate.mean == pytest.approx(0.31)
  assert estimate.std == pytest.approx(np.std(values, ddof=1))
  interval = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
  assert (estimate.low, estimate.high) == pytest.approx(tuple(interval))
  assert estimate.num_seeds == 4
  assert group.estimate("ndcg@10") is None
  assert group.mean("floor", "ndcg@10") == pytest.approx(0.012)
  assert group.mean("bayes_optimal", "ndcg@10") is None
  assert group.wall_secs == 725.0


def test_one_seed_has_the_interval_of_its_users(make_workdir, tmp_path):
  make_workdir("one")
  runs, _ = collection.load_runs([tmp_path / "one"])
  (group,), _ = collection.group_runs(runs)
  assert group.estimate("ndcg@10") == collection.Estimate(
    0.134, None, 0.13, 0.138, 1
  )


@pytest.mark.parametrize(
  "changes",
  [
    {"protocol_hash": "b"},
    {"data_fingerprint": "b"},
    {"config_hash_without_seed": "b"},
  ],
)
def test_other_runs_stay_apart(make_workdir, tmp_path, changes):
  make_workdir("one", seed=1)
  make_workdir("two", seed=2, **changes)
  runs, _ = collection.load_runs([tmp_path])
  groups, left_out = collection.group_runs(runs)
  assert len(groups) == 2 and not left_out


def test_the_same_seed_twice_counts_once(make_workdir, tmp_path):
  late = "2025-02-02T00:00:00+00:00"
  make_workdir("a_late", metrics={"mrr": 0.5}, finished_at=late)
  make_workdir("b_early", metrics={"mrr": 0.4})
  runs, _ = collection.load_runs([tmp_path])
  (group,), (left_out,) = collection.group_runs(runs)
  assert group.estimate("mrr").mean == 0.5
  assert left_out.workdir.name == "b_early" and "left out" in left_out.reason


def test_workdirs_are_found(make_workdir, tmp_path):
  one = make_workdir("one")
  two = make_workdir("sweep/two")
  assert collection.find_workdirs([tmp_path]) == (one, two)
  assert collection.find_workdirs([two, one, two]) == (two, one)


def test_failures_say_why(make_workdir, tmp_path):
  make_workdir("stopped", finished=False)
  corrupt = make_workdir("corrupt")
  (corrupt / "result.json").write_text("{")
  lacking = make_workdir("lacking")
  (lacking / "result.json").write_text("{}")
  torn = make_workdir("torn")
  (torn / "metrics.jsonl").write_text("{\n{}\n")
  (tmp_path / "empty").mkdir()
  folders = [tmp_path, tmp_path / "empty", tmp_path / "nowhere"]
  runs, failures = collection.load_runs(folders)
  assert runs == []
  reasons = {failure.workdir.name: failure.reason for failure in failures}
  assert "the last logged step is 40" in reasons["stopped"]
  assert "result.json is corrupt" in reasons["corrupt"]
  assert "result.json lacks name" in reasons["lacking"]
  assert "metrics.jsonl:1 is corrupt" in reasons["torn"]
  assert "no run was started" in reasons["empty"]
  assert "there is no folder" in reasons["nowhere"]


def test_a_run_without_a_group_hash_has_its_own(make_workdir, tmp_path):
  make_workdir("one")
  (run,), _ = collection.load_runs([tmp_path])
  bare = {
    k: v for k, v in run.result.items() if k != "config_hash_without_seed"
  }
  bare_run = dataclasses.replace(run, result=bare)
  assert bare_run.group_key[2] == run.result["config_hash"]
