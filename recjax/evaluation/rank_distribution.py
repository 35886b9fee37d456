r"""The distribution of full ranks, learned from sampled ones.

With pi_G the share of targets that have G of their pool above them, and
P(g | G, m) of `sampled_ranks`, the log-likelihood of what was seen is

  \sum_u log \sum_G pi_G P(g_u | G, m_u)

and a step of the EM algorithm, from the uniform distribution,

  pi_G <- pi_G / M \sum_u P(g_u | G, m_u) / \sum_H pi_H P(g_u | H, m_u).

Queries with the same g and m are counted and not looped over. 100 steps are
taken, as in the official code: the maximum itself puts all mass on a few
ranks, and stopping before it keeps the estimate smooth.

Ranks are laid in groups narrower than a tenth of the standard error with which
n draws locate a rank, sqrt(G (m - G) / n) with replacement; within a group all
ranks are equally likely and share the likelihood of the middle one. The first
ranks, up to the cut-offs of the metrics, stand alone. So do all where the
draws are the whole pool.

Queries share pi whatever their pool: of a user with fewer unseen items it is
the rank that is distributed as that of others, and not its quantile.

References:
  Ruoming Jin, Dong Li, Benjamin Mudrak, Jing Gao, Zhi Liu. On Estimating
  Recommendation Evaluation Metrics under Sampling. AAAI 2021.
  https://arxiv.org/abs/2103.01474
  Dong Li, Ruoming Jin, Zhenming Liu, Bin Ren, Jing Gao, Zhi Liu. Towards
  Reliable Item Sampling for Recommendation Evaluation. AAAI 2023.
  https://arxiv.org/abs/2211.15743
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

NUM_STEPS = 100
_SHARE_OF_ERROR = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class RankGroups:
  """Numbers G of items above a target, laid end to end in groups.

  Attributes:
    starts: the first G of each group, and the one past the last.
  """

  starts: Int[np.ndarray, " groups_plus_one"]

  @property
  def size(self) -> Int[np.ndarray, " group"]:
    """How many ranks each group holds."""
    return np.diff(self.starts)

  @property
  def middle(self) -> Int[np.ndarray, " group"]:
    """The G that stands for each group."""
    return (self.starts[:-1] + self.starts[1:] - 1) // 2

  def means(
    self, values: Float[np.ndarray, "rank metric"]
  ) -> Float[np.ndarray, "group metric"]:
    """The mean over the ranks of each group."""
    sums = np.add.reduceat(values, self.starts[:-1], axis=0)
    return sums / self.size[:, None]


def rank_groups(
  pool_size: Int[np.ndarray, " bin"],
  *,
  num_draws: int,
  with_replacement: bool,
  num_alone: int = 1,
) -> RankGroups:
  """Groups of G = 0, ..., the largest pool.

  Args:
    pool_size: of the bins.
    num_draws: n.
    with_replacement: how they are drawn.
    num_alone: so many first ranks stand alone.
  """
  smallest, largest = int(pool_size.min()), int(pool_size.max())
  left = 1.0
  if not with_replacement:
    left = (smallest - num_draws) / max(smallest - 1, 1)
  starts = [0]
  while (start := starts[-1]) <= largest:
    error = np.sqrt(start * (largest - start) * left / num_draws)
    width = int(_SHARE_OF_ERROR * error) if start >= num_alone else 1
    starts.append(min(start + max(width, 1), largest + 1))
  return RankGroups(np.array(starts))


def fit_rank_distribution(
  likelihood: Float[np.ndarray, "group cell"],
  shares: Float[np.ndarray, "sample cell"],
  size: Int[np.ndarray, " group"],
  *,
  num_steps: int = NUM_STEPS,
) -> Float[np.ndarray, "sample group"]:
  """The EM steps of the module, of several samples at once.

  Args:
    likelihood: P(g | G, m) of the middle of each group, by cell.
    shares: how much of each sample lies in each cell; rows sum to 1.
    size: how many ranks each group holds; the start is uniform over these.
    num_steps: how many steps are taken.

  Returns:
    The mass of each group; rows sum to 1.
  """
  mass = np.tile(size / size.sum(), (len(shares), 1))
  tiny = np.finfo(np.float64).tiny
  for _ in range(num_steps):
    seen = np.maximum(mass @ likelihood, tiny)
    mass = mass * ((shares / seen) @ likelihood.T)
    mass = mass / mass.sum(1, keepdims=True)
  return mass
