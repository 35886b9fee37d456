"""The blocks in which a catalogue passes by, and what is skipped in them."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from recjax.data.ragged import Ragged

SKIP_CHUNK = 256
"""So many skips are taken back at once."""


class Plan(NamedTuple):
  """What one call of the kernel works on.

  Attributes:
    target_ids: blocks of the distinct targets, which come before all items.
    position: where, in these blocks laid end to end, each target stands.
    skips: scores that do not count, block by block: the user, the column,
      and the target for which they do not count, -1 for all of them.
    skip_offsets: where the skips of each block start; one more for the end.
    outside: targets that are not `among` the items; None if all items are.
    among: the ids to rank among, in blocks of one width; None is all items.
  """

  target_ids: Int[Array, "block cand"]
  position: Int[Array, "batch item"]
  skips: Int[Array, "3 skip"]
  skip_offsets: Int[Array, " block_plus_one"]
  outside: Bool[Array, "batch item"] | None = None
  among: Int[Array, "among_block cand"] | None = None


def power_of_two(number: int) -> int:
  """The smallest power of two that is not smaller."""
  return 1 << max(number - 1, 0).bit_length()


def without(rows: Ragged, gone: Ragged, num_items: int) -> Ragged:
  """The rows without the items that stand in the same row of `gone`."""
  width = num_items + 1
  keys = rows.row_ids * width + rows.values
  keys = keys[~np.isin(keys, gone.row_ids * width + gone.values)]
  return Ragged.from_pairs(keys // width, keys % width, len(rows))


def count_candidates(
  targets: Ragged,
  seen: Ragged,
  *,
  num_items: int,
  among: Int[np.ndarray, " cand"] | None = None,
) -> Int[np.ndarray, " query"]:
  """How many items, the targets included, `rank_in_catalogue` ranks.

  Args:
    targets: distinct item ids of each query.
    seen: distinct item ids that are no candidates.
    num_items: the size of the catalogue.
    among: as in `rank_in_catalogue`.
  """
  place, _ = lay_out(among, num_items, 64)
  inside = place >= 0
  per_row = lambda rows, counted: np.bincount(
    rows.row_ids[counted[rows.values]], minlength=len(rows)
  )
  skips = without(seen, targets, num_items)
  outside = per_row(targets, ~inside)
  return np.count_nonzero(inside) + outside - per_row(skips, inside)


def lay_out(
  among: Int[np.ndarray, " cand"] | None, num_items: int, width: int
) -> tuple[Int[np.ndarray, " vocab"], Int[Array, "block width"] | None]:
  """Where each id stands in blocks laid end to end (-1: nowhere), and these."""
  if among is None:
    return np.arange(-1, num_items), None
  place = np.full(num_items + 1, -1)
  place[among] = np.arange(len(among))
  laid = np.zeros((-(-len(among) // width), width), np.int32)
  laid.flat[: len(among)] = among
  return place, jnp.asarray(laid)


def make_plan(
  own: Int[np.ndarray, "batch item"],
  skips: Ragged,
  place: Int[np.ndarray, " vocab"],
  width: int,
  num_skips: int,
) -> Plan:
  """Lays out the blocks of items, and what each user skips in them."""
  distinct = np.unique(own)
  num_first = power_of_two(-(-len(distinct) // width))
  ids = np.zeros((num_first, width), np.int32)
  ids.flat[: len(distinct)] = distinct
  # Nobody is ranked above itself, and seen items are above nobody.
  own_row, own_slot = np.nonzero(own)
  row = np.concatenate([own_row, skips.row_ids])
  item = np.concatenate([own[own_row, own_slot], skips.values])
  slot = np.concatenate([own_slot, np.full(len(skips.values), -1)])
  inside = place[item] >= 0
  row, item, slot = row[inside], item[inside], slot[inside]
  block, column = np.divmod(place[item], width)
  block += num_first
  order = np.argsort(block, kind="stable")
  # A chunk that starts at the last entry must still lie inside.
  laid = np.zeros((3, power_of_two(num_skips + SKIP_CHUNK)), np.int32)
  laid[:, : len(order)] = row[order], column[order], slot[order]
  num_blocks = num_first + -(-(place.max() + 1) // width)
  offsets = np.searchsorted(block[order], np.arange(num_blocks + 1))
  position = np.searchsorted(distinct, own)
  return Plan(*map(jnp.asarray, (ids, position, laid, offsets)))
