import numpy as np
import pytest

from recjax.errors import DataError
from recjax.metrics.exposure import coverage, gini, times_listed


def test_times_and_coverage():
  lists = np.array([[1, 2, 0], [2, 4, 1], [2, 0, 0]])
  times = times_listed(lists, num_items=5)
  assert times.tolist() == [0, 2, 3, 0, 1, 0]
  assert coverage(times[1:]) == pytest.approx(3 / 5)
  assert coverage(np.zeros(4, int)) == 0.0


def test_gini_against_mean_differences():
  rng = np.random.default_rng(6)
  times = rng.integers(0, 50, 40)
  # Half the relative mean difference of two different items.
  differences = np.abs(times[:, None] - times[None, :]).sum()
  expected = differences / (40 * 39) / (2 * times.mean())
  assert gini(times) == pytest.approx(expected)


def test_ends_of_gini():
  assert gini(np.full(7, 3)) == pytest.approx(0.0, abs=1e-12)
  assert gini(np.array([0, 0, 9, 0])) == pytest.approx(1.0)
  assert gini(np.zeros(5, int)) == 0.0 and gini(np.array([4])) == 0.0


@pytest.mark.parametrize("metric", [coverage, gini])
def test_an_empty_catalogue(metric):
  with pytest.raises(DataError, match="without an item"):
    metric(np.zeros(0, int))
