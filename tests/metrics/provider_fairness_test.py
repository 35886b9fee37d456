import math

import numpy as np
import pytest

from recjax.metrics.provider_fairness import (
  exposure_disparity,
  exposure_ratios,
  group_exposures,
)

# Items 1 and 2 are of group A, 3 of B, 4 of both, 5 of none.
SHARES = np.array([[9, 9], [1, 0], [1, 0], [0, 1], [0.5, 0.5], [0, 0]])


def test_exposure_against_a_loop():
  rng = np.random.default_rng(7)
  lists = rng.integers(0, 6, (30, 4))
  found = group_exposures(lists, SHARES)
  for row, values in zip(lists, found):
    expected = np.zeros(2)
    for place, item in enumerate(row, 1):
      if item:
        expected += SHARES[item] / math.log2(1 + place)
    np.testing.assert_allclose(values, expected)


def test_disparity_by_hand():
  exposure, merit = np.array([6.0, 2.0, 0.0]), np.array([1.0, 1.0, 2.0])
  # Shares of .75, .25, 0 against .25, .25, .5: half of all would have to move.
  assert exposure_disparity(exposure, merit) == pytest.approx(0.5)
  np.testing.assert_allclose(exposure_ratios(exposure, merit), [3, 1, 0])
  assert exposure_disparity(2 * merit, merit) == pytest.approx(0)


def test_the_ratios_are_those_of_mean_exposures():
  rng = np.random.default_rng(8)
  group = rng.integers(0, 3, 20)
  of_item = rng.random(20)
  exposure = np.bincount(group, of_item, 3)
  merit = np.bincount(group, minlength=3).astype(float)
  # Singh and Joachims: the mean exposure of a group's items, set in ratio.
  means = np.array([of_item[group == g].mean() for g in range(3)])
  np.testing.assert_allclose(
    exposure_ratios(exposure, merit), means / of_item.mean()
  )


def test_resamples_are_rows():
  rng = np.random.default_rng(9)
  exposure, merit = rng.random((2, 5, 4))
  found = exposure_disparity(exposure, merit)
  for row in range(5):
    assert found[row] == pytest.approx(
      float(exposure_disparity(exposure[row], merit[row]))
    )


def test_nothing_to_compare():
  assert np.isnan(exposure_disparity(np.zeros(2), np.ones(2)))
  assert np.isnan(exposure_disparity(np.ones(2), np.zeros(2)))
  ratios = exposure_ratios(np.array([1.0, 1.0]), np.array([0.0, 2.0]))
  assert np.isnan(ratios[0]) and ratios[1] == pytest.approx(0.5)


def test_one_merit_for_all_resamples():
  exposure = np.array([[1.0, 1.0], [3.0, 1.0]])
  found = exposure_disparity(exposure, np.array([2.0, 2.0]))
  np.testing.assert_allclose(found, [0, 0.25])
