r"""Metrics of a ranked list, computed from counted ranks.

Every metric takes the `Ranks` of the targets of a user (last axis), a mask
`where` that is False for padding, and keyword-only options; it returns one
value a user. Under the tie rule "expected" the value is the **exact** mean
over all orders of tied candidates, also where the metric is not linear in the
positions (hit rate, MRR, MAP, NDCG with the retrieved ideal). An empty list
of targets gives 0.

Notation: a target stands in a group of n candidates with equal score, r of
them targets, below G other candidates, R of them targets. T is the number of
targets, and J = min(n, max(k - G, 0)) counts the places of its group among
the first k.

References:
  Frank McSherry, Marc Najork. Computing Information Retrieval Performance
  Measures Efficiently in the Presence of Tied Scores. ECIR 2008.
  https://doi.org/10.1007/978-3-540-78646-7_38
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from recjax.errors import check_choice, check_range
from recjax.metrics.ranks import Ranks, resolve_ties

RECALL_DENOMINATORS = ("targets", "min_k_targets")
NDCG_IDEALS = ("min_k_targets", "retrieved")


def hit_rate_metric(
  ranks: Ranks,
  where: Bool[Array, "*batch item"],
  *,
  k: int,
  ties: str = "expected",
) -> Float[Array, "*batch"]:
  r"""1 if any target is among the first k, else 0.

  Expected over ties: P(no target of a group in its J places) is
  \prod_{i<r} (n - J - i) / (n - i); only one group is cut by k.

  Args:
    ranks: ranks of the targets.
    where: False for padding.
    k: the cut-off.
    ties: "expected", "optimistic" or "pessimistic".

  Returns:
    One value a user, in [0, 1].

  Raises:
    ConfigError: an option is out of range.
  """
  ranks, places = _places(ranks, k, ties)
  n, r = ranks.tied + 1, ranks.tied_targets + 1
  if where.shape[-1] == 1:
    hit = places / n
  else:
    i = jnp.arange(where.shape[-1])
    i = jnp.broadcast_to(i, (*where.shape, where.shape[-1]))
    factor = jnp.maximum((n - places)[..., None] - i, 0) / jnp.maximum(
      n[..., None] - i, 1
    )
    hit = 1.0 - jnp.prod(jnp.where(i < r[..., None], factor, 1.0), -1)
  return jnp.max(jnp.where(where, hit, 0.0), -1, initial=0.0)


def recall_metric(
  ranks: Ranks,
  where: Bool[Array, "*batch item"],
  *,
  k: int,
  ties: str = "expected",
  denominator: str = "targets",
) -> Float[Array, "*batch"]:
  r"""hits@k / T, or hits@k / min(k, T).

  The expected number of hits is \sum_t J_t / n_t.

  Args:
    ranks: ranks of the targets.
    where: False for padding.
    k: the cut-off.
    ties: "expected", "optimistic" or "pessimistic".
    denominator: "targets" (LightGCN, Dacrema et al.) or "min_k_targets"
      (Liang et al., variational autoencoders), where 1 is always reachable.

  Returns:
    One value a user, in [0, 1].

  Raises:
    ConfigError: an option is unknown or out of range.
  """
  check_choice("denominator", denominator, RECALL_DENOMINATORS)
  num = jnp.sum(where, -1)
  if denominator == "min_k_targets":
    num = jnp.minimum(num, k)
  return _expected_hits(ranks, where, k, ties) / jnp.maximum(num, 1)


def precision_metric(
  ranks: Ranks,
  where: Bool[Array, "*batch item"],
  *,
  k: int,
  ties: str = "expected",
) -> Float[Array, "*batch"]:
  r"""hits@k / k.

  Args:
    ranks: ranks of the targets.
    where: False for padding.
    k: the cut-off.
    ties: "expected", "optimistic" or "pessimistic".

  Returns:
    One value a user, in [0, 1].

  Raises:
    ConfigError: an option is unknown or out of range.
  """
  return _expected_hits(ranks, where, k, ties) / k


def ndcg_metric(
  ranks: Ranks,
  where: Bool[Array, "*batch item"],
  *,
  k: int,
  ties: str = "expected",
  ideal: str = "min_k_targets",
) -> Float[Array, "*batch"]:
  r"""DCG@k / ideal DCG, DCG@k = \sum_{rank <= k} 1 / log2(rank + 1).

  A target's expected gain is the mean of the discounts over its n places. The
  retrieved ideal depends on the number x of hits in the group that k cuts,
  which is hypergeometric: \sum_x P(x) (DCG_above + x d) / IDCG(h_above + x)
  with d the mean discount of the J places.

  Args:
    ranks: ranks of the targets.
    where: False for padding.
    k: the cut-off.
    ties: "expected", "optimistic" or "pessimistic".
    ideal: "min_k_targets" puts min(k, T) targets first; "retrieved" puts
      only the targets found first (NGCF, ComiRec), which forgives misses.

  Returns:
    One value a user, in [0, 1].

  Raises:
    ConfigError: an option is unknown or out of range.

  References:
    Kalervo Järvelin, Jaana Kekäläinen. Cumulated gain-based evaluation of IR
    techniques. TOIS 2002. https://doi.org/10.1145/582415.582418
  """
  check_choice("ideal", ideal, NDCG_IDEALS)
  ranks, places = _places(ranks, k, ties)
  discounts = _cumulated_discounts(k)
  start = jnp.minimum(ranks.greater, k)
  gain = (discounts[start + places] - discounts[start]) / (ranks.tied + 1)
  if ideal == "retrieved":
    return _retrieved_ndcg(ranks, places, gain, where, discounts)
  num = jnp.minimum(jnp.sum(where, -1), k)
  total = jnp.sum(jnp.where(where, gain, 0.0), -1)
  return total / jnp.where(num > 0, discounts[num], 1.0)


def mrr_metric(
  ranks: Ranks,
  where: Bool[Array, "*batch item"],
  *,
  k: int | None = None,
  ties: str = "expected",
) -> Float[Array, "*batch"]:
  r"""1 / rank of the first target, 0 if that is past k.

  Over ties: E = \sum_{j=1}^{J} P(first at j) / (G + j), where the first of r
  targets stands at place j of n with P = r/(n-j+1) \prod_{i<j} (n-r-i+1) /
  (n-i+1); for r = 1 that is (H_{G+J} - H_G) / n with harmonic numbers H.

  Args:
    ranks: ranks of the targets.
    where: False for padding.
    k: the cut-off; None for the whole list.
    ties: "expected", "optimistic" or "pessimistic".

  Returns:
    One value a user, in [0, 1].

  Raises:
    ConfigError: an option is unknown or out of range.
  """
  ranks, places = _places(ranks, k, ties)
  if where.shape[-1] == 0:
    return jnp.zeros(where.shape[:-1])
  n, r = ranks.tied + 1, ranks.tied_targets + 1
  single = _harmonic_range(ranks.greater, places) / n
  first = where & (ranks.greater_targets == 0)
  several = first & (r > 1)
  summed = _first_of_several(ranks.greater, places, n, r, several)
  value = jnp.where(r > 1, summed, single)
  return jnp.max(jnp.where(first, value, 0.0), -1, initial=0.0)


def map_metric(
  ranks: Ranks,
  where: Bool[Array, "*batch item"],
  *,
  k: int | None = None,
  ties: str = "expected",
) -> Float[Array, "*batch"]:
  r"""Average precision: precision@rank summed over targets, / min(k, T).

  Over ties, with h = H_{G+J} - H_G, a target adds
  ((R + 1) h + (r - 1) / (n - 1) (J - (G + 1) h)) / n.

  Args:
    ranks: ranks of the targets.
    where: False for padding.
    k: the cut-off; None for the whole list.
    ties: "expected", "optimistic" or "pessimistic".

  Returns:
    One value a user, in [0, 1].

  Raises:
    ConfigError: an option is unknown or out of range.
  """
  ranks, places = _places(ranks, k, ties)
  n, h = ranks.tied + 1, _harmonic_range(ranks.greater, places)
  share = ranks.tied_targets / jnp.maximum(ranks.tied, 1)
  # Both terms are equal for one place; in floats their difference is not 0.
  rest = jnp.where(places > 1, places - (ranks.greater + 1) * h, 0.0)
  gain = ((ranks.greater_targets + 1) * h + share * rest) / n
  num = jnp.sum(where, -1)
  num = num if k is None else jnp.minimum(num, k)
  return jnp.sum(jnp.where(where, gain, 0.0), -1) / jnp.maximum(num, 1)


def _places(
  ranks: Ranks, k: int | None, ties: str
) -> tuple[Ranks, Int[Array, "*batch item"]]:
  """Settles the ties, and counts J: places of each group within k."""
  ranks = resolve_ties(ranks, ties=ties)
  if k is None:
    return ranks, ranks.tied + 1
  check_range("k", k, 1, integer=True)
  return ranks, jnp.clip(k - ranks.greater, 0, ranks.tied + 1)


def _expected_hits(
  ranks: Ranks, where: Bool[Array, "*batch item"], k: int, ties: str
) -> Float[Array, "*batch"]:
  ranks, places = _places(ranks, k, ties)
  return jnp.sum(jnp.where(where, places / (ranks.tied + 1), 0.0), -1)


def _cumulated_discounts(k: int) -> Float[Array, " k_plus_one"]:
  """Entry i is the sum of the first i discounts; rounded once, from float64."""
  discounts = 1.0 / np.log2(np.arange(k) + 2.0)
  return jnp.asarray(np.concatenate([[0.0], np.cumsum(discounts)]), jnp.float32)


def _harmonic_range(
  start: Int[Array, "*batch item"], num: Int[Array, "*batch item"]
) -> Float[Array, "*batch item"]:
  r"""H_{start + num} - H_start to float precision, also for large arguments.

  The first eight terms are added one by one; past them
  H_x = log(x + 1/2) + gamma + 1/24 (x + 1/2)^-2 - 7/960 (x + 1/2)^-4 + ...
  """
  end = start + num
  j = jnp.arange(1, 9)
  j = jnp.broadcast_to(j, (*start.shape, 8))
  inside = (j > start[..., None]) & (j <= end[..., None])
  head = jnp.sum(jnp.where(inside, 1.0 / j, 0.0), -1)
  a, b = jnp.maximum(start, 8), jnp.maximum(end, 8)
  a_half, b_half = a + 0.5, b + 0.5
  series = lambda x: 1.0 / (24 * x**2) - 7.0 / (960 * x**4)
  tail = jnp.log1p((b - a) / a_half) + series(b_half) - series(a_half)
  exact = jnp.where(num == 1, 1.0 / (start + 1), head + tail)
  return jnp.where(num > 0, exact, 0.0)


def _first_of_several(
  greater: Int[Array, "*batch item"],
  places: Int[Array, "*batch item"],
  n: Int[Array, "*batch item"],
  r: Int[Array, "*batch item"],
  needed: Bool[Array, "*batch item"],
) -> Float[Array, "*batch item"]:
  """Sums P(first at j) / (G + j) over j for groups of several targets."""
  last = jnp.where(needed, jnp.minimum(places, n - r + 1), 0)

  def add(carry: tuple) -> tuple:
    j, survival, total = carry
    chance = survival * r / jnp.maximum(n - j + 1, 1)
    total = total + jnp.where(j <= last, chance / (greater + j), 0.0)
    left = jnp.maximum(n - r - j + 1, 0) / jnp.maximum(n - j + 1, 1)
    return j + 1, survival * left, total

  one = jnp.ones(greater.shape)
  start = (jnp.ones((), jnp.int32), one, jnp.zeros(greater.shape))
  return jax.lax.while_loop(lambda c: c[0] <= jnp.max(last), add, start)[2]


def _retrieved_ndcg(
  ranks: Ranks,
  places: Int[Array, "*batch item"],
  gain: Float[Array, "*batch item"],
  where: Bool[Array, "*batch item"],
  discounts: Float[Array, " k_plus_one"],
) -> Float[Array, "*batch"]:
  """The mean of DCG / IDCG(hits) over the hits in the group that k cuts."""
  size, k = where.shape[-1], discounts.shape[0] - 1
  n = ranks.tied + 1
  inside = where & (places == n)
  cut = where & (places > 0) & (places < n)
  hits = jnp.sum(inside, -1)[..., None]
  dcg = jnp.sum(jnp.where(inside, gain, 0.0), -1)[..., None]
  # All targets of the cut group hold the same values: any of them will do.
  of_cut = lambda v: jnp.max(jnp.where(cut, v, 0), -1, initial=0)[..., None]
  n, r = of_cut(n), of_cut(ranks.tied_targets + 1)
  slots = of_cut(places)
  mean = of_cut(gain * (ranks.tied + 1) / jnp.maximum(places, 1))
  x = jnp.broadcast_to(jnp.arange(size + 1), (*where.shape[:-1], size + 1))
  low, high = jnp.maximum(0, slots + r - n), jnp.minimum(r, slots)
  # P(x + 1) / P(x), summed in logs from the lowest possible x on.
  ratio = ((r - x) * (slots - x)) / ((x + 1.0) * (n - r - slots + x + 1))
  step = jnp.where((x >= low) & (x < high), jnp.log(jnp.abs(ratio)), 0.0)
  log_p = jnp.cumsum(step, -1) - step
  possible = (x >= low) & (x <= high)
  p = jax.nn.softmax(jnp.where(possible, log_p, -jnp.inf), -1, where=possible)
  best = discounts[jnp.minimum(hits + x, k)]
  ndcg = (dcg + x * mean) / jnp.where(best > 0, best, 1.0)
  return jnp.sum(jnp.where(possible, p * ndcg, 0.0), -1)
