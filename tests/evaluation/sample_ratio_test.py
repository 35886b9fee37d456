"""Sizes of arms against SciPy, by simulation, and bad input."""

import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError, DataError
from recjax.evaluation.sample_ratio import sample_ratio


def test_the_p_value_is_that_of_a_chi_square():
  found = sample_ratio((821_588, 815_482))
  assert found.p_value == scipy.stats.chisquare((821_588, 815_482)).pvalue
  assert found.is_mismatch and found.expected == (818_535.0, 818_535.0)
  planned = sample_ratio((900, 100), shares=(9, 1))
  assert planned.p_value == 1 and not planned.is_mismatch


def test_false_alarms_are_as_rare_as_asked():
  random = np.random.default_rng(0)
  counts = random.multinomial(3000, (0.5, 0.3, 0.2), size=4000)
  alarms = [
    sample_ratio(row, (5, 3, 2), threshold=0.05).is_mismatch for row in counts
  ]
  assert 0.04 < np.mean(alarms) < 0.06


@pytest.mark.parametrize(
  ("counts", "options", "error", "message"),
  [
    ((10,), {}, DataError, "two or more arms"),
    ((10, -1), {}, DataError, "none negative"),
    ((4, 4), {}, DataError, "5 expected units"),
    ((40, 40), {"shares": (1, 1, 1)}, ConfigError, "shares must be 2"),
    ((40, 40), {"shares": (1, 0)}, ConfigError, "positive"),
    ((40, 40), {"threshold": 2.0}, ConfigError, "threshold"),
  ],
)
def test_mistakes_are_told(counts, options, error, message):
  with pytest.raises(error, match=message):
    sample_ratio(counts, **options)
