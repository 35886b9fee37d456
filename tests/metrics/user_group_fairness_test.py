import numpy as np

from recjax.metrics.user_group_fairness import group_gap, group_ratio


def test_by_hand():
  means = np.array([0.2, 0.5, 0.4])
  np.testing.assert_allclose(group_gap(means), 0.3)
  np.testing.assert_allclose(group_ratio(means), 0.4)


def test_groups_without_users_are_left_out():
  means = np.array([[0.2, np.nan, 0.1], [np.nan] * 3, [0.0, 0.0, np.nan]])
  np.testing.assert_allclose(group_gap(means), [0.1, np.nan, 0.0])
  np.testing.assert_allclose(group_ratio(means), [0.5, np.nan, 1.0])
