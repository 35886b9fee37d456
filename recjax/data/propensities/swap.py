"""Propensities of positions by swapping results.

Thorsten Joachims, Adith Swaminathan, Tobias Schnabel: Unbiased Learning-to-Rank
with Biased Feedback, WSDM 2017, https://doi.org/10.1145/3018661.3018699

In some lists the results of rank 1 and k are swapped or not at random. Over
both kinds of lists, positions 1 and k hold like results, so that

  p_k / p_1 = (c_k + c_k') / (c_1 + c_1')

with the click rates c of lists left as they were, and c' of swapped ones. Each
kind counts one half, however often it was drawn. The standard error is that of
a ratio of means (the delta method), of lists, in which both clicks may depend
on each other:

  var = sum over both kinds of var(c_k - (p_k / p_1) c_1) / n  /  (c_1 + c_1')^2

Weights of rows are not looked at.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64

from recjax.data.propensities.positions import PositionCurve, ShownRows
from recjax.errors import DataError


@dataclasses.dataclass(frozen=True)
class SwapIntervention:
  """Columns that tell of swaps, equal in all rows of a list.

  Attributes:
    swap: the rank k whose result may have changed places with that of rank 1;
      0 where nothing could.
    swapped: 1 where they did.
    lists: what list a row is of.
  """

  swap: str = "swap"
  swapped: str = "swapped"
  lists: str = "list"

  @property
  def columns(self) -> tuple[str, ...]:
    """Columns that are no features."""
    return (self.swap, self.swapped, self.lists)

  def estimate(self, rows: ShownRows) -> PositionCurve:
    """The curve, with standard errors.

    Raises:
      DataError: a column is missing, a position has too few lists of either
        kind, or a list lacks one of both positions.
    """
    ratio = np.ones(rows.num_positions)
    stderr = np.zeros(rows.num_positions)
    examples = rows.examples
    swap, swapped = (
      examples.numbers(name) for name in (self.swap, self.swapped)
    )
    lists = np.unique(examples.column(self.lists), return_inverse=True)[1]
    for k in range(2, rows.num_positions + 1):
      arms = []
      for kind in (0, 1):
        counts = (swap == k) & (swapped == kind) & (rows.weight > 0)
        arms.append(self._clicks_of_lists(rows, counts, lists, k))
        if arms[-1].shape[1] < 2:
          raise DataError(
            f"{examples.name}: position {k} has {arms[-1].shape[1]} lists with"
            f" {self.swap!r} = {k} and {self.swapped!r} = {kind}; 2 at least"
            " are needed of either kind."
          )
      top = sum(arm[0].mean() for arm in arms)
      if not top > 0:
        raise DataError(
          f"{examples.name}: position 1 has no click in lists with"
          f" {self.swap!r} = {k}, so that position {k} can not be compared."
        )
      value = sum(arm[1].mean() for arm in arms) / top
      spread = [
        np.var(arm[1] - value * arm[0], ddof=1) / arm.shape[1] for arm in arms
      ]
      ratio[k - 1], stderr[k - 1] = value, np.sqrt(sum(spread)) / top
      if not value > 0:
        raise DataError(
          f"{examples.name}: position {k} has no click in lists with"
          f" {self.swap!r} = {k}, so that its propensity can not be told."
        )
    return PositionCurve(ratio, stderr, "swap intervention")

  def _clicks_of_lists(
    self, rows: ShownRows, counts: np.ndarray, lists: np.ndarray, k: int
  ) -> Float64[np.ndarray, "2 _list"]:
    """Clicks at position 1 and k of each list."""
    found = []
    for position in (1, k):
      at = np.flatnonzero(counts & (rows.position == position))
      found.append(at[np.argsort(lists[at], kind="stable")])
    one, other = (lists[at] for at in found)
    if not np.array_equal(one, other) or (np.diff(one) == 0).any():
      raise DataError(
        f"{rows.examples.name}: each list with {self.swap!r} = {k} must have"
        f" one row at position 1 and one at {k}, with a known label; they have"
        f" {len(one)} and {len(other)} rows. {self.lists!r} is to tell lists"
        " apart."
      )
    return np.stack([rows.click[at] for at in found])
