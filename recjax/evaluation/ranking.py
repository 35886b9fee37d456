"""Counting ranks: how many candidates score above a target, how many equal it.

No list is sorted and no score matrix is kept: the catalogue passes by in
blocks of one width, each block of scores is compared with the targets' own
scores and forgotten. Memory does not grow with the catalogue.

A target's score is read from a block of the very same shape, computed by the
very same instruction as all others, so that equal items tie exactly; a dot
product on its own would round differently.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Num

from recjax.data.ragged import Ragged
from recjax.errors import check_range
from recjax.metrics.ranks import Ranks, ranks_from_counts
from recjax.retrieval.scorers import Scorer

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


class _Plan(NamedTuple):
  """What one call of the kernel works on.

  Attributes:
    target_ids: blocks of the distinct targets, which come before all items.
    position: where, in these blocks laid end to end, each target stands.
    skip_row, skip_column: entries of each block that do not count for a user.
    skip_slot: the target for which they do not, -1 for all of them.
  """

  target_ids: Int[Array, "block cand"]
  position: Int[Array, "batch item"]
  skip_row: Int[Array, "block skip"]
  skip_column: Int[Array, "block skip"]
  skip_slot: Int[Array, "block skip"]


@jax.jit
def _count_in_blocks(
  scorer: Scorer,
  queries: Num[Array, "batch *rest"],
  where: Bool[Array, "batch item"],
  plan: _Plan,
  num_items: Int[Array, ""],
) -> tuple[Ranks, Bool[Array, " batch"]]:
  num_first, width = plan.target_ids.shape
  slots = jnp.arange(plan.position.shape[1])[None, :]
  users = jnp.arange(plan.position.shape[0])[:, None]

  def step(carry: tuple, block: tuple) -> tuple[tuple, None]:
    own, counts = carry
    index, row, column, slot = block
    counted = index >= num_first
    ids = (index - num_first) * width + jnp.arange(1, width + 1)
    ids = jnp.where(ids <= num_items, ids, 0)
    first = plan.target_ids[jnp.minimum(index, num_first - 1)]
    ids = jnp.where(counted, ids, first)
    scores = scorer.scores(queries, ids)
    here = plan.position // width == index
    own = jnp.where(here, scores[users, plan.position % width], own)
    one = ((ids > 0) & counted).astype(jnp.int32)
    above = scores[:, None, :] > own[:, :, None]
    equal = scores[:, None, :] == own[:, :, None]
    # Both counts in one pass: the higher half of the integer counts ties.
    packed = jnp.where(above, 1, jnp.where(equal, 1 << 16, 0))
    packed = jnp.sum(packed * one[None, None, :], -1)
    skipped, skipper = scores[row, column][:, None], own[row]
    skip = jnp.where(
      skipped > skipper, 1, jnp.where(skipped == skipper, 1 << 16, 0)
    )
    skip = jnp.where((slot[:, None] < 0) | (slot[:, None] == slots), skip, 0)
    skip = jnp.where(counted & (column < width)[:, None], skip, 0)
    packed = packed.at[row].add(-skip)
    counts = counts + jnp.stack([packed & 0xFFFF, packed >> 16])
    return (own, counts), None

  dtype = jax.eval_shape(scorer.scores, queries, plan.target_ids[0]).dtype
  start = (
    jnp.full(plan.position.shape, jnp.nan, dtype),
    jnp.zeros((2, *plan.position.shape), jnp.int32),
  )
  index = jnp.arange(plan.skip_row.shape[0])
  blocks = (index, plan.skip_row, plan.skip_column, plan.skip_slot)
  (own, counts), _ = jax.lax.scan(step, start, blocks)
  ranks = ranks_from_counts(counts[0], counts[1], own, where)
  return ranks, jnp.any(jnp.isnan(own) & where, -1)


@jax.jit
def _count_candidates(
  scorer: Scorer,
  queries: Num[Array, "batch *rest"],
  targets: Int[Array, "batch item"],
  candidates: Int[Array, "batch cand"],
) -> tuple[Ranks, Bool[Array, " batch"]]:
  """Ranks among given candidates; the targets rank among each other too."""
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
    item_block: items scored at once.
    watch: wraps the list of blocks, to show progress.

  Returns:
    Groups of users with similar numbers of targets; together all users.
  """
  check_range("item_block", item_block, 1, _MAX_ITEM_BLOCK, integer=True)
  width = -(-min(item_block, num_items) // 64) * 64
  skips = _without(seen, targets, num_items)
  blocks = list(_user_blocks(targets, user_block))
  num_skips = _most_skips(blocks, skips, targets, num_items, width)
  out = []
  for rows, size, slots in watch(blocks):
    padded = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
    own = np.zeros((size, slots), np.int32)
    own[: len(rows)] = targets.take(rows).padded(slots)
    plan = _make_plan(own, skips.take(rows), num_items, width, num_skips)
    found = _count_in_blocks(
      scorer, queries(padded), own > 0, plan, np.int32(num_items)
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
  out = []
  for rows, size, slots in watch(list(_user_blocks(targets, user_block))):
    padded = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
    own = np.zeros((size, slots), np.int32)
    own[: len(rows)] = targets.take(rows).padded(slots)
    found = _count_candidates(scorer, queries(padded), own, candidates[padded])
    out.append(RankedTargets(rows, found[0], own > 0, found[1]))
    _fetch(out, len(out) - 2)
  return _fetch(out, len(out) - 1)


def _user_blocks(
  targets: Ragged, user_block: int
) -> Iterator[tuple[np.ndarray, int, int]]:
  """(rows, padded number of rows, padded number of targets) of each block.

  Users with similar numbers of targets stand together, so that one with a
  hundred does not make all others pay.
  """
  slots = 1 << np.ceil(np.log2(targets.lengths)).astype(np.int64)
  for width in np.unique(slots):
    rows = np.flatnonzero(slots == width)
    size = min(user_block, max(64, _power_of_two(len(rows))))
    for start in range(0, len(rows), size):
      yield rows[start : start + size], size, int(width)


def _power_of_two(number: int) -> int:
  """The smallest power of two that is not smaller."""
  return 1 << max(number - 1, 0).bit_length()


def _without(rows: Ragged, gone: Ragged, num_items: int) -> Ragged:
  """The rows without the items that stand in the same row of `gone`."""
  width = num_items + 1
  keys = rows.row_ids * width + rows.values
  keys = keys[~np.isin(keys, gone.row_ids * width + gone.values)]
  return Ragged.from_pairs(keys // width, keys % width, len(rows))


def _most_skips(
  blocks: list[tuple[np.ndarray, int, int]],
  skips: Ragged,
  targets: Ragged,
  num_items: int,
  width: int,
) -> int:
  """The most entries that any block of scores skips, rounded up."""
  block_of_row = np.zeros(len(skips), np.int64)
  for index, (rows, _, _) in enumerate(blocks):
    block_of_row[rows] = index
  num_blocks = -(-num_items // width)
  pairs = [
    block_of_row[r.row_ids] * num_blocks + (r.values - 1) // width
    for r in (skips, targets)
  ]
  most = int(np.bincount(np.concatenate(pairs)).max(initial=1))
  return max(16, _power_of_two(most))


def _make_plan(
  own: Int[np.ndarray, "batch item"],
  skips: Ragged,
  num_items: int,
  width: int,
  num_skips: int,
) -> _Plan:
  """Lays out the blocks of items, and what each user skips in them."""
  distinct = np.unique(own)
  num_first = _power_of_two(-(-len(distinct) // width))
  num_blocks = num_first + -(-num_items // width)
  ids = np.zeros((num_first, width), np.int32)
  ids.flat[: len(distinct)] = distinct
  # Nobody is ranked above itself, and seen items are above nobody.
  own_row, own_slot = np.nonzero(own)
  row = np.concatenate([own_row, skips.row_ids])
  item = np.concatenate([own[own_row, own_slot], skips.values])
  slot = np.concatenate([own_slot, np.full(len(skips.values), -1)])
  block, column = np.divmod(item.astype(np.int64) - 1, width)
  block += num_first
  order = np.argsort(block, kind="stable")
  block = block[order]
  place = np.arange(len(block)) - np.searchsorted(block, block)
  skip = np.zeros((3, num_blocks, num_skips), np.int32)
  skip[1] = width
  skip[:, block, place] = row[order], column[order], slot[order]
  return _Plan(
    ids,
    np.searchsorted(distinct, own).astype(np.int32),
    *skip,
  )


def _fetch(groups: list[RankedTargets], index: int) -> list[RankedTargets]:
  """Brings one group to the host, without the users that only fill a block.

  Called one block late: the device works while the next block is laid out.
  """
  if index >= 0:
    rows, ranks, where, nan = groups[index]
    keep = lambda field: np.asarray(field)[: len(rows)]
    kept = Ranks(*map(keep, ranks))
    groups[index] = RankedTargets(rows, kept, keep(where), keep(nan))
  return groups
