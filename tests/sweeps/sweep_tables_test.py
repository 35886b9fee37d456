"""Tables of sweeps say what SciPy and NumPy say."""

import numpy as np
import pytest
import scipy.stats

from recjax.sweeps import sweep_tables
from recjax.sweeps.effects import effect, effects_of
from recjax.sweeps.marginals import interactions, marginals
from recjax.sweeps.results import load_results
from recjax.sweeps.sweep_tables import (
  factor_table,
  interval_of_seeds,
  less_is_better,
  marginal_table,
  metrics_table,
  missing_table,
  search_table,
)
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
  assert texts(table, "design sees")[1:] == [
    f"{each.sees:.4f}" for each in effects[1:]
  ]
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
  assert "say nothing of other seeds" in table.note


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
  assert "Here 3 seeds." in table.note


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


def test_less_is_better_of_losses_of_tasks_too():
  assert less_is_better("rmse/watch") and less_is_better("log_loss")
  assert not less_is_better("auc/watch")


def test_marginals_and_all_metrics(results):
  table = marginal_table(results, marginals(results))
  assert texts(table, "factor") == ["depth", "depth", "size", "size"]
  assert texts(table, "difference")[0] == "reference"
  table = metrics_table(results)
  assert table.header == ("settings", "NDCG@10", "HR@10")
  means = [row.numbers("hit_rate@10").mean() for row in results.rows]
  assert texts(table, "HR@10") == [f"{mean:.4f}" for mean in means]
  table = sweep_tables.interaction_table(interactions(results))
  assert texts(table, "factors") == ["depth x size"]
  assert texts(table, "levels") == ["2, l"]


def test_missing_trials(make_folder, results):
  assert missing_table(results) is None
  folder = make_folder(
    sweep_of(num_seeds=4), value_of, skip=lambda trial: trial.seed > 2
  )
  folder.stop("depth1sizes-3", "median rule at step 20")
  table = missing_table(load_results(folder.path))
  assert table is not None
  assert [[cell.text for cell in row] for row in table.rows] == [
    [
      "depth 1, size s",
      "3",
      "stopped",
      "median rule at step 20",
      "depth1sizes-3",
    ],
    [
      "3 trials",
      "",
      "open",
      "not finished: the same command goes on",
      "",
    ],
  ]
