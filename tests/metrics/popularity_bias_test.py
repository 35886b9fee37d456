import math

import numpy as np
import pytest

from recjax.metrics.popularity_bias import average_popularity, popularity_lift

POPULARITY = np.array([0.0, 0.8, 0.4, 0.2, 0.0])


def test_by_hand():
  lists = np.array([[1, 2], [3, 0], [0, 0]])
  np.testing.assert_allclose(
    average_popularity(lists, POPULARITY), [0.6, 0.2, np.nan]
  )
  # Histories: {2, 3}, {1}, {3}; 0.3, 0.8 and 0.2 on average.
  query, item = np.array([0, 0, 1, 2]), np.array([2, 3, 1, 3])
  np.testing.assert_allclose(
    popularity_lift(lists, POPULARITY, query, item), [1.0, -0.75, np.nan]
  )


def test_a_history_of_nothing_has_no_lift():
  lists = np.array([[1], [1]])
  # The first has a single item that nobody had, the second no item at all.
  found = popularity_lift(lists, POPULARITY, np.array([0]), np.array([4]))
  assert np.isnan(found).all()


def test_against_a_loop():
  rng = np.random.default_rng(1)
  popularity = np.concatenate([[0], rng.random(30)])
  lists = rng.integers(1, 31, (25, 6))
  query = np.sort(rng.integers(0, 25, 120))
  item = rng.integers(1, 31, 120)
  found = popularity_lift(lists, popularity, query, item)
  for u in range(25):
    history = [popularity[i] for q, i in zip(query, item) if q == u]
    listed = sum(popularity[i] for i in lists[u]) / 6
    if history:
      before = sum(history) / len(history)
      assert found[u] == pytest.approx((listed - before) / before)
    else:
      assert math.isnan(found[u])
