import math

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.metrics.novelty import novelty


def test_what_everyone_had_is_not_novel():
  counts = np.array([0, 15, 7, 0])
  found = novelty(np.array([[1], [2], [3]]), counts, num_users=15)
  # (7 + 1) / (15 + 1) is one bit, 1 / 16 four.
  np.testing.assert_allclose(found, [0.0, 1.0, 4.0])


def test_against_the_formula():
  rng = np.random.default_rng(0)
  counts = rng.integers(0, 40, 31)
  lists = np.array([rng.permutation(30)[:8] + 1 for _ in range(20)])
  lists[3, 5:], lists[4] = 0, 0
  found = novelty(lists, counts, num_users=40)
  for row, value in zip(lists, found):
    bits = [-math.log2((counts[i] + 1) / 41) for i in row if i]
    if bits:
      assert value == pytest.approx(sum(bits) / len(bits))
    else:
      assert math.isnan(value)


def test_more_users_than_there_are():
  with pytest.raises(ConfigError, match="num_users must lie in"):
    novelty(np.array([[1]]), np.array([0, 5]), num_users=4)
