"""The k-core of a data set: everybody left has enough interactions."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from recjax.data.interactions import Interactions
from recjax.errors import DataError, check_range


def k_core(
  interactions: Interactions, min_user_count: int, min_item_count: int
) -> Interactions:
  """Drops rare users and items again and again until none is left.

  The result is the largest set of rows in which every user has at least
  `min_user_count` rows and every item at least `min_item_count`. What is left
  gets new dense ids in the old order; `users` and `items` keep the row of
  every id, with the old id as `raw_id` where there was no table. Ids without
  any row go as well, unless both counts are 0, which changes nothing.

  Args:
    interactions: the data.
    min_user_count: rows a user must have; 0 or 1 asks for nothing.
    min_item_count: rows an item must have; 0 or 1 asks for nothing.

  Returns:
    The filtered data.

  Raises:
    DataError: nothing is left.
  """
  check_range("min_user_count", min_user_count, 0, integer=True)
  check_range("min_item_count", min_item_count, 0, integer=True)
  if not min_user_count and not min_item_count:
    return interactions
  keep = _core_rows(
    interactions.user_id, interactions.item_id, min_user_count, min_item_count
  )
  if not keep.any():
    raise DataError(
      f"{interactions.name}: no interaction is left with"
      f" min_user_count={min_user_count} and min_item_count={min_item_count};"
      " lower them. See `recjax data` for what other counts leave."
    )
  return _renumbered(interactions, keep)


def _renumbered(
  interactions: Interactions, keep: Bool[np.ndarray, " row"]
) -> Interactions:
  """The rows to keep, with dense ids."""
  table = interactions.table.filter(pa.array(keep))
  num_kept, features = {}, {}
  for column, count, old in (
    ("user_id", interactions.num_users, interactions.users),
    ("item_id", interactions.num_items, interactions.items),
  ):
    ids = interactions.column(column)[keep]
    kept = np.unique(ids)
    new_ids = np.zeros(count + 1, np.int32)
    new_ids[kept] = np.arange(1, len(kept) + 1, dtype=np.int32)
    place = table.column_names.index(column)
    table = table.set_column(place, column, pa.array(new_ids[ids]))
    num_kept[column] = len(kept)
    features[column] = (
      pa.table({"raw_id": pa.array(kept).cast(pa.string())})
      if old is None
      else old.take(pa.array(kept - 1))
    )
  return Interactions.from_sorted_table(
    interactions.name,
    table,
    num_users=num_kept["user_id"],
    num_items=num_kept["item_id"],
    users=features["user_id"],
    items=features["item_id"],
  )


def _core_rows(
  user_id: Int[np.ndarray, " row"],
  item_id: Int[np.ndarray, " row"],
  min_user_count: int,
  min_item_count: int,
) -> Bool[np.ndarray, " row"]:
  # Every pass looks only at the rows that the pass before left.
  rows = np.arange(len(user_id))
  while True:
    enough_user = np.bincount(user_id[rows]) >= min_user_count
    enough_item = np.bincount(item_id[rows]) >= min_item_count
    stays = enough_user[user_id[rows]] & enough_item[item_id[rows]]
    if stays.all():
      break
    rows = rows[stays]
  keep = np.zeros(len(user_id), bool)
  keep[rows] = True
  return keep
