import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.balancing.conflict import gradient_conflict
from recjax.errors import ConfigError

conflict = jax.jit(gradient_conflict)


def tree_of(rows):
  """Gradients [task, 12] as a tree of three leaves."""
  rows = np.asarray(rows, np.float32)
  tree = {
    "kernel": rows[:, :6].reshape(-1, 2, 3),
    "deep": (rows[:, 6], rows[:, 7:]),
  }
  return jax.tree.map(jnp.asarray, tree)


def random_rows(num_tasks=4):
  return np.random.default_rng(0).normal(size=(num_tasks, 12))


def test_cosines_and_norms_against_numpy():
  rows = random_rows() * np.array([1e-3, 1.0, 20.0, 1e4])[:, None]
  cosines, norms = conflict(tree_of(rows))
  expected = np.linalg.norm(rows, axis=1)
  np.testing.assert_allclose(norms, expected, rtol=1e-5)
  unit = rows / expected[:, None]
  np.testing.assert_allclose(cosines, unit @ unit.T, atol=1e-6)
  assert np.all(np.diagonal(cosines) == 1.0)
  assert np.any(np.asarray(cosines) < -0.1)


def test_known_angles():
  right, up = np.eye(12)[:2]
  cosines, norms = conflict(tree_of([right, 2 * up, -3 * right, right + up]))
  half = np.sqrt(0.5)
  expected = [
    [1, 0, -1, half],
    [0, 1, 0, half],
    [-1, 0, 1, -half],
    [half, half, -half, 1],
  ]
  np.testing.assert_allclose(cosines, expected, atol=1e-6)
  np.testing.assert_allclose(norms, [1, 2, 3, np.sqrt(2)], rtol=1e-6)


def test_absent_and_zero_tasks_have_no_direction():
  rows = random_rows()
  rows[1] = 0.0
  rows[2] = np.nan
  present = jnp.asarray([True, True, False, True])
  cosines, norms = conflict(tree_of(rows), present)
  alone = conflict(tree_of(rows[[0, 3]]))
  expected = np.zeros((4, 4))
  expected[np.ix_([0, 3], [0, 3])] = alone[0]
  np.testing.assert_allclose(cosines, expected, atol=1e-6)
  expected = np.zeros(4)
  expected[[0, 3]] = alone[1]
  np.testing.assert_allclose(norms, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_squares_need_not_be_numbers_of_float32(size):
  cosines, norms = conflict(tree_of(random_rows() * size))
  expected = conflict(tree_of(random_rows()))
  np.testing.assert_allclose(cosines, expected[0], atol=1e-6)
  np.testing.assert_allclose(norms / size, expected[1], rtol=1e-5)


def test_a_tree_without_arrays_is_refused():
  with pytest.raises(ConfigError, match="at least one array; got an empty"):
    gradient_conflict({})
