"""Plots of sweeps show the numbers of their runs."""

import numpy as np
import pytest

from recjax.sweeps import sweep_plots
from recjax.sweeps.marginals import interactions, marginals
from recjax.sweeps.results import load_results
from tests.sweeps.made_up import sweep_of, value_of


@pytest.fixture
def results(make_folder):
  return load_results(make_folder(sweep_of(), value_of).path)


def test_means_with_all_seeds(results):
  (axes,) = sweep_plots.means_figure(results).axes
  names = [text.get_text() for text in axes.get_yticklabels()]
  assert names == [row.name for row in results.rows]
  points = [line for line in axes.lines if line.get_marker() == "o"]
  means = [row.numbers("ndcg@10").mean() for row in results.rows]
  np.testing.assert_allclose([p.get_xdata()[0] for p in points], means)


def test_curves_are_means_over_seeds(results):
  (axes,) = sweep_plots.curves_figure(results, "ndcg@10").axes
  assert len(axes.lines) == len(axes.collections) == 4
  best = axes.lines[0]  # The best one first.
  assert best.get_label() == "depth 2, size l"
  mean = results.rows[3].numbers("ndcg@10").mean()
  np.testing.assert_allclose(best.get_xdata(), [10, 20, 30])
  np.testing.assert_allclose(best.get_ydata(), np.array([0.5, 0.9, 1]) * mean)


def test_cost_and_the_front(results):
  (axes,) = sweep_plots.cost_figure(results).axes
  front, points = axes.lines
  # All cost the same two minutes, so only the first of them is on the step.
  np.testing.assert_allclose(points.get_xdata(), [2.0] * 4)
  assert len(front.get_xdata()) >= 1


def test_marginals_and_heat_maps(results):
  (axes,) = sweep_plots.marginals_figure(results, marginals(results)).axes
  names = [text.get_text() for text in axes.get_yticklabels()]
  assert names == ["depth: 2", "size: l"]
  found = interactions(results)
  (axes,) = sweep_plots.interactions_figure(found, "ndcg@10").axes
  shown = [float(text.get_text()) for text in axes.texts]
  np.testing.assert_allclose(shown, found[0].means.ravel(), atol=5e-5)


def test_parallel_coordinates(results):
  values = {row.name: place / 3 for place, row in enumerate(results.rows)}
  (axes,) = sweep_plots.parallel_figure(
    results, values, "quality", lower=False
  ).axes
  names = [text.get_text() for text in axes.get_xticklabels()]
  assert names == ["depth", "size", "quality"]
  ends = [tuple(line.get_ydata()) for line in axes.lines]
  # Levels are numbers (1, 2) and names (s, l): both run from 0 to 1.
  assert ends == [(0, 0, 0), (0, 1, 1 / 3), (1, 0, 2 / 3), (1, 1, 1)]
  texts = {text.get_text() for text in axes.texts}
  assert {"1", "2", "s", "l", "0.0000", "1.0000"} <= texts


def test_where_less_is_better_the_least_is_on_top(results):
  values = {row.name: place / 3 for place, row in enumerate(results.rows)}
  (axes,) = sweep_plots.parallel_figure(
    results, values, "loss", lower=True
  ).axes
  ends = {
    tuple(line.get_ydata()[:2]): line.get_ydata()[2] for line in axes.lines
  }
  assert ends[0, 0] == 1.0 and ends[1, 1] == 0.0
  at = {text.get_text(): text.xy[1] for text in axes.texts}
  assert at["0.0000"] == 1.0 and at["1.0000"] == 0.0


def test_a_curve_goes_as_far_as_all_seeds(make_folder):
  """One seed that ran on must not be drawn as the mean of all."""
  folder = make_folder(
    sweep_of(num_seeds=2), value_of, skip=lambda trial: trial.seed == 1
  )
  make_folder(
    sweep_of(num_seeds=2),
    value_of,
    skip=lambda trial: trial.seed == 0,
    curve=[0.5, 0.6],
  )
  (axes,) = sweep_plots.curves_figure(load_results(folder.path), "ndcg@10").axes
  for line in axes.lines:
    np.testing.assert_allclose(line.get_xdata(), [10, 20])
