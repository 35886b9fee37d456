"""AUCs of users one by one, and SciPy's paired tests of them."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from recjax.errors import DataError
from recjax.evaluation.crossed_design import crossed_test
from recjax.evaluation.paired_users import (
  compare_users,
  compare_values,
  user_aucs,
)


@pytest.fixture
def rows():
  rng = np.random.default_rng(0)
  user = rng.integers(100, 160, 900)
  truth = rng.normal(size=900)
  label = (rng.random(900) < 1 / (1 + np.exp(-truth))).astype(np.float64)
  label[user < 103] = 1.0
  label[::50] = np.nan
  a = np.round(truth + rng.normal(size=(2, 900)), 1)
  return a, 0.5 * truth + rng.normal(size=900), label, user


def by_loop(score, label, user):
  found = {}
  for name in np.unique(user):
    mine = (user == name) & ~np.isnan(label)
    if 0 < label[mine].sum() < mine.sum():
      found[name] = roc_auc_score(label[mine], score[mine])
  return found


def test_users_are_those_of_scikit_learn(rows):
  a, _, label, user = rows
  names, values = user_aucs(a, label, user)
  expected = [by_loop(score, label, user) for score in a]
  assert list(names) == list(expected[0]) and names.min() >= 103
  each = [list(values.values()) for values in expected]
  np.testing.assert_allclose(values, each, rtol=1e-12)
  np.testing.assert_array_equal(user_aucs(a[1], label, user)[1], values[1])


def test_both_tests_are_those_of_scipy(rows):
  a, b, label, user = rows
  found = compare_users(a[0], b, label, user)
  of_a, of_b = (
    np.array(list(by_loop(x, label, user).values())) for x in (a[0], b)
  )
  t = scipy.stats.ttest_rel(of_a, of_b).pvalue
  assert found.t.p_value == pytest.approx(t)
  assert found.wilcoxon.p_value == pytest.approx(
    # Equal differences tie, whatever their last digits.
    scipy.stats.wilcoxon(np.round(of_a - of_b, 9)).pvalue
  )
  assert found.mean_a - found.mean_b == pytest.approx(found.t.difference)
  assert found.t.num_users == len(of_a)
  assert found.num_left_out == len(np.unique(user)) - len(of_a) == 3


def test_three_seeds_are_tested_with_users(rows):
  _, _, label, user = rows
  random = np.random.default_rng(1)
  a, b = random.normal(size=(2, 3, 900))
  found = compare_users(a, b, label, user)
  values = [user_aucs(side, label, user)[1] for side in (a, b)]
  assert found.crossed == crossed_test(values[0] - values[1])
  assert found.crossed.difference == pytest.approx(found.t.difference)
  assert compare_users(a[:1], b[:1], label, user).crossed is None
  assert compare_users(a, b[:2], label, user).crossed is None
  assert compare_users(a, a, label, user).crossed is None


def test_nothing_to_compare_is_told(rows):
  a, b, label, user = rows
  with pytest.raises(DataError, match="no user has rows of both classes"):
    compare_users(a, b, np.ones(900), user)
  with pytest.raises(DataError, match="got 2 and 3"):
    compare_values(np.zeros(2), np.zeros(3))
  with pytest.raises(DataError, match="diverged"):
    compare_values(np.array([np.nan, 1.0]), np.zeros(2))
