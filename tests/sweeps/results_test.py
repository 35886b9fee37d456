"""Finished trials are put together; what is missing is told."""

import numpy as np
import pytest

from recjax.errors import ConfigError, RunError
from recjax.runs.record import RunRecord
from recjax.sweeps.results import load_results
from tests.sweeps.made_up import sweep_of, value_of


def test_rows_are_combinations_in_the_order_of_the_sweep(make_folder):
  results = load_results(make_folder(sweep_of(), value_of).path)
  assert [row.name for row in results.rows] == [
    "depth 1, size s",
    "depth 1, size l",
    "depth 2, size s",
    "depth 2, size l",
  ]
  assert results.common_seeds == (0, 1, 2) and results.missing == ()
  # What selects weights is reported where the file names nothing.
  assert results.metric == "ndcg@10"
  assert results.metrics == ["ndcg@10", "hit_rate@10"]
  row = results.rows[3]
  values = results.values(row, (0, 2))
  assert values.shape == (2, 40)
  np.testing.assert_allclose(
    values.mean(axis=1), row.numbers("ndcg@10")[[0, 2]]
  )
  assert row.wall_secs() == 120.0


def test_without_users_there_is_one_number_a_seed(make_folder):
  folder = make_folder(sweep_of(), value_of, users=False)
  results = load_results(folder.path, "hit_rate@10")
  row = results.rows[1]
  values = results.values(row, (1, 2))
  np.testing.assert_allclose(values, row.numbers("hit_rate@10")[1:, None])


def test_what_is_missing_is_told_with_its_reason(make_folder):
  keep = ("depth1sizes-0", "depth1sizes-1", "depth1sizel-0")
  folder = make_folder(
    sweep_of(), value_of, skip=lambda trial: trial.key not in keep
  )
  folder.stop("depth1sizel-1", "median rule at step 20")
  for _ in range(2):
    folder.add_crash("depth2sizel-0", "out of memory")
  results = load_results(folder.path)
  # One seed of size l was stopped, so the other tells too much of it.
  assert [row.seeds for row in results.rows] == [(0, 1)]
  found = {x.key: (x.state, x.reason) for x in results.missing}
  assert len(found) == 10
  state, reason = found["depth1sizel-0"]
  assert state == "finished" and "was stopped early" in reason
  assert found["depth1sizel-1"] == ("stopped", "median rule at step 20")
  failure = "out of memory; see logs/depth2sizel-0.log"
  assert found["depth2sizel-0"] == ("failed", failure)
  assert found["depth2sizes-0"][0] == "open"


def test_nothing_finished_is_an_error_with_the_reasons(make_folder):
  folder = make_folder(sweep_of(), value_of, skip=lambda trial: True)
  with pytest.raises(RunError, match="(?s)no trial of.*size s, seed 0: open"):
    load_results(folder.path)


def test_an_unknown_metric_is_told(make_folder):
  folder = make_folder(sweep_of(), value_of)
  with pytest.raises(ConfigError, match="'ndgc@10'.*Did you mean 'ndcg@10'"):
    load_results(folder.path, "ndgc@10")


@pytest.mark.parametrize("key", ["data_fingerprint", "protocol_hash"])
def test_other_data_or_protocols_are_never_in_one_table(make_folder, key):
  folder = make_folder(
    sweep_of(), value_of, skip=lambda trial: trial.combination[-1] == "l"
  )
  other = make_folder(
    sweep_of(),
    value_of,
    skip=lambda trial: trial.combination[-1] == "s",
    **{key: "b" * 12},
  )
  assert other.path == folder.path
  with pytest.raises(RunError, match="Such numbers are not compared"):
    load_results(folder.path)


def test_a_seed_may_draw_data_of_its_own(make_folder):
  for seed in range(3):
    folder = make_folder(
      sweep_of(),
      value_of,
      skip=lambda trial, seed=seed: trial.seed != seed,
      data_fingerprint=f"{seed}" * 12,
    )
  assert load_results(folder.path).common_seeds == (0, 1, 2)


