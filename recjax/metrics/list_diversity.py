r"""Intra-list diversity: how unlike each other the items of a list are.

The mean distance of two items of a list L,

  ILD(L) = 2 / (m (m - 1)) \sum_{i < j} d(i, j)

over the m items of L that have a feature. With x the features of an item, such
as its genres as zeros and ones, the distance is

  cosine   d(i, j) = 1 - <x_i, x_j> / (|x_i| |x_j|)
  jaccard  d(i, j) = 1 - |x_i \cap x_j| / |x_i \cup x_j|,  of x in {0, 1}

Items without a feature are like nothing and unlike nothing, so their pairs are
left out. It falls with the list's self-similarity of Ziegler et al., which sums
similarities where this is a mean of distances.

References:
  Cai-Nicolas Ziegler et al. Improving Recommendation Lists Through Topic
  Diversification. WWW 2005. https://doi.org/10.1145/1060745.1060754
  Saúl Vargas, Pablo Castells. Rank and Relevance in Novelty and Diversity
  Metrics for Recommender Systems. RecSys 2011.
  https://doi.org/10.1145/2043932.2043955
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from recjax.errors import check_choice

DISTANCES = ("cosine", "jaccard")
# Numbers in memory at once.
_BLOCK = 1 << 22


def intra_list_diversity(
  lists: Int[np.ndarray, "query k"],
  features: Num[np.ndarray, "vocab dim"] | Bool[np.ndarray, "vocab dim"],
  *,
  distance: str = "cosine",
) -> Float[np.ndarray, " query"]:
  """The mean distance of two items of each list; see the module.

  Args:
    lists: item ids, each at most once in a row; 0 is no item.
    features: of each item id; a row of zeros has none. Of booleans where
      `distance` is "jaccard".
    distance: "cosine" or "jaccard".

  Returns:
    One value a query, in [0, 1] of features that are not negative; NaN of a
    list of fewer than two items with features.

  Raises:
    ConfigError: the distance is unknown.
  """
  check_choice("distance", distance, DISTANCES)
  similarity = {"cosine": _cosines, "jaccard": _jaccards}[distance]
  k = lists.shape[1]
  size = max(1, _BLOCK // (k * (features.shape[1] + k)))
  has = np.count_nonzero(features, axis=1) > 0
  has[0] = False
  out = np.full(len(lists), np.nan)
  for start in range(0, len(lists), size):
    rows = slice(start, start + size)
    counted = has[lists[rows]]
    num = counted.sum(1)
    pairs = num * (num - 1)
    x = np.where(counted[:, :, None], features[lists[rows]], 0)
    mean = similarity(x.astype(np.float64)) / np.maximum(pairs, 1)
    out[rows] = np.where(pairs > 0, 1.0 - mean, np.nan)
  return out


def _cosines(
  x: Float[np.ndarray, "query k dim"],
) -> Float[np.ndarray, " query"]:
  """Summed over all ordered pairs; those of an empty item are 0."""
  norm = np.sqrt(np.sum(x * x, -1, keepdims=True))
  unit = x / np.where(norm > 0, norm, 1.0)
  # |sum of unit vectors|^2 holds all pairs, and each item with itself.
  total = unit.sum(1)
  own = np.sum(unit * unit, (1, 2))
  return np.sum(total * total, -1) - own


def _jaccards(
  x: Float[np.ndarray, "query k dim"],
) -> Float[np.ndarray, " query"]:
  """Summed over all ordered pairs; those of an empty item are 0."""
  both = x @ x.transpose(0, 2, 1)
  sizes = x.sum(-1)
  either = sizes[:, :, None] + sizes[:, None, :] - both
  shares = both / np.maximum(either, 1.0)
  return shares.sum((1, 2)) - (sizes > 0).sum(1)
