"""Hard negatives from an index of the current model."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int32

from recjax.data.ragged import Ragged
from recjax.errors import DataError, check_range


def mine_hard_negatives(
  search: Callable[[Float[np.ndarray, "batch ..."], int], tuple[Any, Any]],
  user_vectors: Float[np.ndarray, "user ..."],
  train_items: Ragged,
  *,
  pool: int,
  num_items: int,
  skip_top: int = 0,
  block: int = 1024,
) -> Int32[np.ndarray, "user pool"]:
  """The items nearest to each user, without those of its training rows.

  Users go through the index in blocks, those with few training items first:
  it is asked for as many more items as a user of the block has.

  Args:
    search: of an index: vectors and k -> scores and ids [batch, k], best
      first, id 0 where there are fewer.
    user_vectors: one row a user.
    train_items: training items of the same users, in the same order.
    pool: how many to find for each user.
    num_items: the size of the catalogue.
    skip_top: of the nearest negatives that are left out.
    block: users of a search.

  Returns:
    Ids, nearest first, filled up with 0.

  Raises:
    ConfigError: `pool` or `skip_top` is out of range.
    DataError: there are not as many vectors as users with training items.
  """
  check_range("mine_hard_negatives pool", pool, 1, integer=True)
  check_range("mine_hard_negatives skip_top", skip_top, 0, integer=True)
  if len(user_vectors) != len(train_items):
    raise DataError(
      f"mining needs one vector a user; got {len(user_vectors)} vectors and"
      f" the training items of {len(train_items)} users."
    )
  lengths, code = train_items.lengths, lambda u, i: u * (num_items + 1) + i
  order = np.argsort(lengths, kind="stable")
  mined = np.zeros((len(order), pool), np.int32)
  for start in range(0, len(order), block):
    users = order[start : start + block]
    wanted = pool + skip_top + int(lengths[users].max())
    # Powers of two and full blocks: few shapes, few compilations.
    k = min(num_items, 1 << (wanted - 1).bit_length())
    asked = np.resize(users, min(block, len(order)))
    found = np.asarray(search(user_vectors[asked], k)[1])[: len(users)]
    touched = train_items.take(users)
    rows = np.arange(len(users), dtype=np.int64)[:, None]
    is_touched = np.isin(
      code(rows, found), code(touched.row_ids, touched.values)
    )
    keep = (found > 0) & ~is_touched
    place = np.cumsum(keep, axis=1) - 1 - skip_top
    keep &= (place >= 0) & (place < pool)
    row, column = np.nonzero(keep)
    mined[users[row], place[row, column]] = found[row, column]
  return mined