def test_a_run_of_another_config_is_in_no_table(make_folder):
  folder = make_folder(sweep_of(), value_of, skip=lambda t: t.seed == 1)
  make_folder(
    sweep_of(), value_of, skip=lambda t: t.seed != 1, config_hash="b" * 12
  )
  results = load_results(folder.path)
  assert [row.seeds for row in results.rows] == [(0, 2)] * 4
  assert {each.state for each in results.missing} == {"failed"}
  assert all("is of the config bbbb" in x.reason for x in results.missing)


def test_a_corrupt_result_is_listed(make_folder):
  folder = make_folder(sweep_of(), value_of)
  path = folder.workdir("depth1sizes-1") / "result.json"
  path.write_text(path.read_text()[:40])
  results = load_results(folder.path)
  assert results.rows[0].seeds == (0, 2)
  (lost,) = results.missing
  assert lost.state == "failed" and str(path) in lost.reason


def test_corrupt_values_of_users_are_a_failed_trial(make_folder):
  folder = make_folder(sweep_of(), value_of)
  path = RunRecord(folder.workdir("depth1sizes-1")).per_user_path("test")
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  results = load_results(folder.path)
  assert results.rows[0].seeds == (0, 2)
  assert results.values(results.rows[0], (0, 2)).shape[1] > 1
  (lost,) = results.missing
  assert lost.state == "failed" and f"{path} is corrupt" in lost.reason


def test_values_of_a_user_are_one_sample(make_folder):
  """Queries of one user hang together; their mean stays that of all."""
  folder = make_folder(sweep_of(), value_of)
  ids = np.array([7, 7, 3, 9, 9, 9])
  values = np.array([0.1, 0.3, 0.8, 0.0, 0.5, 0.7])
  for trial in folder.read_trials():
    RunRecord(folder.workdir(trial.key)).save_per_user(
      "test", user_id=ids, **{"ndcg@10": values}
    )
  results = load_results(folder.path)
  found = results.values(results.rows[0], (0,))
  # Users 3, 7 and 9, each by its sum over the two queries a user has.
  np.testing.assert_allclose(found, [[0.8 / 2, 0.4 / 2, 1.2 / 2]])
  np.testing.assert_allclose(found.mean(), values.mean())


def test_other_users_under_one_seed_are_refused(make_folder):
  folder = make_folder(sweep_of(), value_of)
  record = RunRecord(folder.workdir("depth2sizel-1"))
  table = record.load_per_user("test")
  table["user_id"] = table["user_id"] + 1
  record.save_per_user("test", **table)
  results = load_results(folder.path)
  with pytest.raises(RunError, match="were judged on other users"):
    results.values(results.rows[0], (0, 1))


def test_a_stranger_to_all_seeds_of_the_first_row_is_of_the_same_data(
  make_folder,
):
  """Seed 0 drew one data set; a row that has seed 1 alone, another."""
  of_first = lambda trial: trial.combination == "depth 1, size s"
  folder = make_folder(
    sweep_of(num_seeds=2),
    value_of,
    skip=lambda t: not of_first(t) or t.seed == 1,
  )
  make_folder(
    sweep_of(num_seeds=2),
    value_of,
    skip=lambda t: of_first(t) or t.seed == 0,
    data_fingerprint="b" * 64,
  )
  with pytest.raises(RunError, match="Such numbers are not compared"):
    load_results(folder.path)


def test_a_row_without_the_metric_is_left_out(make_folder):
  of_last = lambda trial: trial.combination == "depth 2, size l"
  folder = make_folder(sweep_of(), value_of, skip=of_last)
  make_folder(
    sweep_of(),
    value_of,
    skip=lambda trial: not of_last(trial),
    metrics={"ndcg@10": 0.5},
  )
  results = load_results(folder.path, "hit_rate@10")
  assert [row.name for row in results.rows][-1] == "depth 2, size s"
  assert [each.reason for each in results.missing] == [
    "left out: its runs have no 'hit_rate@10'"
  ] * 3
  assert len(load_results(folder.path).rows) == 4


def test_where_all_were_stopped_it_is_said(make_folder):
  folder = make_folder(sweep_of(), value_of, skip=lambda t: t.seed == 2)
  for trial in folder.read_trials():
    if trial.seed == 2:
      folder.stop(trial.key, "median rule at step 20")
  with pytest.raises(RunError, match="(?s)no trial of .* is in a table.*left"):
    load_results(folder.path)
