"""Marginal effects and interactions against what was planted."""

import numpy as np
import pytest

from recjax.runs.record import RunRecord
from recjax.sweeps.effects import effect
from recjax.sweeps.marginals import interactions, is_balanced, marginals
from recjax.sweeps.results import load_results
from tests.sweeps.made_up import sweep_of, value_of


@pytest.fixture
def results(make_folder):
  return load_results(make_folder(sweep_of(), value_of).path)


def of_seeds(results, place):
  row = results.rows[place]
  return results.values(row, results.common_seeds)


def test_marginals_average_over_the_other_factors(results):
  found = {(m.factor, m.level): m for m in marginals(results)}
  assert list(found) == [
    ("depth", "1"),
    ("depth", "2"),
    ("size", "s"),
    ("size", "l"),
  ]
  assert found["depth", "1"].effect is None
  a, b, c, d = (of_seeds(results, place) for place in range(4))
  expected = effect((c + d) / 2, (a + b) / 2)
  deep = found["depth", "2"].effect
  assert deep is not None and expected is not None
  np.testing.assert_allclose(deep.difference, 0.1, atol=0.01)  # .05 and .15.
  np.testing.assert_allclose(deep.p_value, expected.p_value)
  np.testing.assert_allclose(found["size", "l"].mean, (b + d).mean() / 2)
  large = found["size", "l"].effect
  assert large is not None
  smaller, larger = sorted((deep.p_value, large.p_value))
  assert min(deep.p_holm, large.p_holm) == pytest.approx(2 * smaller)
  assert max(deep.p_holm, large.p_holm) == pytest.approx(
    max(2 * smaller, larger)
  )


def test_an_interaction_is_the_contrast_of_four_cells(results):
  (found,) = interactions(results)
  assert found.factors == ("depth", "size")
  assert found.levels == (("1", "2"), ("s", "l"))
  a, b, c, d = (of_seeds(results, place) for place in range(4))
  np.testing.assert_allclose(
    found.means, [[a.mean(), b.mean()], [c.mean(), d.mean()]]
  )
  contrast = found.contrasts["2", "l"]
  assert contrast is not None
  np.testing.assert_allclose(
    contrast.difference, ((d - c) - (b - a)).mean(), rtol=1e-9
  )
  np.testing.assert_allclose(contrast.difference, 0.1, atol=0.01)
  assert contrast.p_holm < 0.05


def test_a_whole_grid_is_balanced(results):
  assert is_balanced(results)


def test_a_grid_with_a_hole_is_not_balanced(make_folder):
  folder = make_folder(
    sweep_of(), value_of, skip=lambda t: t.combination == "depth 2, size l"
  )
  assert not is_balanced(load_results(folder.path))


def test_an_ablation_is_not_balanced(make_folder):
  folder = make_folder(sweep_of("one_at_a_time"), value_of)
  assert not is_balanced(load_results(folder.path))


def test_a_grid_that_lost_a_level_has_no_other_reference(make_folder):
  folder = make_folder(
    sweep_of(), value_of, skip=lambda t: t.levels["depth"] == "1"
  )
  assert not is_balanced(load_results(folder.path))


def test_means_are_those_of_the_runs_where_users_have_no_value(make_folder):
  folder = make_folder(sweep_of(), value_of)
  for trial in folder.read_trials():
    record = RunRecord(folder.workdir(trial.key))
    users = record.load_per_user("test")
    users["ndcg@10"][3] = np.nan
    record.save_per_user("test", **users)
  results = load_results(folder.path)
  of_rows = {row.name: row.mean("ndcg@10") for row in results.rows}
  found = {(m.factor, m.level): m for m in marginals(results)}
  expected = of_rows["depth 2, size s"] + of_rows["depth 2, size l"]
  np.testing.assert_allclose(found["depth", "2"].mean, expected / 2)
  effect_of_depth = found["depth", "2"].effect
  assert effect_of_depth is not None and effect_of_depth.num_left_out == 1
  (pair,) = interactions(results)
  np.testing.assert_allclose(pair.means.ravel(), list(of_rows.values()))
