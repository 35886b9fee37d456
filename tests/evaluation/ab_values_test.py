"""Values of units: arms, pairs, ratios and what was known beforehand."""

import numpy as np
import pytest

from recjax.errors import DataError
from recjax.evaluation.ab_values import Measured, adjusted, num_arms, pair
from recjax.evaluation.cuped import cuped

ARM = np.array([0, 2, 1, 0, 1, 2, 0])


def test_arms_and_pairs():
  assert num_arms(ARM) == 3
  assert pair(ARM, 2).tolist() == [0, 1, 3, 5, 6]
  for arm in ([0, 0], [0, 0, 1], [1, 1, 1]):
    with pytest.raises(DataError, match="two units each"):
      num_arms(np.array(arm))


def test_means_are_left_as_they_are():
  values = np.arange(4)
  found = adjusted(Measured("x", values), np.array([0, 1, 0, 1]))
  assert found.values.tolist() == [0, 1, 2, 3]
  assert not found.explained.any()
  assert (found.num_fitted, found.reduction) == (0, None)


def test_ratios_are_those_of_each_arm_less_what_was_known():
  random = np.random.default_rng(0)
  side = random.integers(0, 2, 50)
  per = random.integers(1, 9, 50)
  clicks, known = random.binomial(per, 0.4), random.normal(size=(50, 2))
  found = adjusted(Measured("x", clicks, per), side)
  for number in (0, 1):
    of_arm = side == number
    np.testing.assert_allclose(
      found.values[of_arm].mean(), clicks[of_arm].sum() / per[of_arm].sum()
    )
  less = adjusted(Measured("x", clicks, per, known), side)
  peer = cuped(found.values, known, side)
  np.testing.assert_allclose(less.values, peer.values)
  np.testing.assert_allclose(less.explained, found.values - peer.values)
  assert less.explained.mean() == pytest.approx(0.0)
  assert (less.num_fitted, less.reduction) == (2, peer.variance_reduction)
