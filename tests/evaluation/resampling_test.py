import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.evaluation import resampling
from recjax.evaluation.resampling import user_intervals
from recjax.evaluation.significance import bootstrap_intervals


def test_one_value_a_user_is_the_plain_bootstrap():
  rng = np.random.default_rng(0)
  values = rng.random((2, 300))
  users = rng.permutation(300)
  assert user_intervals(values, users) == bootstrap_intervals(values)


def test_copies_of_a_value_make_nobody_surer():
  rng = np.random.default_rng(1)
  values = rng.normal(size=400)
  copies, users = np.repeat(values, 6), np.repeat(np.arange(400), 6)
  ((low, high),) = user_intervals(copies[None], users, num_resamples=4000)
  error = values.std() / np.sqrt(400)
  assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
  assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_the_error_of_a_ratio():
  # Users with many values are better; by the delta method the variance of
  # sum S / sum n is sum (S_u - mean n_u)^2 / (sum n)^2.
  rng = np.random.default_rng(2)
  num = rng.integers(1, 9, 500)
  users = np.repeat(np.arange(500) + 7, num)
  values = rng.normal(size=len(users)) + 0.3 * num[users - 7]
  order = rng.permutation(len(users))
  mean = values.mean()
  sums = np.bincount(users - 7, values)
  error = np.sqrt(((sums - mean * num) ** 2).sum()) / num.sum()
  table = np.stack([values, 2 * values])[:, order]
  (low, high), twice = user_intervals(table, users[order], num_resamples=4000)
  assert high - low == pytest.approx(2 * 1.96 * error, rel=0.08)
  assert twice == pytest.approx((2 * low, 2 * high))
  # Far more than if all values were of different users.
  assert high - low > 1.2 * 2 * 1.96 * values.std() / np.sqrt(len(values))


def test_blocks_change_nothing(monkeypatch):
  rng = np.random.default_rng(3)
  values, users = rng.random((2, 40)), rng.integers(0, 9, 40)
  whole = user_intervals(values, users)
  monkeypatch.setattr(resampling, "_BLOCK", 27)
  # Another grouping of the same stream of draws.
  again = user_intervals(values, users)
  np.testing.assert_allclose(again, whole, rtol=1e-12)
  assert user_intervals(values, users, seed=1)[0] != again[0]


def test_a_single_user():
  values, users = np.array([[1.0, 2.0]]), np.array([3, 3])
  assert user_intervals(values, users) == [(1.5, 1.5)]
  with pytest.raises(ConfigError, match="confidence"):
    user_intervals(values, users, confidence=2.0)


def test_sums_over_users_drawn_anew():
  rng = np.random.default_rng(3)
  totals = np.stack([rng.random(40), np.ones(40)])
  found = resampling.resampled_sums(totals, num_resamples=3000, seed=1)
  assert (found[1] == 40).all()  # Always as many users.
  error = totals[0].std() * np.sqrt(40)
  assert found[0].mean() == pytest.approx(totals[0].sum(), abs=0.1 * error)
  assert found[0].std() == pytest.approx(error, rel=0.06)


def test_metrics_by_who_has_them():
  nan = np.nan
  values = {
    "a": np.array([1, 2, 3], np.float32),
    "b": np.array([nan, 2, 4], np.float32),
    "c": np.array([nan, nan, nan], np.float32),
    "d": np.array([4, 5, 6], np.float32),
  }
  whole, one = resampling.defined(values)
  assert whole[0] == ["a", "d"] and whole[2].tolist() == [0, 1, 2]
  assert whole[1].tolist() == [[1, 2, 3], [4, 5, 6]]
  assert one[0] == ["b"] and one[1].tolist() == [[2, 4]]
  assert one[2].tolist() == [1, 2]
