import math

import numpy as np
import pytest

from recjax.metrics.serendipity import serendipity


def test_the_primitive_model_is_not_serendipitous():
  lists = np.array([[1, 2, 3], [4, 5, 6]])
  query, item = np.array([0, 0, 1]), np.array([1, 3, 9])
  assert not serendipity(lists, lists, query, item).any()
  expected = np.array([[1, 7, 8], [1, 7, 8]])
  np.testing.assert_allclose(
    serendipity(lists, expected, query, item), [1 / 3, 0]
  )


def test_against_sets():
  rng = np.random.default_rng(2)
  draw = lambda k: np.array([rng.permutation(12)[:k] + 1 for _ in range(40)])
  lists, expected, targets = draw(5), draw(4), draw(3)
  lists[0, 2:], lists[1], expected[2] = 0, 0, 0
  query = np.repeat(np.arange(40), 3)
  found = serendipity(lists, expected, query, targets.ravel())
  for u in range(40):
    listed = set(lists[u].tolist()) - {0}
    hits = (listed - set(expected[u].tolist())) & set(targets[u].tolist())
    if listed:
      assert found[u] == pytest.approx(len(hits) / len(listed))
    else:
      assert math.isnan(found[u])
  assert found[2:].max() > 0
