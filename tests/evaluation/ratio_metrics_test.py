"""Ratios by the delta method: against the bootstrap over units, bad input."""

import numpy as np
import pytest

from recjax.errors import DataError
from recjax.evaluation.ratio_metrics import linearized


def test_the_mean_is_the_ratio_and_the_error_that_of_the_bootstrap():
  random = np.random.default_rng(0)
  shown = random.geometric(0.1, 500)
  clicks = random.binomial(shown, random.beta(1, 9, 500))
  values = linearized(clicks, shown)
  np.testing.assert_allclose(values.mean(), clicks.sum() / shown.sum())
  draws = random.integers(0, 500, (4000, 500))
  ratios = clicks[draws].sum(axis=1) / shown[draws].sum(axis=1)
  error = values.std(ddof=1) / np.sqrt(500)
  assert error == pytest.approx(ratios.std(), rel=0.06)
  # Impressions of a user hang together: as a sample of their own they would
  # tell a smaller error.
  rate = clicks.sum() / shown.sum()
  assert error > 1.5 * np.sqrt(rate * (1 - rate) / shown.sum())


def test_a_denominator_of_one_changes_nothing():
  values = np.array([3.0, 1.0, 0.5])
  np.testing.assert_allclose(linearized(values, np.ones(3)), values)


@pytest.mark.parametrize("per", [[1, -1, 2], [0, 0, 0]])
def test_denominators_that_make_no_ratio_are_told(per):
  with pytest.raises(DataError, match="denominator"):
    linearized(np.ones(3), np.array(per))
