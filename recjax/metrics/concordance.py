r"""The share of pairs that scores put in the order of their labels.

  C = \sum_{i,j: y_i > y_j} w_i w_j ([s_i > s_j] + [s_i = s_j] / 2)
      / \sum_{i,j: y_i > y_j} w_i w_j

which is the AUC where labels are 0 and 1, and tells as much of real ones, such
as seconds watched. With labels that are all equal it is **undefined**: NaN.

Two different labels, counted from 0 without gaps, part at one bit: above it
they are equal. So the pairs that part at a bit are those of a grouped AUC, and
all pairs are counted by sorting once for each bit, in O(n log n log k) for k
different labels.

Its variance is that of the first terms of Hoeffding's decomposition. With c_i
the mass of the pairs of i in the right order, and d_i that of all its pairs of
different labels, C = \sum c_i / \sum d_i and

  var = \sum_i (2 (c_i - C d_i) / \sum_j d_j)^2.

References:
  Frank Harrell et al. Evaluating the Yield of Medical Tests. JAMA 1982.
  https://doi.org/10.1001/jama.1982.03320430047030
  Wassily Hoeffding. A Class of Statistics with Asymptotically Normal
  Distribution. Annals of Mathematical Statistics 1948.
  https://doi.org/10.1214/aoms/1177730196
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recjax.metrics.sums import range_sums
from recjax.metrics.tied_runs import tied_runs


class Concordance(NamedTuple):
  """A share of pairs in the right order, and how sure it is.

  Attributes:
    value: in [0, 1]; NaN where all labels are equal.
    variance: of that number; NaN likewise.
  """

  value: float
  variance: float


def concordance(
  score: Float[np.ndarray, " batch"],
  label: Float[np.ndarray, " batch"],
  weight: Float[np.ndarray, " batch"] | None = None,
) -> Concordance:
  """The share of pairs in the order of their labels; see the module.

  Args:
    score: any real scores; only their order matters.
    label: any real labels.
    weight: of each example, above 0; all 1 without it.

  Returns:
    Value and variance; NaN where a score is NaN, or all labels are equal.
  """
  nan = Concordance(float("nan"), float("nan"))
  if np.isnan(score).any() or not len(score):
    return nan
  order = np.argsort(score, kind="stable")
  score = score[order]
  found, rank = np.unique(label[order], return_inverse=True)
  weight = np.ones(len(score)) if weight is None else weight[order]
  weight = weight.astype(np.float64)
  right, pairs = np.zeros(len(score)), np.zeros(len(score))
  for bit in range(int(len(found) - 1).bit_length()):
    # Stable: within a group the scores stay in order.
    place = np.argsort(rank >> (bit + 1), kind="stable")
    is_upper = (rank[place] >> bit) & 1 == 1
    group = rank[place] >> (bit + 1)
    c, d = _at_one_bit(score[place], group, is_upper, weight[place])
    right[place] += c
    pairs[place] += d
  total = float(pairs.sum())
  if not total:
    return nan
  value = float(right.sum()) / total
  influence = 2.0 * (right - value * pairs) / total
  return Concordance(value, float(np.sum(influence**2)))


def _at_one_bit(score, group, is_upper, weight):
  """Of each example the masses of its right pairs, and of all its pairs."""
  upper, lower = weight * is_upper, weight * ~is_upper
  groups, ties = tied_runs(group), tied_runs(group, score)
  between = range_sums(np.stack([upper, lower]))
  whole = between(groups.first, groups.stop)
  tied = between(ties.first, ties.stop) / 2
  below = between(groups.first, ties.first) + tied
  # An upper label is right above lower ones, and the other way round.
  right = np.where(is_upper, below[1], whole[0] - below[0])
  return weight * right, weight * np.where(is_upper, whole[1], whole[0])
