r"""Novelty: how little known the items of a list are.

The mean self-information of the items of a list L, in bits:

  novelty(L) = -1 / |L| \sum_{i \in L} log2 p(i),   p(i) = (n_i + 1) / (n + 1)

with n_i of n users having had item i in training: an item that everyone had
tells nothing, one that half of them had one bit.

Deviations from the paper: Zhou et al. have p(i) = n_i / n, which gives an item
that nobody had an infinite novelty; one is added to both counts, so that it is
log2(n + 1).

References:
  Tao Zhou et al. Solving the Apparent Diversity-Accuracy Dilemma of
  Recommender Systems. PNAS 2010. https://doi.org/10.1073/pnas.1000488107
  Saúl Vargas, Pablo Castells. Rank and Relevance in Novelty and Diversity
  Metrics for Recommender Systems. RecSys 2011.
  https://doi.org/10.1145/2043932.2043955
"""

import numpy as np
from jaxtyping import Float, Int, Num

from recjax.errors import check_range
from recjax.metrics.list_means import list_means


def novelty(
  lists: Int[np.ndarray, "query k"],
  num_users_of: Num[np.ndarray, " vocab"],
  *,
  num_users: int,
) -> Float[np.ndarray, " query"]:
  """The mean self-information of each list, in bits; see the module.

  Args:
    lists: item ids; 0 is no item.
    num_users_of: how many users had each item id in training.
    num_users: how many users there are in training.

  Returns:
    One value a query, in [0, log2(num_users + 1)]; NaN of an empty list.

  Raises:
    ConfigError: `num_users` is less than an item has.
  """
  check_range("num_users", num_users, int(num_users_of[1:].max(initial=1)))
  share = (num_users_of.astype(np.float64) + 1) / (num_users + 1)
  return list_means(lists, -np.log2(share))
