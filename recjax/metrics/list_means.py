r"""The mean over the items of a list, of a number that each item has.

\bar{x}(L) = 1 / |L| \sum_{i \in L} x_i
"""

import numpy as np
from jaxtyping import Float, Int, Num


def list_means(
  lists: Int[np.ndarray, "query k"], of_item: Num[np.ndarray, " vocab"]
) -> Float[np.ndarray, " query"]:
  """The mean of each list; see the module.

  Args:
    lists: item ids; 0 is no item.
    of_item: the number of each item id; entry 0 is not looked at.

  Returns:
    One value a query; NaN of a list without an item, which has no mean.
  """
  listed = lists > 0
  sums = np.where(listed, of_item[lists], 0).sum(1, dtype=np.float64)
  num = listed.sum(1)
  return np.where(num > 0, sums / np.maximum(num, 1), np.nan)
