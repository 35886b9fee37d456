r"""What the catalogue gets of all lists: coverage, and Gini's index.

With x_i the number of lists that item i of a catalogue of n stands in,

  coverage = |{i : x_i > 0}| / n
  Gini     = 1 / (n - 1) \sum_j (2 j - n - 1) x_(j) / \sum_i x_i

with x_(1) <= ... <= x_(n). Gini's index is 0 where all items are shown alike
and 1 where one of them has every place.

References:
  Mouzhi Ge, Carla Delgado-Battenfeld, Dietmar Jannach. Beyond Accuracy:
  Evaluating Recommender Systems by Coverage and Serendipity. RecSys 2010.
  https://doi.org/10.1145/1864708.1864761
  Guy Shani, Asela Gunawardana. Evaluating Recommendation Systems. Recommender
  Systems Handbook, 2011. https://doi.org/10.1007/978-0-387-85820-3_8
"""

import numpy as np
from jaxtyping import Int, Num

from recjax.errors import DataError


def times_listed(
  lists: Int[np.ndarray, "query k"], *, num_items: int
) -> Int[np.ndarray, " vocab"]:
  """How many lists each item id stands in; entry 0 is 0.

  Args:
    lists: item ids, each at most once in a row; 0 is no item.
    num_items: ids run from 1 to it.
  """
  times = np.bincount(lists.ravel(), minlength=num_items + 1)
  times[0] = 0
  return times


def coverage(times: Num[np.ndarray, " item"]) -> float:
  """The share of the catalogue that stands in any list.

  Args:
    times: how often each item of the catalogue was listed.

  Raises:
    DataError: the catalogue has no item.
  """
  _check(times)
  return float(np.count_nonzero(times) / len(times))


def gini(times: Num[np.ndarray, " item"]) -> float:
  """Gini's index; see the module.

  Args:
    times: how often each item of the catalogue was listed, 0 or more.

  Returns:
    A value in [0, 1]; 0 where nothing is listed, and of a single item.

  Raises:
    DataError: the catalogue has no item.
  """
  _check(times)
  num, total = len(times), float(times.sum())
  if num == 1 or total == 0:
    return 0.0
  place = np.arange(1, num + 1)
  weighted = np.sum((2 * place - num - 1) * np.sort(times))
  return float(weighted / ((num - 1) * total))


def _check(times: Num[np.ndarray, " item"]) -> None:
  if not len(times):
    raise DataError("a catalogue without an item has no coverage.")
