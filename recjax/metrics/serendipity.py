r"""Serendipity: what is right and was not to be expected.

Of a list L, the items that are relevant and that a primitive model, here a
ranking by popularity, does not recommend too:

  serendipity(L) = |(L \ P) \cap T| / |L|

with P the list of the primitive model and T the relevant items. It is the
precision that goes beyond that model: 0 for the model itself.

References:
  Mouzhi Ge, Carla Delgado-Battenfeld, Dietmar Jannach. Beyond Accuracy:
  Evaluating Recommender Systems by Coverage and Serendipity. RecSys 2010.
  https://doi.org/10.1145/1864708.1864761
  Marius Kaminskas, Derek Bridge. Diversity, Serendipity, Novelty, and Coverage:
  A Survey and Empirical Analysis of Beyond-Accuracy Objectives in Recommender
  Systems. ACM TiiS 2016. https://doi.org/10.1145/2926720
"""

import numpy as np
from jaxtyping import Float, Int


def serendipity(
  lists: Int[np.ndarray, "query k"],
  expected: Int[np.ndarray, "query other"],
  target_query: Int[np.ndarray, " target"],
  target_item: Int[np.ndarray, " target"],
) -> Float[np.ndarray, " query"]:
  """The share of each list that is relevant and unexpected; see the module.

  Args:
    lists: item ids, each at most once in a row; 0 is no item.
    expected: what the primitive model recommends for the same queries.
    target_query: the row of `lists` that a relevant item belongs to.
    target_item: the relevant item.

  Returns:
    One value a query, in [0, 1]; NaN of an empty list.
  """
  width = 1 + max(
    int(ids.max(initial=0)) for ids in (lists, expected, target_item)
  )
  rows = np.arange(len(lists), dtype=np.int64)[:, None] * width
  relevant = np.isin(rows + lists, target_query * width + target_item)
  surprising = relevant & ~np.isin(rows + lists, rows + expected)
  listed = lists > 0
  num = listed.sum(1)
  found = (surprising & listed).sum(1)
  return np.where(num > 0, found / np.maximum(num, 1), np.nan)
