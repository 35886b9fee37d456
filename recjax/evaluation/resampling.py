"""Intervals of means where a user may bring several values.

Values of one user hang together, so users are drawn anew and not values. With
S_u the sum and n_u the number of the values of user u, and w_u how often the
user is drawn, a resampled mean is sum_u w_u S_u / sum_u w_u n_u.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, Float64, Int, Num

from recjax.errors import check_range
from recjax.evaluation.significance import bootstrap_intervals

_BLOCK = 1 << 22


def user_intervals(
  values: Float[np.ndarray, "metric query"],
  user_id: Int[np.ndarray, " query"],
  *,
  confidence: float = 0.95,
  num_resamples: int = 1000,
  seed: int = 0,
) -> list[tuple[float, float]]:
  """The percentile bootstrap interval over users of each metric's mean.

  Args:
    values: one row a metric.
    user_id: the user of each value; with one value a user this is
      `bootstrap_intervals`.
    confidence: the share of resampled means inside the interval.
    num_resamples: how often the users are drawn anew.
    seed: of the draws.

  Returns:
    The lower and the upper end, for each metric.

  Raises:
    ConfigError: an option is out of range.

  References:
    Bradley Efron, Robert Tibshirani. An Introduction to the Bootstrap.
    Chapman and Hall, 1993.
    C. Field, A. Welsh. Bootstrapping clustered data. JRSS B 2007.
    https://doi.org/10.1111/j.1467-9868.2007.00593.x
  """
  check_range("confidence", confidence, 0.0, 1.0)
  check_range("num_resamples", num_resamples, 1, integer=True)
  users, group = np.unique(user_id, return_inverse=True)
  if len(users) == len(user_id):
    return bootstrap_intervals(
      values, confidence=confidence, num_resamples=num_resamples, seed=seed
    )
  sums = np.stack([np.bincount(group, row, len(users)) for row in values])
  totals = np.concatenate([sums, np.bincount(group)[None]])
  drawn = resampled_sums(totals, num_resamples=num_resamples, seed=seed)
  tail = (1 - confidence) / 2
  low, high = np.quantile(drawn[:-1] / drawn[-1], [tail, 1 - tail], axis=1)
  return [(float(a), float(b)) for a, b in zip(low, high)]


def defined(
  values: Mapping[str, Float[np.ndarray, " query"]],
) -> Iterator[
  tuple[list[str], Float64[np.ndarray, "metric some"], Int[np.ndarray, " some"]]
]:
  """Metrics that are defined for the same queries, as tables of these.

  Args:
    values: of each query; NaN where a metric is undefined.

  Yields:
    Names, their values in float64, and the rows of the queries: first of the
    metrics that all queries have, then of others one by one. What no query
    has is left out.
  """
  missing = {key: np.isnan(value) for key, value in values.items()}
  whole = [key for key in values if not missing[key].any()]
  groups = [whole] + [[key] for key in values if key not in whole]
  for names in groups:
    rows = np.flatnonzero(~missing[names[0]]) if names else np.zeros(0, int)
    if len(rows):
      table = np.stack([values[key][rows] for key in names])
      yield names, table.astype(np.float64), rows


def resampled_sums(
  totals: Num[np.ndarray, "metric user"],
  *,
  num_resamples: int = 1000,
  seed: int = 0,
) -> Float[np.ndarray, "metric resample"]:
  """Sums over users who are drawn anew: what ratios of sums are made of.

  Args:
    totals: what each user adds to each sum.
    num_resamples: how often the users are drawn anew.
    seed: of the draws.

  Returns:
    sum_u w_u totals_u of each resample, a block of them formed at a time.
  """
  rng = np.random.default_rng(seed)
  num_users = totals.shape[1]
  size = max(1, _BLOCK // num_users)
  parts = []
  for start in range(0, num_resamples, size):
    num = min(size, num_resamples - start)
    drawn = rng.integers(0, num_users, (num, num_users))
    drawn += num_users * np.arange(num)[:, None]
    times = np.bincount(drawn.ravel(), minlength=num * num_users)
    parts.append(totals @ times.reshape(num, num_users).T.astype(np.float64))
  return np.concatenate(parts, 1)
