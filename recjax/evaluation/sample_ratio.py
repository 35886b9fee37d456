"""Whether the arms of an A/B test have the sizes that they were meant to have.

Aleksander Fabijan, Jayant Gupchup, Somit Gupta, Jeff Omhover, Wen Qin, Lukas
Vermeer, Pavel Dmitriev: Diagnosing Sample Ratio Mismatch in Online Controlled
Experiments, KDD 2019, https://doi.org/10.1145/3292500.3330722

Units are dealt to arms at random, so counts are multinomial; counts that the
chi-square test finds too far off tell of a fault in dealing or logging, and
then no other number of the experiment is to be believed.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.stats
from jaxtyping import Int

from recjax.errors import ConfigError, DataError, check_range


@dataclasses.dataclass(frozen=True)
class SampleRatio:
  """What the test says.

  Attributes:
    expected: units of each arm if they are dealt as planned.
    p_value: of Pearson's chi-square test.
    is_mismatch: whether it lies under the threshold.
  """

  expected: tuple[float, ...]
  p_value: float
  is_mismatch: bool


def sample_ratio(
  counts: Sequence[int] | Int[np.ndarray, " arm"],
  shares: Sequence[float | int] | None = None,
  threshold: float = 0.001,
) -> SampleRatio:
  """Tests the sizes of arms.

  Args:
    counts: units seen in each of two or more arms.
    shares: planned, in any scale, such as (9, 1); equal without them.
    threshold: of the p-value. It is small, for the test is made for each
      experiment and a false alarm throws one away.

  Raises:
    ConfigError: shares of another length, a share that is not positive, or a
      threshold out of range.
    DataError: fewer than two arms, a negative count, or so few units that five
      are expected nowhere, so that the test does not hold.
  """
  check_range("threshold", threshold, 0.0, 1.0)
  seen = np.asarray(counts, np.float64)
  if len(seen) < 2 or (seen < 0).any():
    raise DataError(
      f"counts must be those of two or more arms, none negative; got {counts}."
    )
  planned = np.ones(len(seen)) if shares is None else np.asarray(shares, float)
  if len(planned) != len(seen) or not (planned > 0).all():
    raise ConfigError(
      f"shares must be {len(seen)} positive numbers, one an arm; got {shares}."
    )
  expected = seen.sum() * planned / planned.sum()
  if expected.min() < 5:
    raise DataError(
      "the chi-square test needs 5 expected units in each arm; got"
      f" {expected.min():.3g} in the smallest."
    )
  p_value = float(scipy.stats.chisquare(seen, expected).pvalue)
  return SampleRatio(tuple(expected.tolist()), p_value, p_value < threshold)
