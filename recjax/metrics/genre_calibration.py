r"""Calibration of genres: whether a list has them in the user's proportions.

With p(g|i) uniform over the genres of an item, those of the history H and of
the list L of a user are

  p(g) = 1 / |H| \sum_{i \in H} p(g|i),   q(g) = 1 / |L| \sum_{i \in L} p(g|i)

over the items that have a genre, and the miscalibration is, in nats,

  C(p, q) = \sum_g p(g) log(p(g) / q~(g)),   q~ = (1 - alpha) q + alpha p.

It is 0 for a list in the user's proportions and log(1 / alpha) at most, where
the list has none of the user's genres. All items weigh alike.

References:
  Harald Steck. Calibrated Recommendations. RecSys 2018.
  https://doi.org/10.1145/3240323.3240372
"""

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

from recjax.errors import check_range

ALPHA = 0.01
"""What Steck smooths by."""


def shares_of_values(
  member: Bool[np.ndarray, "vocab value"],
) -> Float[np.ndarray, "vocab value"]:
  """p(g|i): 1 in all, split evenly over what an item has; 0 of one with none.

  Args:
    member: which values each item id has, such as genres.
  """
  num = np.count_nonzero(member, axis=1)[:, None]
  return member / np.maximum(num, 1)


def mean_shares(
  query: Int[np.ndarray, " event"],
  item: Int[np.ndarray, " event"],
  shares: Float[np.ndarray, "vocab value"],
  *,
  num_queries: int,
) -> Float[np.ndarray, "query value"]:
  """The mean of p(g|i) over items of each query, those without any left out.

  Args:
    query: whose the item is, from 0.
    item: its id; an item that comes twice counts twice.
    shares: of `shares_of_values`.
    num_queries: how many rows to give.

  Returns:
    Rows that sum to 1, or of zeros where no item has a value.
  """
  times = scipy.sparse.csr_array(
    (np.ones(len(query)), (query, item)), (num_queries, len(shares))
  )
  sums = np.asarray(times @ shares)
  total = sums.sum(1, keepdims=True)
  return sums / np.where(total > 0, total, 1.0)


def miscalibration(
  wanted: Float[np.ndarray, "query value"],
  given: Float[np.ndarray, "query value"],
  *,
  alpha: float = ALPHA,
) -> Float[np.ndarray, " query"]:
  """C(p, q) of each query, in nats; see the module.

  Args:
    wanted: p, of the history; rows that sum to 1, or to 0.
    given: q, of the list, likewise.
    alpha: how much of p is mixed into q, above 0.

  Returns:
    One value a query, in [0, log(1 / alpha)]; NaN where the history has no
    value to be calibrated to.

  Raises:
    ConfigError: `alpha` is out of range.
  """
  check_range("alpha", alpha, 1e-12, 1.0)
  mixed = (1.0 - alpha) * given + alpha * wanted
  some = wanted > 0
  ratio = np.where(some, wanted, 1.0) / np.where(some, mixed, 1.0)
  found = np.sum(np.where(some, wanted, 0.0) * np.log(ratio), 1)
  # Rounding may take what is equal a little below 0.
  return np.where(some.any(1), np.maximum(found, 0.0), np.nan)
