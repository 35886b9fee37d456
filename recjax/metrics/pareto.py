r"""Which of several points no other beats, and what they cover.

With larger values better, a is dominated by b where b >= a in all values and
b > a in one at least. Equal points do not dominate each other: all of them are
kept or none. A point with a NaN is compared with no other and never kept.

The hypervolume of points above a reference r is the measure of

  {z : r <= z <= a for one of the points a}.

References:
  Eckart Zitzler, Lothar Thiele. Multiobjective Evolutionary Algorithms: A
  Comparative Case Study and the Strength Pareto Approach. IEEE Transactions
  on Evolutionary Computation 1999. https://doi.org/10.1109/4235.797969
"""

import numpy as np
from jaxtyping import Bool, Float


def non_dominated(
  values: Float[np.ndarray, "point task"],
) -> Bool[np.ndarray, " point"]:
  """Which points no other dominates; O(n^2).

  Args:
    values: one row a point, larger is better.

  Returns:
    True for each point of the front; see the module for ties and NaN.
  """
  num = len(values)
  at_least = np.ones((num, num), bool)  # [point, rival]
  above = np.zeros((num, num), bool)
  for column in values.T:
    at_least &= column[None, :] >= column[:, None]
    above |= column[None, :] > column[:, None]
  kept = ~np.any(at_least & above, axis=1) & ~np.any(np.isnan(values), axis=1)
  return np.asarray(kept)


def hypervolume(
  values: Float[np.ndarray, "point 2"], reference: tuple[float, float]
) -> float:
  """The area that points of two values cover above a reference.

  Args:
    values: one row a point, larger is better; those with a NaN cover nothing.
    reference: the lower corner, such as (0.5, 0.5) for AUCs.

  Returns:
    The area; 0 without a point above the reference.
  """
  above = values[(values > np.asarray(reference)).all(axis=1)]
  above = above[np.argsort(-above[:, 0], kind="stable")]
  tops = np.maximum.accumulate(above[:, 1])
  # From right to left each point adds what is above those before it.
  grown = np.diff(tops, prepend=reference[1])
  return float(np.sum((above[:, 0] - reference[0]) * grown))
