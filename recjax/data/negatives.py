"""Item popularity: what negatives are drawn by and what logQ corrects.

Negatives themselves are drawn on the device, inside the training step.
"""

import numpy as np
from jaxtyping import Float, Int, Num

from recjax.data.interactions import Interactions
from recjax.errors import DataError, check_range


def item_counts(
  interactions: Interactions, rows: Int[np.ndarray, " row"]
) -> Int[np.ndarray, " vocab"]:
  """How often each item occurs in some rows; entry 0 (padding) is 0.

  Args:
    interactions: the data.
    rows: which rows to count; give those of training alone, or the counts
      know the held-out events (`leakage_report` tells).
  """
  return np.bincount(
    interactions.item_id[rows], minlength=interactions.num_items + 1
  ).astype(np.int64)


def popularity_probabilities(
  counts: Num[np.ndarray, " vocab"],
  alpha: float = 1.0,
  add: float = 0.0,
) -> Float[np.ndarray, " vocab"]:
  """q(i) proportional to (counts[i] + add) ** alpha; q(0) = 0.

  Args:
    counts: occurrences of each item; entry 0 (padding) is not looked at.
    alpha: 1 draws by popularity, 0 uniformly (also items that never occur),
      0.75 is what word2vec does.
    add: added to each count, so that items that never occur are drawn too.

  Returns:
    Probabilities, float64, that sum to 1.

  Raises:
    DataError: a count is negative, or all weights are 0.

  References:
    Mikolov et al., Distributed Representations of Words and Phrases and their
    Compositionality, 2013, https://arxiv.org/abs/1310.4546.
  """
  check_range("alpha", alpha, 0)
  check_range("add", add, 0)
  if len(counts) < 2 or counts[1:].min() < 0:
    raise DataError(
      "counts must hold a number of 0 or more for each item, after one for"
      f" padding; got {counts}."
    )
  weights = np.zeros(len(counts))
  weights[1:] = (counts[1:].astype(np.float64) + add) ** alpha
  total = weights.sum()
  if total == 0:
    raise DataError(
      "no item was ever counted, so none can be drawn by popularity; give the"
      " counts of the training rows, or add > 0."
    )
  return weights / total
