"""Fronts by brute force, areas by counting cells."""

import itertools

import numpy as np
import pytest

from recjax.metrics.pareto import hypervolume, non_dominated


def by_pairs(values):
  kept = []
  for a in values:
    rivals = [b for b in values if all(b >= a) and any(b > a)]
    kept.append(not rivals)
  return kept


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_front_is_that_of_all_pairs(num_tasks, seed):
  rng = np.random.default_rng(seed)
  # Few levels: there are ties and equal points.
  values = rng.integers(0, 5, (60, num_tasks)).astype(np.float64)
  found = non_dominated(values)
  np.testing.assert_array_equal(found, by_pairs(values))
  assert found.any()


def test_equal_points_stay_together_and_nan_never():
  values = np.array([[1.0, 2], [1, 2], [1, 1], [2, 1], [np.nan, 9], [0, 3]])
  expected = [True, True, False, True, False, True]
  np.testing.assert_array_equal(non_dominated(values), expected)
  assert non_dominated(np.zeros((0, 2))).shape == (0,)


def test_the_area_is_that_of_its_cells():
  rng = np.random.default_rng(0)
  points = rng.integers(0, 9, (12, 2)).astype(np.float64)
  covered = sum(
    any(p[0] > x and p[1] > y for p in points)
    for x, y in itertools.product(range(2, 9), range(3, 9))
  )
  assert covered > 0
  assert hypervolume(points, (2.0, 3.0)) == covered
  on_front = points[non_dominated(points)]
  assert hypervolume(on_front, (2.0, 3.0)) == covered
  assert hypervolume(points, (9.0, 9.0)) == 0.0
  nan = np.array([[np.nan, 5.0]])
  assert hypervolume(np.concatenate([points, nan]), (2.0, 3.0)) == covered
