import numpy as np

from recjax.metrics.list_means import list_means


def test_means_leave_empty_places_out():
  # Entry 0 is padding, whatever stands there.
  values = np.array([99.0, 1.0, 2.0, 6.0])
  lists = np.array([[1, 2, 3], [3, 0, 1], [0, 0, 0]])
  np.testing.assert_allclose(list_means(lists, values), [3.0, 3.5, np.nan])


def test_integers_are_averaged_as_floats():
  assert list_means(np.array([[1, 2]]), np.array([0, 1, 2])).tolist() == [1.5]
