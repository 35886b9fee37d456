"""How sure a number is, and whether two runs differ: per-user statistics."""

import dataclasses
import os
from concurrent import futures

import numpy as np
import scipy.stats
from jaxtyping import Float

from recjax.errors import DataError, check_choice, check_range

TESTS = ("permutation", "t", "wilcoxon")
_AT_ONCE = 64  # Resamples of one source of random numbers.


def holm(p_values: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
  r"""P-values under which the family-wise error rate of all tests holds.

  Sorted p_(1) <= ... <= p_(m) become max_{j <= i} (m + 1 - j) p_(j), at most 1.

  Args:
    p_values: of m tests; a NaN is no test, and stays.

  Returns:
    The corrected values, in the given order.

  References:
    Sture Holm. A Simple Sequentially Rejective Multiple Test Procedure.
    Scandinavian Journal of Statistics 1979. https://www.jstor.org/stable/4615733
  """
  known = np.flatnonzero(~np.isnan(p_values))
  order = known[np.argsort(p_values[known], kind="stable")]
  factors = np.arange(len(order), 0, -1)
  corrected = p_values.astype(np.float64)
  raised = np.maximum.accumulate(factors * p_values[order])
  corrected[order] = np.minimum(raised, 1.0)
  return corrected


def benjamini_hochberg(
  p_values: Float[np.ndarray, " test"],
) -> Float[np.ndarray, " test"]:
  r"""P-values under which the false discovery rate of all tests holds.

  Sorted p_(1) <= ... <= p_(m) become min_{j >= i} m p_(j) / j. Of the tests
  found under .05, 5% are false on average, if tests do not hang together
  negatively; `holm` guards against even one.

  Args:
    p_values: of m tests; a NaN is no test, and stays.

  Returns:
    The corrected values, in the given order.

  References:
    Yoav Benjamini, Yosef Hochberg. Controlling the False Discovery Rate. JRSS B
    1995. https://doi.org/10.1111/j.2517-6161.1995.tb02031.x
  """
  corrected = p_values.astype(np.float64)
  known = ~np.isnan(corrected)
  if known.any():
    corrected[known] = scipy.stats.false_discovery_control(corrected[known])
  return corrected


def bootstrap_interval(
  values: Float[np.ndarray, " user"],
  *,
  confidence: float = 0.95,
  num_resamples: int = 1000,
  seed: int = 0,
) -> tuple[float, float]:
  """The percentile bootstrap interval of the mean over users.

  Args:
    values: one a user.
    confidence: the share of resampled means inside the interval.
    num_resamples: how often the users are drawn anew.
    seed: of the draws; the same values and seed give the same interval.

  Returns:
    The lower and the upper end.

  Raises:
    ConfigError: an option is out of range.

  References:
    Bradley Efron. Better Bootstrap Confidence Intervals. JASA 1987.
  """
  return bootstrap_intervals(
    values[None, :],
    confidence=confidence,
    num_resamples=num_resamples,
    seed=seed,
  )[0]


def bootstrap_intervals(
  values: Float[np.ndarray, "metric user"],
  *,
  confidence: float = 0.95,
  num_resamples: int = 1000,
  seed: int = 0,
) -> list[tuple[float, float]]:
  """`bootstrap_interval` of several metrics of the same users.

  Args:
    values: one row a metric.
    confidence: the share of resampled means inside the interval.
    num_resamples: how often the users are drawn anew.
    seed: of the draws.

  Returns:
    The lower and the upper end, for each metric.

  Raises:
    ConfigError: an option is out of range.
  """
  check_range("confidence", confidence, 0.0, 1.0)
  check_range("num_resamples", num_resamples, 1, integer=True)
  if values.shape[1] < 2:
    return [(float(row.mean()), float(row.mean())) for row in values]
  means = _resampled_means(values.astype(np.float64), num_resamples, seed)
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail], axis=1)
  return [(float(a), float(b)) for a, b in zip(low, high)]


def _resampled_means(
  values: Float[np.ndarray, "metric user"], num_resamples: int, seed: int
) -> Float[np.ndarray, "metric resample"]:
  """Means of users drawn anew, on all cores; they do not change the draws."""
  num_users = values.shape[1]

  def some(number: int, source: np.random.SeedSequence) -> np.ndarray:
    random = np.random.default_rng(source)
    means = np.empty((len(values), number))
    for place in range(number):
      drawn = random.integers(0, num_users, num_users, dtype=np.uint32)
      drawn = drawn.astype(np.intp)  # As an index, eight times as fast.
      for row, mean in zip(values, means):
        mean[place] = row.take(drawn).mean()
    return means

  numbers = [
    min(_AT_ONCE, num_resamples - start)
    for start in range(0, num_resamples, _AT_ONCE)
  ]
  sources = np.random.SeedSequence(seed).spawn(len(numbers))
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    return np.concatenate(list(pool.map(some, numbers, sources)), axis=1)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Whether the per-user values of two runs differ.

  Attributes:
    difference: the mean of a - b over users.
    interval: its 95% bootstrap interval.
    p_value: two-sided, of the hypothesis that neither is better.
    test: "permutation", "t" or "wilcoxon".
    num_users: how many pairs there are.
  """

  difference: float
  interval: tuple[float, float]
  p_value: float
  test: str
  num_users: int


def compare(
  a: Float[np.ndarray, " user"],
  b: Float[np.ndarray, " other"],
  *,
  test: str = "permutation",
  num_resamples: int = 2000,
  seed: int = 0,
) -> Comparison:
  """A paired test between two runs over the same users in the same order.

  Args:
    a: the values of one run, one a user.
    b: those of the other.
    test: "permutation" flips the signs of the users' differences at random;
      "t" is Student's paired test; "wilcoxon" the signed-rank test.
    num_resamples: random flips, and draws for the interval.
    seed: of both.

  Returns:
    Difference, interval and p-value.

  Raises:
    DataError: the runs do not hold values of the same users.
    ConfigError: an unknown test.

  References:
    Mark Smucker, James Allan, Ben Carterette. A Comparison of Statistical
    Significance Tests for Information Retrieval Evaluation. CIKM 2007.
    https://doi.org/10.1145/1321440.1321528
  """
  check_choice("test", test, TESTS)
  if a.shape != b.shape or not len(a):
    raise DataError(
      "a paired comparison needs one value a user from both runs, in the same"
      f" order; got {len(a)} and {len(b)}."
    )
  difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
  if not difference.any():
    return Comparison(0.0, (0.0, 0.0), 1.0, test, len(a))
  if test == "permutation":
    result = scipy.stats.permutation_test(
      (difference,),
      np.mean,
      permutation_type="samples",
      vectorized=True,
      n_resamples=num_resamples,
      batch=max(1, 2**21 // len(a)),
      rng=np.random.default_rng(seed),
    )
  elif test == "t":
    result = scipy.stats.ttest_rel(a.astype(float), b.astype(float))
  else:
    result = scipy.stats.wilcoxon(difference)
  p_value = float(result.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
  interval = bootstrap_interval(
    difference, num_resamples=num_resamples, seed=seed
  )
  return Comparison(float(difference.mean()), interval, p_value, test, len(a))
