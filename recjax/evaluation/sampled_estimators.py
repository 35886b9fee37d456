r"""What a metric among drawn candidates would be in the whole catalogue.

For queries with one target a metric is f(R) of its rank R = G + 1; see
`sampled_ranks` for G, g, m, n and `rank_distribution` for pi. With A the matrix
P(g | G), D the diagonal of pi, b the vector f(G + 1), M the number of queries:

  rank      f(1 + g m / n): the unbiased estimate of the rank, put into f
  bv        the mean of h(g) with h = ((1 - y) A'DA + y diag(A'D1))^-1 A'Db,
            which minimizes squared bias + y variance over a uniform pi
  mle       \sum_G pi_G f(G + 1) with pi from the EM algorithm
  bv_mle    `bv` over the pi of `mle`
  mn_mle    the mean of h(g) with
            h = (A'DA - A'A / M + diag(A'1) / M)^-1 A'Db over the pi of `mle`,
            which minimizes \sum_G (pi_G bias_G^2 + variance_G / M): the error
            of the mean over the M pi_G queries of each rank

y = .01 as in the official code. None is unbiased, for no function h(g) is:
n + 1 numbers of draws do not tell m + 1 ranks apart. Ranks below m / n look
alike, all with no draw above most of the time, so what is said of a cut-off k
below m / n is mostly said by the prior: of 100 draws out of 50,000 items, the
top 10 can not be seen. `mle` is between 0 and the metric's largest value; the
others may leave it.

All of them are exact where the draws are the whole pool.

Not here: the maximal-entropy estimator of Jin et al. 2021, whose value hangs
on the weight of the entropy, and adaptive sampling, which draws otherwise.

References:
  Walid Krichene, Steffen Rendle. On Sampled Metrics for Item Recommendation.
  KDD 2020. https://doi.org/10.1145/3394486.3403226
  Dong Li, Ruoming Jin, Zhenming Liu, Bin Ren, Jing Gao, Zhi Liu. Towards
  Reliable Item Sampling for Recommendation Evaluation. AAAI 2023.
  https://arxiv.org/abs/2211.15743
  https://github.com/dli12/AAAI23-Towards-Reliable-Item-Sampling-for-Recommendation-Evaluation
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
from jaxtyping import Float, Int, Shaped

from recjax.errors import DataError, check_choice, check_range
from recjax.evaluation.rank_distribution import (
  RankGroups,
  fit_rank_distribution,
  rank_groups,
)
from recjax.evaluation.sampled_ranks import SampledRanks, draw_probabilities

ESTIMATORS = ("rank", "bv", "mle", "bv_mle", "mn_mle")
GAMMA = 0.01
_MAX_ALONE = 128
_MAX_ENTRIES = 40_000_000

MetricName = tuple[str, str, int | None]
"""Key in results, metric, cut-off: an entry of `Protocol.values()`."""


class Corrected(NamedTuple):
  """An estimate of a full metric.

  Attributes:
    value: of the full metric.
    interval: 95%, by drawing users with their draws anew. It knows of the
      spread of the estimate and not of its bias.
  """

  value: float
  interval: tuple[float, float]


def metric_of_rank(
  name: str, k: int | None, rank: Shaped[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
  """The value of a metric of a query with one target.

  Args:
    name: of a metric of `Protocol`.
    k: the cut-off; None for the whole list.
    rank: of the target, from 1; need not be whole.
  """
  rank = np.asarray(rank, np.float64)
  inside = rank <= (np.inf if k is None else k)
  if name in ("hit_rate", "recall"):
    return inside * 1.0
  if name == "precision":
    return inside / (k or 1)
  if name == "ndcg":
    return inside / np.log2(rank + 1)
  check_choice("a metric of one target", name, ("mrr", "map"))
  return inside / rank


def corrected_metrics(
  ranks: SampledRanks,
  metrics: Sequence[MetricName],
  *,
  gamma: float = GAMMA,
  num_resamples: int = 100,
  seed: int = 0,
) -> dict[str, dict[str, Corrected]]:
  """The estimates of the module.

  Args:
    ranks: what uniform draws told.
    metrics: what is to be estimated.
    gamma: the weight of variance against squared bias in `bv` and `bv_mle`.
    num_resamples: how often users are drawn anew for the intervals; the
      distribution of ranks is learned anew each time for `mle`, and kept for
      the others, which hang on it far less.
    seed: of these draws.

  Returns:
    For each of `ESTIMATORS`, the estimates by key.

  Raises:
    ConfigError: an option is out of range.
    DataError: there are too many draws for matrices of draws by ranks.
  """
  check_range("gamma", gamma, 1e-6, 1.0)
  check_range("num_resamples", num_resamples, 1, integer=True)
  laid = _lay_out(ranks, metrics)
  whole = np.ones((1, len(ranks.above)))
  times = np.concatenate(
    [whole, _resampled_users(ranks.user_id, num_resamples, seed)]
  )
  shares = (laid.shares.T @ times.T).T / times.sum(1, keepdims=True)
  likelihood = laid.probabilities(laid.above, laid.pools[laid.bin_of])
  mass = fit_rank_distribution(likelihood, shares, laid.groups.size)
  prior = mass[0]
  uniform = laid.groups.size / laid.groups.size.sum()
  by_cell = {
    "rank": laid.of_rank,
    "bv": _bias_variance(laid, uniform, gamma),
    "bv_mle": _bias_variance(laid, prior, gamma),
    "mn_mle": _multinomial(laid, prior),
  }
  samples = {name: shares @ found for name, found in by_cell.items()}
  samples["mle"] = mass @ laid.of_group
  return {name: _with_intervals(samples[name], metrics) for name in ESTIMATORS}


def _with_intervals(
  samples: Float[np.ndarray, "sample metric"], metrics: Sequence[MetricName]
) -> dict[str, Corrected]:
  """The first sample is that of all users as they are."""
  low, high = np.quantile(samples[1:], [0.025, 0.975], axis=0)
  return {
    key: Corrected(float(samples[0, i]), (float(low[i]), float(high[i])))
    for i, (key, _, _) in enumerate(metrics)
  }


def _resampled_users(
  user_id: Int[np.ndarray, " query"], num_resamples: int, seed: int
) -> Float[np.ndarray, "resample query"]:
  """How often each query counts where users are drawn anew."""
  rng = np.random.default_rng(seed)
  users, place = np.unique(user_id, return_inverse=True)
  drawn = rng.multinomial(
    len(users), np.full(len(users), 1 / len(users)), num_resamples
  )
  return drawn[:, place].astype(np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class _Laid:
  """Sampled ranks, counted by cells and laid against groups of full ranks.

  Attributes:
    pools: the pool that stands for each bin.
    bin_of: of each cell.
    above: draws above, of each cell.
    shares: of each query in each cell.
    groups: of full ranks.
    of_group: the metrics of each group.
    of_rank: the metrics of the unbiased rank of each cell.
    ranks: what was seen.
  """

  pools: Int[np.ndarray, " bin"]
  bin_of: Int[np.ndarray, " cell"]
  above: Int[np.ndarray, " cell"]
  shares: scipy.sparse.csr_matrix
  groups: RankGroups
  of_group: Float[np.ndarray, "group metric"]
  of_rank: Float[np.ndarray, "cell metric"]
  ranks: SampledRanks

  def probabilities(
    self,
    above: Int[np.ndarray, " g"],
    pool_size: Int[np.ndarray, " g"] | int,
  ) -> Float[np.ndarray, "group g"]:
    """P(g | G, m) by group, for each of some numbers of draws above."""
    return draw_probabilities(
      above[None, :],
      self.groups.middle[:, None],
      pool_size,
      num_draws=self.ranks.num_draws,
      with_replacement=self.ranks.with_replacement,
    )


def _lay_out(ranks: SampledRanks, metrics: Sequence[MetricName]) -> _Laid:
  _, pools = ranks.bins()
  bin_of, above, shares = ranks.cells()
  cutoffs = [k for _, _, k in metrics if k is not None]
  groups = rank_groups(
    pools,
    num_draws=ranks.num_draws,
    with_replacement=ranks.with_replacement,
    num_alone=min(max(cutoffs, default=1), _MAX_ALONE),
  )
  columns = max(len(above), ranks.num_draws + 1)
  if len(groups.size) * columns > _MAX_ENTRIES:
    raise DataError(
      f"{ranks.num_draws:,} draws of up to {pools.max():,} items are too many"
      " for the matrices of the corrected estimates; rank the whole catalogue."
    )
  every = np.arange(groups.starts[-1]) + 1
  of_rank = 1 + above * pools[bin_of] / ranks.num_draws
  stack = lambda at: np.stack(
    [metric_of_rank(name, k, at) for _, name, k in metrics], axis=1
  )
  return _Laid(
    pools,
    bin_of,
    above,
    shares,
    groups,
    groups.means(stack(every)),
    stack(of_rank),
    ranks,
  )


def _bias_variance(
  laid: _Laid, prior: Float[np.ndarray, " group"], gamma: float
) -> Float[np.ndarray, "cell metric"]:
  """What h of `bv` is in each cell."""

  def solve(
    a: Float[np.ndarray, "group g"],
    mass: Float[np.ndarray, " group"],
    size: Int[np.ndarray, " group"],
  ) -> Float[np.ndarray, "g metric"]:
    del size
    weighted = mass[:, None] * a
    # Scaled by 1 / sqrt(A'D1), the matrix has eigenvalues of y to 1.
    seen = weighted.sum(0)
    scale = np.where(seen > 0, 1 / np.sqrt(np.where(seen > 0, seen, 1)), 0.0)
    matrix = (1 - gamma) * (weighted.T @ a) * scale[:, None] * scale
    matrix += gamma * np.eye(len(scale))
    right = scale[:, None] * (weighted.T @ laid.of_group)
    return scale[:, None] * scipy.linalg.solve(matrix, right, assume_a="pos")

  return _by_bin(laid, prior, solve)


def _multinomial(
  laid: _Laid, prior: Float[np.ndarray, " group"]
) -> Float[np.ndarray, "cell metric"]:
  """What h of `mn_mle` is in each cell."""
  num = len(laid.ranks.above)

  def solve(
    a: Float[np.ndarray, "group g"],
    mass: Float[np.ndarray, " group"],
    size: Int[np.ndarray, " group"],
  ) -> Float[np.ndarray, "g metric"]:
    of_ranks = size[:, None] * a
    scale = 1 / np.sqrt(np.maximum(of_ranks.sum(0), np.finfo(float).tiny))
    weighted = mass[:, None] * a
    matrix = num * (weighted.T @ a) - of_ranks.T @ a
    matrix = matrix * scale[:, None] * scale + np.eye(len(scale))
    right = scale[:, None] * (num * (weighted.T @ laid.of_group))
    # Singular where the draws are the whole pool: ranks that nobody has.
    found: Any = scipy.linalg.lstsq(
      matrix, right, cond=1e-12, lapack_driver="gelsy"
    )
    return scale[:, None] * found[0]

  return _by_bin(laid, prior, solve)


def _by_bin(
  laid: _Laid, prior: Float[np.ndarray, " group"], solve
) -> Float[np.ndarray, "cell metric"]:
  """Solves for h in each bin; ranks past its pool have no place in it."""
  out = np.zeros((len(laid.above), laid.of_group.shape[1]))
  for number, pool in enumerate(laid.pools):
    a = laid.probabilities(np.arange(laid.ranks.num_draws + 1), int(pool))
    possible = laid.groups.middle <= pool
    mass = np.where(possible, prior, 0.0)
    size = np.where(possible, laid.groups.size, 0)
    here = laid.bin_of == number
    out[here] = solve(a, mass / mass.sum(), size)[laid.above[here]]
  return out
