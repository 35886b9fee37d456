import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.metrics.tied_runs import tied_runs


def by_loop(*keys):
  rows = list(zip(*keys))
  first = [min(j for j, r in enumerate(rows) if r == row) for row in rows]
  stop = [max(j for j, r in enumerate(rows) if r == row) + 1 for row in rows]
  return first, stop


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_runs_of_one_and_of_two_keys(array):
  rng = np.random.default_rng(0)
  group = np.sort(rng.integers(0, 4, 30)).astype(np.int32)
  score = rng.integers(0, 3, 30).astype(np.float32)
  score = score[np.lexsort((score, group))]
  for keys in ((group,), (score, group)):
    runs = tied_runs(*map(array, keys))
    expected = by_loop(*(key.tolist() for key in keys))
    np.testing.assert_array_equal(runs.first, expected[0])
    np.testing.assert_array_equal(runs.stop, expected[1])


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_short_arrays(array):
  for size in (0, 1):
    runs = tied_runs(array(np.zeros(size, np.float32)))
    np.testing.assert_array_equal(runs.first, np.zeros(size))
    np.testing.assert_array_equal(runs.stop, np.ones(size))


def test_nan_equals_nothing():
  values = np.array([0.0, 0.0, np.nan, np.nan], np.float32)
  runs = jax.jit(tied_runs)(values)
  np.testing.assert_array_equal(runs.first, [0, 0, 2, 3])
  np.testing.assert_array_equal(runs.stop, [2, 2, 3, 4])
