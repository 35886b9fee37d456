"""Tables of sweeps say what SciPy and NumPy say."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from recjax.runs.record import RunRecord
from recjax.sweeps import sweep_tables
from recjax.sweeps.effects import effect, effects_of, sees
from recjax.sweeps.marginals import interactions, marginals
from recjax.sweeps.results import load_results
from recjax.sweeps.sweep_tables import (
  factor_table,
  interval_of_seeds,
  marginal_table,
  metrics_table,
  missing_table,
  search_table,
)
from recjax.sweeps.trials import Refused
from tests.sweeps.made_up import sweep_of, value_of


@pytest.fixture
def results(make_folder):
  return load_results(make_folder(sweep_of(), value_of).path)


def texts(table, name):
  place = table.header.index(name)
  return [row[place].text for row in table.rows]


def test_the_table_of_factors(results):
  table = factor_table(results)
  assert table.header[:3] == ("settings", "NDCG@10", "difference")
  assert texts(table, "settings")[0] == "depth 1, size s"
  means = [row.numbers("ndcg@10").mean() for row in results.rows]
  assert texts(table, "NDCG@10") == [f"{mean:.4f}" for mean in means]
  bold = [row[1].is_best for row in table.rows]
  assert bold == [False, False, False, True]
  effects = effects_of([results.values(row, (0, 1, 2)) for row in results.rows])
  assert texts(table, "difference") == ["reference"] + [
    f"{each.difference:+.4f}" for each in effects[1:]
  ]
  assert texts(table, "tested over")[1:] == ["seeds and users"] * 3
  assert f"a difference of {sees(effects):.4f} is found" in table.note
  assert texts(table, "seeds") == ["3"] * 4
  assert "3 seeds and 40 users" in table.note
  assert "new trainings would differ for new users" in table.note


def test_the_interval_of_a_mean_is_student_s():
  values = np.array([0.2, 0.25, 0.32])
  known = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
  np.testing.assert_allclose(interval_of_seeds(values), (known.low, known.high))
  assert interval_of_seeds(values[:1]) is None


def test_one_seed_has_the_interval_over_users(make_folder):
  folder = make_folder(sweep_of(num_seeds=1), value_of)
  table = factor_table(load_results(folder.path))
  mean = float(table.rows[0][1].text)
  assert table.rows[0][1].note == f"[{mean - 0.01:.4f}, {mean + 0.01:.4f}]"
  assert texts(table, "tested over")[1:] == ["users"] * 3
  assert texts(table, "p (Holm)")[1:] == ["–"] * 3
  assert not any(cell.is_best for row in table.rows for cell in row[2:])
  assert "Such p-values are not corrected, and no finding." in table.note
  assert "p-values are, over the rows" not in table.note
  assert "There are 1 seed and 40 users." in table.note


def test_without_a_seed_in_common_nothing_is_tested(make_folder):
  folder = make_folder(
    sweep_of(num_seeds=4),
    value_of,
    skip=lambda t: t.seed != (t.combination != "depth 1, size s"),
  )
  results = load_results(folder.path)
  assert results.common_seeds == ()
  table = factor_table(results)
  assert texts(table, "difference") == ["reference", *["not tested"] * 3]
  assert "Nothing was tested" in table.note


def test_a_row_is_tested_by_the_seeds_that_it_has(make_folder):
  folder = make_folder(
    sweep_of(num_seeds=4),
    value_of,
    skip=lambda t: t.combination == "depth 2, size s" and t.seed == 1,
  )
  results = load_results(folder.path)
  first, _, third, _ = results.rows
  seeds = (0, 2, 3)
  expected = effect(results.values(third, seeds), results.values(first, seeds))
  table = factor_table(results)
  assert expected is not None
  assert texts(table, "difference")[2] == f"{expected.difference:+.4f}"
  assert texts(table, "seeds") == ["4", "4", "3", "4"]


def test_seeds_alone_are_said_to_be_seeds(make_folder):
  folder = make_folder(sweep_of(), value_of, users=False)
  table = factor_table(load_results(folder.path))
  assert "whether new trainings would differ on these rows" in table.note
  assert "There are 3 seeds." in table.note


def test_a_search_is_ordered_by_validation_alone(make_folder):
  sweep = sweep_of("random", num_trials=4)
  # The made-up trials are those of a grid.
  folder = make_folder(sweep_of(), value_of, curve=None)
  folder.take_up(sweep_of())
  results = load_results(folder.path)
  results.sweep["shape"] = sweep.shape
  assert sweep_tables.is_search(results)
  table = search_table(results)
  assert table.header[:3] == ("depth", "size", "validation NDCG@10")
  found = [float(text) for text in texts(table, "validation NDCG@10")]
  assert found == sorted(found, reverse=True)
  assert [row[2].is_best for row in table.rows] == [True, False, False, False]
  assert texts(table, "depth")[0] == "2" and texts(table, "size")[0] == "l"
  assert "must choose nothing" in table.note


def test_an_undefined_validation_stands_last(make_folder):
  folder = make_folder(sweep_of(num_seeds=1), value_of)
  for trial, value in zip(folder.read_trials(), (0.2, None, 0.4, 0.3)):
    path = folder.workdir(trial.key) / "result.json"
    result = json.loads(path.read_text())
    result["validation"]["ndcg@10"] = value
    path.write_text(json.dumps(result))
  table = search_table(load_results(folder.path))
  shown = texts(table, "validation NDCG@10")
  assert shown == ["0.4000", "0.3000", "0.2000", "undefined"]
  assert [row[2].is_best for row in table.rows] == [True, False, False, False]


def test_what_is_undefined_is_said_and_not_the_best(make_folder):
  nan = lambda trial: (
    value_of(trial) * (np.nan if trial.combination == "depth 2, size l" else 1)
  )
  table = factor_table(load_results(make_folder(sweep_of(), nan).path))
  assert texts(table, "NDCG@10")[3] == "undefined"
  assert texts(table, "difference")[3] == "not tested"
  assert [row[1].is_best for row in table.rows] == [False, False, True, False]


def test_without_the_baseline_nothing_is_tested(make_folder):
  folder = make_folder(
    sweep_of(), value_of, skip=lambda t: t.combination == "depth 1, size s"
  )
  table = factor_table(load_results(folder.path))
  assert texts(table, "difference") == ["not tested"] * 3
  assert "'depth 1, size s' has no run in the table" in table.note


def test_a_name_of_a_known_config_is_no_comparison_of_its_own(make_folder):
  """Two names, one run: it is told once, and not tested twice."""
  folder = make_folder(sweep_of(), value_of)
  trials = folder.read_trials()
  second = trials[1]
  again = dataclasses.replace(second, combination="again")
  others = [
    dataclasses.replace(trials[place], combination="again") for place in (5, 9)
  ]
  folder.write_trials([*trials, again, *others], "ndcg@10")
  table = factor_table(load_results(folder.path))
  assert texts(table, "difference")[4] == f"= {second.combination}"
  assert texts(table, "NDCG@10")[4] == texts(table, "NDCG@10")[1]
  # Three comparisons, as without the second name.
  plain = factor_table(load_results(make_folder(sweep_of(), value_of).path))
  assert texts(table, "p (Holm)")[:4] == texts(plain, "p (Holm)")


def test_users_without_a_value_are_counted(make_folder):
  folder = make_folder(sweep_of(), value_of)
  for trial in folder.read_trials():
    record = RunRecord(folder.workdir(trial.key))
    users = record.load_per_user("test")
    users["ndcg@10"][3:5] = np.nan
    record.save_per_user("test", **users)
  table = factor_table(load_results(folder.path))
  assert "Up to 2 users without a value are left out" in table.note
  assert "3 seeds and 38 users" in table.note


def test_marginals_and_all_metrics(results):
  table = marginal_table(results, marginals(results))
  assert texts(table, "factor") == ["depth", "depth", "size", "size"]
  assert texts(table, "difference")[0] == "reference"
  table = metrics_table(results)
  assert table.header == ("settings", "NDCG@10", "HR@10")
  means = [row.numbers("hit_rate@10").mean() for row in results.rows]
  assert texts(table, "HR@10") == [f"{mean:.4f}" for mean in means]
  table = sweep_tables.interaction_table(results, interactions(results))
  assert texts(table, "factors") == ["depth x size"]
  assert texts(table, "levels") == ["2, l"]


def test_missing_trials(make_folder, results):
  assert missing_table(results) is None
  folder = make_folder(
    sweep_of(num_seeds=4), value_of, skip=lambda trial: trial.seed > 2
  )
  for _ in range(2):
    folder.add_crash("depth1sizes-3", "out of\nmemory")
  refused = Refused("depth 3, size s", {"depth": "3", "size": "s"}, "no\nsuch")
  folder.write_trials(folder.read_trials(), "ndcg@10", [refused])
  table = missing_table(load_results(folder.path))
  assert table is not None
  why = "out of memory; see logs/depth1sizes-3.log"
  assert [[cell.text for cell in row] for row in table.rows] == [
    ["depth 1, size s", "3", "failed", why, "depth1sizes-3"],
    ["depth 3, size s", "all", "refused", "no such", ""],
    ["3 trials", "", "open", "not finished: the same command goes on", ""],
  ]
