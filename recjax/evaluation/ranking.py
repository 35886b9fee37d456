"""Counting ranks: how many candidates score above a target, how many equal it.

No list is sorted and no score matrix is kept: the catalogue passes by in
blocks of one width, each block of scores is compared with the targets' own
scores and forgotten. Memory does not grow with the catalogue.

A target's score is read from a block of the very same shape, computed by the
very same instruction as all others, so that equal items tie exactly; a dot
product on its own would round differently.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Num

from recjax.data.ragged import Ragged
from recjax.errors import check_range
from recjax.evaluation.item_blocks import (
  SKIP_CHUNK,
  Plan,
  lay_out,
  make_plan,
  power_of_two,
  without,
)
from recjax.metrics.ranks import Ranks, ranks_from_counts
from recjax.retrieval.scorers import Scorer, scorer_kind

Queries = Callable[[np.ndarray], Num[Array, "batch *rest"]]
# The counts of a block share an int32: 16 bits of it each.
_MAX_ITEM_BLOCK = 16384


class RankedTargets(NamedTuple):
  """The ranks of a group of users with up to `item` targets each.

  Attributes:
    rows: the positions of the users in the evaluation set.
    ranks: their ranks.
    where: False for padding targets.
    nan: whether a target's score was NaN.
  """

  rows: Int[np.ndarray, " user"]
  ranks: Ranks
  where: Bool[np.ndarray, "user item"]
  nan: Bool[np.ndarray, " user"]


@functools.partial(jax.jit, static_argnames="kind")
def _count_in_blocks(
  scorer: Scorer,
  queries: Num[Array, "batch *rest"],
  where: Bool[Array, "batch item"],
  plan: Plan,
  num_items: Int[Array, ""],
  *,
  kind: tuple[type, ...],
) -> tuple[Ranks, Bool[Array, " batch"]]:
  del kind
  num_first, width = plan.target_ids.shape
  users = jnp.arange(plan.position.shape[0])[:, None]

  def step(carry: tuple, index: Int[Array, ""]) -> tuple[tuple, None]:
    own, counts = carry
    counted = index >= num_first
    if plan.among is None:
      ids = (index - num_first) * width + jnp.arange(1, width + 1)
      ids = jnp.where(ids <= num_items, ids, 0)
    else:
      ids = plan.among[jnp.maximum(index - num_first, 0)]
    first = plan.target_ids[jnp.minimum(index, num_first - 1)]
    ids = jnp.where(counted, ids, first)
    scores = jax.lax.optimization_barrier(scorer.scores(queries, ids))
    here = plan.position // width == index
    own = jnp.where(here, scores[users, plan.position % width], own)
    packed = jax.lax.cond(
      counted,
      lambda: _count(scores, own, ids, plan, index),
      lambda: jnp.zeros(own.shape, jnp.int32),
    )
    counts = counts + jnp.stack([packed & 0xFFFF, packed >> 16])
    return (own, counts), None

  dtype = jax.eval_shape(scorer.scores, queries, plan.target_ids[0]).dtype
  start = (
    jnp.full(plan.position.shape, jnp.nan, dtype),
    jnp.zeros((2, *plan.position.shape), jnp.int32),
  )
  blocks = jnp.arange(plan.skip_offsets.shape[0] - 1)
  (own, counts), _ = jax.lax.scan(step, start, blocks)
  if plan.outside is not None:
    counts = counts + _count_outside(own, plan.outside)
  ranks = ranks_from_counts(counts[0], counts[1], own, where)
  return ranks, jnp.any(jnp.isnan(own) & where, -1)


def _count_outside(
  own: Num[Array, "batch item"], outside: Bool[Array, "batch item"]
) -> Int[Array, "2 batch item"]:
  """Targets that no block held, above each target and equal to it."""
  mine, other = own[:, :, None], own[:, None, :]
  itself = jnp.eye(own.shape[1], dtype=bool)[None]
  valid = outside[:, None, :] & ~itself
  count = lambda mask: jnp.sum(mask & valid, -1, dtype=jnp.int32)
  return jnp.stack([count(other > mine), count(other == mine)])


def _compare(
  scores: Num[Array, "*shape"], own: Num[Array, "*other"]
) -> Int[Array, "..."]:
  """1 where a score is above its target's, 2^16 where it is equal.

  The sum of a block then holds both counts, in the two halves of an integer.
  """
  return jnp.where(scores > own, 1, jnp.where(scores == own, 1 << 16, 0))


def _count(
  scores: Num[Array, "batch cand"],
  own: Num[Array, "batch item"],
  ids: Int[Array, " cand"],
  plan: Plan,
  index: Int[Array, ""],
) -> Int[Array, "batch item"]:
  """`_compare` summed over the items of a block that count."""
  one = (ids > 0).astype(jnp.int32)
  if own.shape[1] <= 4:
    packed = _compare(scores[:, None, :], own[:, :, None])
    packed = jnp.sum(packed * one[None, None, :], -1)
  else:
    # On a CPU, many targets at once leave the vector units: 4 ns a comparison
    # against 0.3 ns one after another.
    each = lambda o: jnp.sum(_compare(scores, o[:, None]) * one[None, :], -1)
    packed = jax.lax.map(each, own.T).T
  return _without_skips(packed, scores, own, plan, index)


def _without_skips(
  packed: Int[Array, "batch item"],
  scores: Num[Array, "batch cand"],
  own: Num[Array, "batch item"],
  plan: Plan,
  index: Int[Array, ""],
) -> Int[Array, "batch item"]:
  """Takes the counts of skipped scores back, a chunk of them at a time."""
  begin, end = plan.skip_offsets[index], plan.skip_offsets[index + 1]
  lane = jnp.arange(SKIP_CHUNK)

  def chunk(number: Int[Array, ""], packed: Array) -> Array:
    start = begin + number * SKIP_CHUNK
    rows, columns, slots = jax.lax.dynamic_slice(
      plan.skips, (0, start), (3, SKIP_CHUNK)
    )
    skip = _compare(scores[rows, columns][:, None], own[rows])
    every = jnp.arange(packed.shape[1])[None, :]
    mine = (slots[:, None] < 0) | (slots[:, None] == every)
    skip = jnp.where(mine & (start + lane < end)[:, None], skip, 0)
    return packed.at[rows].add(-skip)

  num_chunks = (end - begin + SKIP_CHUNK - 1) // SKIP_CHUNK
  return jax.lax.fori_loop(0, num_chunks, chunk, packed)


@functools.partial(jax.jit, static_argnames="kind")
def _count_candidates(
  scorer: Scorer,
  queries: Num[Array, "batch *rest"],
  targets: Int[Array, "batch item"],
  candidates: Int[Array, "batch cand"],
  *,
  kind: tuple[type, ...],
) -> tuple[Ranks, Bool[Array, " batch"]]:
  """Ranks among given candidates; the targets rank among each other too."""
  del kind
  ids = jnp.concatenate([targets, candidates], 1)
  fill = -ids.shape[1] % 64
  ids = jnp.pad(ids, ((0, 0), (0, fill)))
  scores = scorer.candidate_scores(queries, ids)
  own, where = scores[:, : targets.shape[1]], targets > 0
  # A copy of the target ties with it, however its score is rounded.
  copy = ids[:, None, :] == targets[:, :, None]
  above = (scores[:, None, :] > own[:, :, None]) & ~copy
  equal = (scores[:, None, :] == own[:, :, None]) | copy
  valid = (ids > 0)[:, None, :]
  count = lambda mask: jnp.sum(mask & valid, -1, dtype=jnp.int32)
  ranks = ranks_from_counts(count(above), count(equal) - 1, own, where)
  return ranks, jnp.any(jnp.isnan(own) & where, -1)


def rank_in_catalogue(
  scorer: Scorer,
  queries: Queries,
  targets: Ragged,
  seen: Ragged,
  *,
  num_items: int,
  user_block: int = 512,
  among: Int[np.ndarray, " cand"] | None = None,
  item_block: int = 2048,
  watch: Callable = lambda blocks: blocks,
) -> list[RankedTargets]:
  """Ranks every user's targets among all items but the seen ones.

  Args:
    scorer: what ranks.
    queries: gives the queries of the users at some positions.
    targets: distinct item ids, at least one a user; they count as candidates
      even where they were seen.
    seen: distinct item ids that are no candidates.
    num_items: the size of the catalogue.
    user_block: users scored at once.
    among: ids in increasing order, to rank among these alone; targets are
      candidates besides. None is all items.
    item_block: items scored at once.
    watch: wraps the list of blocks, to show progress.

  Returns:
    Groups of users with similar numbers of targets; together all users.
  """
  check_range("item_block", item_block, 1, _MAX_ITEM_BLOCK, integer=True)
  num_ranked = num_items if among is None else len(among)
  width = -(-min(item_block, num_ranked) // 64) * 64
  place, laid = lay_out(among, num_items, width)
  skips = without(seen, targets, num_items)
  blocks = list(_user_blocks(targets, user_block))
  num_skips = skips.lengths + targets.lengths
  num_skips = max(int(num_skips[rows].sum()) for rows, _, _ in blocks)
  out, kind = [], scorer_kind(scorer)
  for rows, size, slots in watch(blocks):
    padded = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
    own = np.zeros((size, slots), np.int32)
    own[: len(rows)] = targets.take(rows).padded(slots)
    plan = make_plan(own, skips.take(rows), place, width, num_skips)
    if laid is not None:
      plan = plan._replace(
        among=laid, outside=jnp.asarray((own > 0) & (place[own] < 0))
      )
    found = _count_in_blocks(
      scorer,
      queries(padded),
      own > 0,
      plan,
      np.int32(num_items),
      kind=kind,
    )
    out.append(RankedTargets(rows, found[0], own > 0, found[1]))
    _fetch(out, len(out) - 2)
  return _fetch(out, len(out) - 1)


def rank_among_candidates(
  scorer: Scorer,
  queries: Queries,
  targets: Ragged,
  candidates: Int[np.ndarray, "user cand"],
  *,
  user_block: int = 512,
  watch: Callable = lambda blocks: blocks,
) -> list[RankedTargets]:
  """Ranks every user's targets among that user's own candidates.

  Args:
    scorer: what ranks.
    queries: gives the queries of the users at some positions.
    targets: distinct item ids, at least one a user.
    candidates: item ids; 0 is padding. Repeated items count again, and a
      copy of a target ties with it.
    user_block: users scored at once.
    watch: wraps the list of blocks, to show progress.

  Returns:
    Groups of users with similar numbers of targets; together all users.
  """
  out, kind = [], scorer_kind(scorer)
  for rows, size, slots in watch(list(_user_blocks(targets, user_block))):
    padded = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
    own = np.zeros((size, slots), np.int32)
    own[: len(rows)] = targets.take(rows).padded(slots)
    found = _count_candidates(
      scorer, queries(padded), own, candidates[padded], kind=kind
    )
    out.append(RankedTargets(rows, found[0], own > 0, found[1]))
    _fetch(out, len(out) - 2)
  return _fetch(out, len(out) - 1)


def _user_blocks(
  targets: Ragged, user_block: int
) -> Iterator[tuple[np.ndarray, int, int]]:
  """(rows, padded number of rows, padded number of targets) of each block.

  Users with similar numbers of targets stand together, so that one with a
  hundred does not make all others pay: 1, up to 4, up to 16, and so on.
  """
  slots = 4 ** np.ceil(np.log2(targets.lengths) / 2).astype(np.int64)
  for width in np.unique(slots):
    rows = np.flatnonzero(slots == width)
    size = min(user_block, max(64, power_of_two(len(rows))))
    for start in range(0, len(rows), size):
      yield rows[start : start + size], size, int(width)


def _fetch(groups: list[RankedTargets], index: int) -> list[RankedTargets]:
  """Brings one group to the host, without the users that only fill a block.

  Called one block late: the device works while the next block is laid out.
  """
  if index >= 0:
    rows, ranks, where, nan = groups[index]
    keep = lambda field: np.asarray(field)[: len(rows)]
    kept = jax.tree.map(keep, (ranks, where, nan))
    groups[index] = RankedTargets(rows, *kept)
  return groups
