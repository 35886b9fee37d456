r"""What a random order scores, and how far above it a model is.

Of n candidates t are targets. With m = min(k, n), H the harmonic numbers,
D_j = \sum_{i<=j} 1 / log2(i + 1), and all orders equally likely:

  hit_rate@k   1 - C(n - t, k) / C(n, k)
  recall@k     m / n, or t m / (n min(k, t))
  precision@k  t m / (n k)
  ndcg@k       t D_m / (n D_min(k, t)); over the retrieved ideal
               \sum_x P(x) x D_m / (m D_x), the hits x hypergeometric
  mrr          t (H_n - H_{t-1}) / (n - t + 1);
               at k \sum_{j<=m} C(n - j, t - 1) / (j C(n, t))
  map@k        t (H_m + (t - 1) / (n - 1) (m - H_m)) / (n min(k, t))

The formula of mrr follows from the identity
\sum_j C(n - j, t - 1) / j = C(n, t - 1) (H_n - H_{t-1}).
"""

import dataclasses

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float, Int

from recjax.errors import DataError
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.resampling import user_intervals


@dataclasses.dataclass(frozen=True)
class AboveChance:
  """A metric beside that of a random order.

  Attributes:
    value: the metric.
    chance: of a random order of each query's own candidates.
    difference: value - chance.
    interval: 95% bootstrap interval of the difference, over users.
  """

  value: float
  chance: float
  difference: float
  interval: tuple[float, float]

  @property
  def is_above(self) -> bool:
    """Whether the whole interval lies above 0."""
    return self.interval[0] > 0


def above_chance(result: EvalResult) -> dict[str, AboveChance]:
  """Sets every metric of a result against chance, query by query.

  Args:
    result: of `evaluate`. Among drawn candidates that may repeat a target the
      formulas are not exact; take a protocol of `AllItems`.

  Returns:
    One comparison a metric of the protocol.

  Raises:
    DataError: the result does not know how many candidates there were.
  """
  if len(result.num_candidates) != len(result.user_id):
    raise DataError(
      "chance hangs on the number of candidates of each query, which this"
      " result does not hold; take one that evaluate(...) returned."
    )
  expected = chance_values(
    result.num_candidates, result.num_targets, result.protocol
  )
  differences = np.stack(
    [_beyond(result.per_user[key], value) for key, value in expected.items()]
  )
  found = user_intervals(differences, result.user_id)
  return {
    key: AboveChance(
      float(result.per_user[key].mean(dtype=np.float64)),
      float(expected[key].mean()),
      float(differences[row].mean()),
      found[row],
    )
    for row, key in enumerate(expected)
  }


def _beyond(
  values: Float[np.ndarray, " query"], expected: Float[np.ndarray, " query"]
) -> Float[np.ndarray, " query"]:
  """Differences that are more than the rounding of the values to float32."""
  equal = np.isclose(values, expected, rtol=1e-5, atol=0)
  return np.where(equal, 0.0, values - expected)


def chance_values(
  num_candidates: Int[np.ndarray, " query"],
  num_targets: Int[np.ndarray, " query"],
  protocol: Protocol,
) -> dict[str, Float[np.ndarray, " query"]]:
  """The expected values of a random order, exactly.

  Args:
    num_candidates: of each query, its targets among them.
    num_targets: of each query, at least one.
    protocol: which metrics, and how they are defined; ties do not matter.

  Returns:
    The values of each query under the names of `protocol.values()`.

  Raises:
    DataError: a query has no target, or more of them than candidates.
  """
  wrong = (num_targets < 1) | (num_targets > num_candidates)
  if wrong.any():
    row = int(np.argmax(wrong))
    raise DataError(
      "a query needs from 1 to num_candidates targets; query"
      f" {row} has {num_targets[row]} of {num_candidates[row]}."
    )
  pairs = np.stack([num_candidates, num_targets], 1)
  pairs, place = np.unique(pairs, axis=0, return_inverse=True)
  n, t = pairs.T
  return {
    key: _value(name, n, t, k, protocol)[place.ravel()]
    for key, name, k in protocol.values()
  }


def _value(
  name: str,
  n: Int[np.ndarray, " pair"],
  t: Int[np.ndarray, " pair"],
  k: int | None,
  protocol: Protocol,
) -> Float[np.ndarray, " pair"]:
  m = n if k is None else np.minimum(k, n)
  best = t if k is None else np.minimum(k, t)
  if name == "hit_rate":
    return -np.expm1(_log_misses(n, t, k or 1)[:, -1])
  if name == "recall":
    whole = best if protocol.recall_denominator == "min_k_targets" else t
    return t * m / (n * whole)
  if name == "precision":
    return t * m / (n * k)
  if name == "ndcg":
    discounts = np.cumsum(1 / np.log2(np.arange(k or 0) + 2.0))
    discounts = np.concatenate([[0.0], discounts])
    if protocol.ndcg_ideal == "retrieved":
      return _retrieved_ndcg(n, t, m, discounts)
    return t * discounts[m] / (n * discounts[best])
  if name == "mrr":
    return _mrr(n, t, k)
  h = _harmonic(m)
  return t * (h + (t - 1) / np.maximum(n - 1, 1) * (m - h)) / (n * best)


def _retrieved_ndcg(
  n: Int[np.ndarray, " pair"],
  t: Int[np.ndarray, " pair"],
  m: Int[np.ndarray, " pair"],
  discounts: Float[np.ndarray, " k_plus_one"],
) -> Float[np.ndarray, " pair"]:
  x = np.arange(1, len(discounts))[None, :]
  n, t, m = n[:, None], t[:, None], m[:, None]
  p = scipy.stats.hypergeom.pmf(x, n, t, m)
  return np.sum(p * x * discounts[m] / (m * discounts[x]), 1)


def _mrr(
  n: Int[np.ndarray, " pair"], t: Int[np.ndarray, " pair"], k: int | None
) -> Float[np.ndarray, " pair"]:
  if k is None:
    return t * (_harmonic(n) - _harmonic(t - 1)) / (n - t + 1)
  misses = np.exp(_log_misses(n, t, k))
  before = np.concatenate([np.ones((len(n), 1)), misses[:, :-1]], 1)
  return np.sum((before - misses) / np.arange(1, k + 1), 1)


def _harmonic(number: Int[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
  return scipy.special.digamma(number + 1.0) + np.euler_gamma


def _log_misses(
  n: Int[np.ndarray, " pair"], t: Int[np.ndarray, " pair"], k: int
) -> Float[np.ndarray, "pair k"]:
  """Log of P(no target in the first j) = C(n - t, j) / C(n, j), j = 1..k."""
  left = n[:, None] - np.arange(k)
  share = np.minimum(1.0, t[:, None] / np.maximum(left, t[:, None]))
  with np.errstate(divide="ignore"):
    return np.cumsum(np.log1p(-share), 1)
