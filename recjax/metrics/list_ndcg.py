r"""NDCG of labelled examples, list by list: such as the rows of a request.

For a list with labels y >= 0, ordered by falling scores,

  NDCG = \sum_r y_(r) / log2(1 + r) / \sum_r y*_(r) / log2(1 + r)

with r from 1 and y* the labels in falling order. Where scores tie, each of the
tied examples takes the mean discount of their places, which is the mean over
all of their orders (see `recjax.metrics.ranks`). A list without a label above
0 has no best order, and is left out.

References:
  Kalervo Järvelin, Jaana Kekäläinen. Cumulated Gain-based Evaluation of IR
  Techniques. TOIS 2002. https://doi.org/10.1145/582415.582418
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from recjax.metrics.sums import range_sums
from recjax.metrics.tied_runs import tied_runs


class ListNDCGs(NamedTuple):
  """One value a list that has a label above 0.

  Attributes:
    value: in [0, 1].
    group: which list it is.
    num_left_out: lists without a label above 0.
  """

  value: Float[np.ndarray, " list"]
  group: Int[np.ndarray, " list"]
  num_left_out: int


def list_ndcgs(
  score: Float[np.ndarray, " batch"],
  label: Float[np.ndarray, " batch"],
  group: Int[np.ndarray, " batch"],
) -> ListNDCGs:
  """The NDCG of each list over all of its places; see the module.

  Args:
    score: any real scores, none of them NaN.
    label: gains, 0 or more.
    group: which list an example is of; any integers.

  Returns:
    The values, by list.
  """
  gains, lists = _gains(-score, label, group)
  best, _ = _gains(-label, label, group)
  some = best > 0
  return ListNDCGs(gains[some] / best[some], lists[some], int((~some).sum()))


def _gains(key, label, group):
  """The discounted gain of each list in the order of a key."""
  order = np.lexsort((key, group))
  key, label, group = key[order], label[order], group[order]
  lists, ties = tied_runs(group), tied_runs(group, key)
  place = np.arange(len(key)) - lists.first
  discounts = range_sums(1.0 / np.log2(place + 2.0))
  mean = discounts(ties.first, ties.stop) / (ties.stop - ties.first)
  starts = np.flatnonzero(lists.first == np.arange(len(key)))
  sums = range_sums(mean * label)
  return sums(starts, lists.stop[starts]), group[starts]
