r"""Popularity bias: how popular what is recommended is, and beside a history.

The average recommendation popularity of a list L is that of its items,

  ARP(L) = 1 / |L| \sum_{i \in L} phi(i),   phi(i) = n_i / n,

with n_i of n users having had item i in training; and the lift over the
history H of the user, who may like what is popular,

  lift(L, H) = (ARP(L) - ARP(H)) / ARP(H).

0 is a list as popular as the history, 1 one twice as popular.

Deviations from the paper: Abdollahpouri et al. form the lift of a group of
users, from the group's mean ARP of lists and of histories. Here each user has
one, so that it has an interval and paired tests as all other metrics.

References:
  Himan Abdollahpouri, Masoud Mansoury, Robin Burke, Bamshad Mobasher. The
  Unfairness of Popularity Bias in Recommendation. RMSE workshop at RecSys 2019.
  https://arxiv.org/abs/1907.13286
  The same. The Connection Between Popularity Bias, Calibration, and Fairness in
  Recommendation. RecSys 2020. https://doi.org/10.1145/3383313.3418487
"""

import numpy as np
from jaxtyping import Float, Int

from recjax.metrics.list_means import list_means


def average_popularity(
  lists: Int[np.ndarray, "query k"], popularity: Float[np.ndarray, " vocab"]
) -> Float[np.ndarray, " query"]:
  """ARP of each list; see the module.

  Args:
    lists: item ids; 0 is no item.
    popularity: phi of each item id, in [0, 1].

  Returns:
    One value a query, in [0, 1]; NaN of an empty list.
  """
  return list_means(lists, popularity)


def popularity_lift(
  lists: Int[np.ndarray, "query k"],
  popularity: Float[np.ndarray, " vocab"],
  history_query: Int[np.ndarray, " event"],
  history_item: Int[np.ndarray, " event"],
) -> Float[np.ndarray, " query"]:
  """The lift of each list over its user's history; see the module.

  Args:
    lists: item ids; 0 is no item.
    popularity: phi of each item id, in [0, 1].
    history_query: the row of `lists` that an event of a history belongs to.
    history_item: the item of the event; one that comes twice counts twice.

  Returns:
    One value a query, at least -1; NaN of an empty list, and of a history
    without an item that anyone had.
  """
  num = np.bincount(history_query, minlength=len(lists))
  of_event = popularity[history_item]
  sums = np.bincount(history_query, of_event, minlength=len(lists))
  before = sums / np.maximum(num, 1)
  after = average_popularity(lists, popularity)
  gain = (after - before) / np.where(before > 0, before, 1.0)
  return np.where(before > 0, gain, np.nan)
