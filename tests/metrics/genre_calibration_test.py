import math

import numpy as np
import pytest
import scipy.special

from recjax.errors import ConfigError
from recjax.metrics.genre_calibration import (
  mean_shares,
  miscalibration,
  shares_of_values,
)

# Items: none, A, A and B, B, C, nothing.
MEMBER = np.array(
  [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], bool
)


def test_shares():
  shares = shares_of_values(MEMBER)
  np.testing.assert_allclose(shares[1:4], [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]])
  assert not shares[[0, 5]].any()
  # Of the last user nothing is known; item 5 counts for nobody.
  query, item = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 2, 5, 4, 4, 5])
  means = mean_shares(query, item, shares, num_queries=4)
  np.testing.assert_allclose(
    means, [[0.75, 0.25, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
  )


def test_by_hand():
  wanted = np.array([[0.75, 0.25, 0.0]] * 3 + [[0.0, 0.0, 0.0]])
  given = np.array([[0.75, 0.25, 0], [0.5, 0.5, 0], [0, 0, 1], [0.5, 0.5, 0]])
  found = miscalibration(wanted, given)
  mixed = 0.99 * np.array([0.5, 0.5]) + 0.01 * np.array([0.75, 0.25])
  expected = 0.75 * math.log(0.75 / mixed[0]) + 0.25 * math.log(0.25 / mixed[1])
  np.testing.assert_allclose(
    found, [0, expected, math.log(100), np.nan], atol=1e-12
  )
  # A list without any genre is as far away as one of others alone.
  (none,) = miscalibration(wanted[:1], np.zeros((1, 3)))
  assert none == pytest.approx(math.log(100))


def test_against_scipy():
  rng = np.random.default_rng(5)
  wanted, given = rng.dirichlet(np.full(6, 0.4), (2, 30))
  wanted[wanted < 0.05] = 0
  wanted /= wanted.sum(1, keepdims=True)
  found = miscalibration(wanted, given, alpha=0.1)
  mixed = 0.9 * given + 0.1 * wanted
  expected = scipy.special.rel_entr(wanted, mixed).sum(1)
  np.testing.assert_allclose(found, expected)


def test_alpha_is_checked():
  with pytest.raises(ConfigError, match="alpha must lie in"):
    miscalibration(np.ones((1, 1)), np.ones((1, 1)), alpha=0.0)
