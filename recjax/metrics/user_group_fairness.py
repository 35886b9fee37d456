r"""Fairness to groups of users: whether a metric is the same for all of them.

With M_g the mean of a metric over the users of group g,

  gap   = max_g M_g - min_g M_g   (0 is fair)
  ratio = min_g M_g / max_g M_g   (1 is fair; of metrics that are not negative)

References:
  Michael Ekstrand et al. All The Cool Kids, How Do They Fit In? Popularity and
  Demographic Biases in Recommender Evaluation and Effectiveness. FAT* 2018.
  https://proceedings.mlr.press/v81/ekstrand18b.html
  Yunqi Li et al. User-oriented Fairness in Recommendation. WWW 2021.
  https://doi.org/10.1145/3442381.3449866
"""

import numpy as np
from jaxtyping import Float


def group_gap(
  means: Float[np.ndarray, "*resample value"],
) -> Float[np.ndarray, "*resample"]:
  """The largest mean of a group less the smallest; see the module.

  Args:
    means: of each group; NaN of a group without users, which is left out.

  Returns:
    Values of 0 or more; NaN without any group.
  """
  low, high = _ends(means)
  return np.asarray(high - low)


def group_ratio(
  means: Float[np.ndarray, "*resample value"],
) -> Float[np.ndarray, "*resample"]:
  """The smallest mean of a group by the largest; see the module.

  Args:
    means: of each group, 0 or more; NaN of a group without users, which is
      left out.

  Returns:
    Values in [0, 1]; 1 where all means are 0, NaN without any group.
  """
  low, high = _ends(means)
  return np.asarray(
    np.where(high == 0, 1.0, low / np.where(high == 0, 1, high))
  )


def _ends(means: Float[np.ndarray, "*resample value"]):
  none = np.isnan(means).all(-1)
  low = np.where(np.isnan(means), np.inf, means).min(-1)
  high = np.where(np.isnan(means), -np.inf, means).max(-1)
  return np.where(none, np.nan, low), np.where(none, np.nan, high)
