"""Groups of runs compared over seeds, rows and users; by SciPy and by hand."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from recjax.errors import ConfigError, DataError, RunError
from recjax.evaluation.delong import delong_test
from recjax.run_comparison import OVERS, RunComparison
from recjax.runs.collection import group_runs, load_runs
from recjax.runs.predictions import (
  Groups,
  Predictions,
  TaskScores,
  save_predictions,
)
from recjax.runs.record import RunRecord

NUM = 400
RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=NUM)
LABEL = (RNG.random(NUM) < 1 / (1 + np.exp(-TRUTH))).astype(np.float32)
SECONDS = np.exp(TRUTH).astype(np.float32)
USER = RNG.integers(0, 30, NUM).astype(np.int32)
NOISE = {"good": 0.7, "fair": 1.5, "poor": 4.0}


def scores_of(name: str, seed: int) -> np.ndarray:
  rng = np.random.default_rng([seed, len(name), int(10 * NOISE[name])])
  return (TRUTH + NOISE[name] * rng.normal(size=NUM)).astype(np.float32)


def write(workdir, name: str, seed: int, *, rows=True, label=LABEL, **changes):
  """A finished run with predictions, or with values of users."""
  score = scores_of(name, seed)
  record = RunRecord(workdir)
  record.create_or_resume("", "", "0" * 12)
  record.write_result(
    {
      "name": name,
      "dataset": "rows",
      "model": "M",
      "seed": seed,
      "metrics": {
        "auc/click": roc_auc_score(LABEL, score),
        "rmse/watch": float(np.std(score)),
      },
      "intervals": {},
      "protocol": {"weights": "none", "split": "rows"},
      "protocol_hash": "a" * 12,
      "config_hash": f"{name}{seed}",
      "config_hash_without_seed": name,
      "data_fingerprint": "f" * 64,
      "wall_secs": 1.0,
      "device": "CPU",
      "versions": {},
    }
    | changes
  )
  if rows:
    tasks = {
      "click": TaskScores("binary", score, label),
      "watch": TaskScores("real", score, SECONDS),
    }
    names = tuple(f"u{number}" for number in range(30))
    groups = {"user": Groups(USER, names)}
    # The weights are of no account: the protocol leaves them away.
    weight = np.arange(NUM, dtype=np.float32)
    made = Predictions(tasks, weight, groups, "f" * 64)
    save_predictions(workdir, "test", made)
  return workdir


def groups_of(folder):
  return group_runs(load_runs([folder])[0])[0]


def by_over(findings, metric="auc/click"):
  return {(f.a, f.b, f.over): f for f in findings if f.metric == metric}


@pytest.fixture
def runs(tmp_path):
  for name in NOISE:
    for seed in range(3):
      write(tmp_path / "runs" / f"{name}_{seed}", name, seed)
  return tmp_path / "runs"


def test_seeds_are_in_the_order_of_numbers(tmp_path):
  for seed in (10, 2, 1):
    write(tmp_path / str(seed), "good", seed)
  assert groups_of(tmp_path)[0].seeds == (1, 2, 10)


def test_seeds_are_paired(runs):
  comparison = RunComparison(groups_of(runs))
  found = by_over(comparison.find(["auc/click"]))
  assert comparison.notes == []
  assert {key[:2] for key in found} == {
    ("fair", "good"),
    ("fair", "poor"),
    ("good", "poor"),
  }
  assert {key[2] for key in found} == set(OVERS)
  aucs = {
    name: [roc_auc_score(LABEL, scores_of(name, s)) for s in range(3)]
    for name in NOISE
  }
  p_values = {}
  for (a, b, over), finding in found.items():
    if over != "seeds":
      continue
    test = scipy.stats.ttest_rel(aucs[a], aucs[b])
    p_values[a, b] = test.pvalue
    assert finding.p_value == pytest.approx(test.pvalue)
    assert finding.interval == pytest.approx(tuple(test.confidence_interval()))
    assert finding.mean_a == pytest.approx(np.mean(aucs[a]))
    assert finding.num == 3 and finding.note == ""
  # Of three pairs the smallest counts three times.
  pair = min(p_values, key=p_values.get)
  assert found[*pair, "seeds"].p_holm == pytest.approx(
    min(1.0, 3 * p_values[pair])
  )


def test_rows_and_users_see_the_mean_of_the_seeds(runs):
  found = by_over(RunComparison(groups_of(runs)).find(["auc/click"]))
  good, poor = (
    np.stack([scores_of(name, seed) for seed in range(3)])
    for name in ("good", "poor")
  )
  rows = found["good", "poor", "rows"]
  expected = delong_test(good, poor, LABEL)
  assert rows.p_value == pytest.approx(expected.p_value)
  assert rows.interval == pytest.approx(expected.interval)
  assert rows.num == NUM and rows.note == "mean of 3 seeds"
  seeds = found["good", "poor", "seeds"]
  assert rows.difference == pytest.approx(seeds.difference)
  users = [u for u in range(30) if 0 < LABEL[USER == u].mean() < 1]
  gains = [
    np.mean(
      [
        roc_auc_score(LABEL[USER == u], a[USER == u])
        - roc_auc_score(LABEL[USER == u], b[USER == u])
        for a, b in zip(good, poor)
      ]
    )
    for u in users
  ]
  t = found["good", "poor", "users (t)"]
  assert t.difference == pytest.approx(np.mean(gains))
  assert t.p_value == pytest.approx(scipy.stats.ttest_1samp(gains, 0).pvalue)
  assert t.num == len(users)
  wilcoxon = found["good", "poor", "users (Wilcoxon)"]
  expected = scipy.stats.wilcoxon(np.round(gains, 9)).pvalue
  assert wilcoxon.p_value == pytest.approx(expected)


def test_three_seeds_say_what_the_design_can_see(runs):
  found = by_over(RunComparison(groups_of(runs)).find(["auc/click"]))
  both = found["good", "poor", "seeds and users"]
  assert both.note.startswith("3 seeds; sees 0.")
  users = found["good", "poor", "users (t)"]
  assert both.difference == pytest.approx(users.difference)
  assert both.num == users.num and both.interval[0] < both.difference


def test_one_seed_has_no_test_over_seeds(tmp_path):
  for name in ("good", "poor"):
    write(tmp_path / name, name, 4)
  write(tmp_path / "other", "poor", 5)
  found = by_over(RunComparison(groups_of(tmp_path)).find(["auc/click"]))
  seeds = found["good", "poor", "seeds"]
  assert seeds.p_value is None and seeds.interval is None
  assert seeds.note == "one seed; 1 runs of other seeds left out"
  assert seeds.difference == pytest.approx(
    found["good", "poor", "rows"].difference
  )
  assert found["good", "poor", "rows"].note == "one seed"


def test_no_seed_in_common(tmp_path):
  write(tmp_path / "a", "good", 0)
  write(tmp_path / "b", "poor", 1)
  findings = RunComparison(groups_of(tmp_path)).find(["auc/click"])
  assert len(findings) == 3
  assert all("no seed in common: (0,) and (1,)" in f.note for f in findings)


def test_real_labels_are_compared_over_seeds(runs):
  findings = RunComparison(groups_of(runs)).find(["auc/click", "rmse/watch"])
  found = by_over(findings, "rmse/watch")
  assert found["good", "poor", "seeds"].p_value is not None
  assert found["good", "poor", "rows"].note == "DeLong's test is for the AUC"
  assert found["good", "poor", "users"].note == "users are compared by AUC"
  with pytest.raises(ConfigError, match="Did you mean 'auc/click'"):
    RunComparison(groups_of(runs)).find(["auc/clack"])
  with pytest.raises(ConfigError, match="--user, a column of groups"):
    RunComparison(groups_of(runs), user="city").find(["auc/click"])


def test_a_run_without_predictions_is_told(tmp_path):
  for seed in range(2):
    write(tmp_path / f"good{seed}", "good", seed)
    write(tmp_path / f"poor{seed}", "poor", seed, rows=False)
  comparison = RunComparison(groups_of(tmp_path))
  found = by_over(comparison.find(["auc/click"]))
  assert found["good", "poor", "seeds"].p_value is not None
  assert found["good", "poor", "rows"].note == "see the notes"
  (note,) = comparison.notes
  assert f"recjax evaluate --workdir={tmp_path / 'poor0'}" in note


def test_other_rows_are_refused(tmp_path):
  write(tmp_path / "a", "good", 0)
  write(tmp_path / "b", "poor", 0, label=1 - LABEL)
  with pytest.raises(DataError, match="hold other test rows"):
    RunComparison(groups_of(tmp_path)).find(["auc/click"])


def test_predictions_of_other_data_are_told(tmp_path):
  for name in ("good", "poor"):
    write(tmp_path / name, name, 0, data_fingerprint="e" * 64)
  comparison = RunComparison(groups_of(tmp_path))
  comparison.find(["auc/click"])
  assert "predictions are of other data" in comparison.notes[0]


def test_runs_that_may_not_be_compared(tmp_path):
  write(tmp_path / "a", "good", 0)
  with pytest.raises(RunError, match="runs of two configs .* got good"):
    RunComparison(groups_of(tmp_path))
  with pytest.raises(RunError, match="no finished run"):
    RunComparison([])
  write(tmp_path / "b", "poor", 0, protocol_hash="b" * 12)
  with pytest.raises(RunError, match="differ in the protocol"):
    RunComparison(groups_of(tmp_path))


def test_ranked_lists_are_compared_by_their_users(tmp_path):
  values = {}
  for name, shift in (("good", 0.1), ("poor", 0.0)):
    for seed in range(2):
      workdir = tmp_path / f"{name}{seed}"
      found = np.random.default_rng([seed, int(10 * shift)]).random(50) + shift
      values[name, seed] = found.astype(np.float32)
      mean = float(found.mean())
      write(
        workdir, name, seed, rows=False, metrics={"ndcg@10": mean, "mrr": 0.1}
      )
      RunRecord(workdir).save_per_user(
        "test", user_id=np.arange(50), **{"ndcg@10": values[name, seed]}
      )
  findings = RunComparison(groups_of(tmp_path)).find(["ndcg@10", "mrr"])
  found = by_over(findings, "ndcg@10")
  a, b = (
    np.mean([values[name, s].astype(float) for s in range(2)], axis=0)
    for name in ("good", "poor")
  )
  t = found["good", "poor", "users (t)"]
  assert t.p_value == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue)
  assert t.num == 50
  assert by_over(findings, "mrr")["good", "poor", "users"].note == (
    "no values of users"
  )
  # Metrics of lists may be undefined for some users, or for all.
  for missing, rows in (("users", [3, 7]), ("all", range(50))):
    for (name, seed), kept in values.items():
      kept = kept.copy()
      if name == "poor":
        kept[rows] = np.nan
      RunRecord(tmp_path / f"{name}{seed}").save_per_user(
        "test", user_id=np.arange(50), **{"ndcg@10": kept}
      )
    found = by_over(
      RunComparison(groups_of(tmp_path)).find(["ndcg@10"]), "ndcg@10"
    )
    if missing == "all":
      assert found["good", "poor", "users"].note == "no user has a value"
      continue
    known = np.delete(np.arange(50), rows)
    t = found["good", "poor", "users (t)"]
    expected = scipy.stats.ttest_rel(a[known], b[known]).pvalue
    assert t.p_value == pytest.approx(expected) and t.num == 48
    assert "2 users without a value left out" in t.note
  for (name, seed), kept in values.items():
    RunRecord(tmp_path / f"{name}{seed}").save_per_user(
      "test", user_id=np.arange(50), **{"ndcg@10": kept}
    )
  RunRecord(tmp_path / "poor1").save_per_user(
    "test", user_id=np.arange(50) + 1, **{"ndcg@10": values["poor", 1]}
  )
  with pytest.raises(DataError, match="hold other users"):
    RunComparison(groups_of(tmp_path)).find(["ndcg@10"])
