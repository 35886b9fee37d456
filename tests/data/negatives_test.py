import numpy as np
import pytest

from recjax.data.interactions import Interactions
from recjax.data.negatives import item_counts, popularity_probabilities
from recjax.errors import ConfigError, DataError


def test_counts_of_some_rows():
  data = Interactions.from_columns(
    "toy",
    {
      "user_id": np.array([1, 1, 1, 2, 2]),
      "item_id": np.array([3, 1, 3, 3, 2]),
    },
    num_items=5,
  )
  assert item_counts(data, np.arange(5)).tolist() == [0, 1, 1, 3, 0, 0]
  assert item_counts(data, np.array([0, 4])).tolist() == [0, 0, 1, 1, 0, 0]
  assert item_counts(data, np.zeros(0, np.int64)).tolist() == [0] * 6


def test_probabilities_by_the_formula():
  counts = np.array([7, 1, 0, 3])
  np.testing.assert_allclose(
    popularity_probabilities(counts), [0, 1 / 4, 0, 3 / 4]
  )
  np.testing.assert_allclose(
    popularity_probabilities(counts, alpha=0.0), [0, 1 / 3, 1 / 3, 1 / 3]
  )
  weights = np.array([0, 2**0.75, 1, 4**0.75])
  np.testing.assert_allclose(
    popularity_probabilities(counts, alpha=0.75, add=1.0),
    weights / weights.sum(),
  )


def test_bad_counts_are_refused():
  with pytest.raises(DataError, match="no item was ever counted"):
    popularity_probabilities(np.array([5, 0, 0]))
  with pytest.raises(DataError, match="0 or more"):
    popularity_probabilities(np.array([0, 2, -1]))
  with pytest.raises(DataError, match="after one for padding"):
    popularity_probabilities(np.array([3]))
  with pytest.raises(ConfigError, match="alpha"):
    popularity_probabilities(np.array([0, 1]), alpha=-1.0)
