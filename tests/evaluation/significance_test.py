import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from recjax.errors import ConfigError, DataError
from recjax.evaluation.significance import (
  TESTS,
  benjamini_hochberg,
  bootstrap_interval,
  bootstrap_intervals,
  compare,
  holm,
)


def test_interval_of_a_mean():
  values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
  low, high = bootstrap_interval(values)
  half = 1.96 * values.std() / np.sqrt(2000)
  # The bootstrap of a mean agrees with the normal interval up to its noise.
  assert low == pytest.approx(values.mean() - half, abs=0.2 * half)
  assert high == pytest.approx(values.mean() + half, abs=0.2 * half)
  assert bootstrap_interval(values) == (low, high)
  assert bootstrap_interval(values, seed=1) != (low, high)
  wide = bootstrap_interval(values, confidence=0.99)
  assert wide[0] < low and wide[1] > high


def test_intervals_of_several_metrics():
  values = np.random.default_rng(1).random((3, 200)).astype(np.float32)
  together = bootstrap_intervals(values)
  for row, interval in zip(values, together):
    np.testing.assert_allclose(interval, bootstrap_interval(row), rtol=1e-12)


def test_intervals_without_spread():
  assert bootstrap_interval(np.array([0.25])) == (0.25, 0.25)
  assert bootstrap_interval(np.zeros(10)) == (0.0, 0.0)


def test_interval_covers_the_truth():
  rng = np.random.default_rng(2)
  inside = 0
  for _ in range(200):
    values = rng.random(60)
    low, high = bootstrap_interval(values, num_resamples=300)
    inside += low <= 0.5 <= high
  # 95% of 200, three standard deviations of that count below.
  assert inside >= 180


@pytest.mark.parametrize("test", TESTS)
def test_a_difference_is_found(test):
  rng = np.random.default_rng(3)
  b = rng.random(500)
  a = b + rng.normal(0.05, 0.1, 500)
  result = compare(a, b, test=test)
  assert result.p_value < 0.01 and result.num_users == 500
  assert result.difference == pytest.approx((a - b).mean())
  assert 0 < result.interval[0] < result.difference < result.interval[1]
  back = compare(b, a, test=test)
  assert back.p_value == pytest.approx(result.p_value, abs=0.005)
  assert back.difference == -result.difference


@pytest.mark.parametrize("test", TESTS)
def test_no_difference_gives_uniform_p_values(test):
  rng = np.random.default_rng(4)
  p = [
    compare(*rng.random((2, 50)), test=test, num_resamples=300).p_value
    for _ in range(60)
  ]
  assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3


def test_permutation_agrees_with_all_sign_flips():
  difference = np.array([0.3, 0.1, -0.2, 0.4, 0.25, 0.05])
  signs = np.array(np.meshgrid(*[[1, -1]] * 6)).reshape(6, -1)
  means = (signs * difference[:, None]).mean(0)
  exact = np.mean(np.abs(means) >= abs(difference.mean()) - 1e-12)
  result = compare(difference, np.zeros(6), num_resamples=5000)
  assert result.p_value == pytest.approx(exact, abs=1e-12)


def test_equal_runs():
  values = np.random.default_rng(5).random(10)
  for test in TESTS:
    result = compare(values, values, test=test)
    assert (result.difference, result.p_value) == (0.0, 1.0)


def test_unpaired_runs_are_refused():
  with pytest.raises(DataError, match="got 3 and 4"):
    compare(np.ones(3), np.ones(4))
  with pytest.raises(ConfigError, match="Did you mean 'wilcoxon'"):
    compare(np.ones(3), np.zeros(3), test="wilcoxn")


def test_holm_steps_down():
  """Rejects as the procedure is written: until the first that fails."""
  rng = np.random.default_rng(6)
  for _ in range(50):
    p = rng.random(7) ** 3
    p[5] = p[0]
    corrected = holm(p)
    for level in (0.01, 0.05, 0.3):
      rejected = np.zeros(7, bool)
      for rank, place in enumerate(np.argsort(p, kind="stable")):
        if p[place] > level / (7 - rank):
          break
        rejected[place] = True
      np.testing.assert_array_equal(corrected <= level, rejected)
  found = holm(np.array([0.02, np.nan, 0.01]))
  np.testing.assert_allclose(found, [0.02, np.nan, 0.02])
  assert holm(np.zeros(0)).shape == (0,)


def test_benjamini_hochberg_is_that_of_statsmodels():
  p_values = np.random.default_rng(0).random(40) ** 2
  expected = multipletests(p_values, method="fdr_bh")[1]
  np.testing.assert_allclose(benjamini_hochberg(p_values), expected)
  given = np.array([0.01, np.nan, 0.04])
  np.testing.assert_allclose(benjamini_hochberg(given), [0.02, np.nan, 0.04])
  assert np.isnan(benjamini_hochberg(np.full(2, np.nan))).all()


def test_the_number_of_cores_changes_no_draw(monkeypatch):
  values = np.random.default_rng(0).normal(size=(2, 70))
  expected = bootstrap_intervals(values, num_resamples=200)
  monkeypatch.setattr("os.cpu_count", lambda: 1)
  assert bootstrap_intervals(values, num_resamples=200) == expected
