"""Negatives out of a list of each user: given ones, and mined ones.

Both are sources as in `recjax.tasks.retrieval_negatives`, with candidates of
each row's own.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from recjax.errors import check_range
from recjax.tasks.frequencies import LOG_NEVER
from recjax.tasks.retrieval_negatives import USER, Arrays, Candidates
from recjax.types import Batch

HARD_LISTS, MINED = "hard_lists", "mined"


@dataclasses.dataclass(frozen=True)
class HardLists:
  """Draws for each row from a given list of its own, such as impressions.

  The lists are arrays["hard_lists"], ids [list, width], left-aligned and
  filled up with 0; list 0 is that of padding. A row whose user has an empty
  list has no candidates.

  Attributes:
    num: draws of each row, with replacement.
  """

  num: int
  shared: ClassVar[bool] = False
  name: ClassVar[str] = HARD_LISTS

  def __post_init__(self):
    check_range(f"{type(self).__name__}.num", self.num, 1, integer=True)

  def num_candidates(self, batch_size: int) -> int:
    """As many as are drawn for a row."""
    del batch_size
    return self.num

  def num_live(self, batch: Batch, arrays: Arrays) -> int:
    """All of them; for an empty list all q are 0."""
    del batch, arrays
    return self.num

  def constants(
    self, counts: Num[np.ndarray, " vocab"]
  ) -> dict[str, np.ndarray]:
    """None: lists do not follow from counts."""
    del counts
    return {}

  def _lists(self, batch: Batch, arrays: Arrays) -> Int[Array, "batch width"]:
    return jnp.asarray(arrays[self.name])[batch[USER]]

  def draw(
    self, key: Key[Array, ""], batch: Batch, arrays: Arrays, *, num_items: int
  ) -> Candidates:
    """Draws from the lists of the rows, [batch, num]."""
    del num_items
    lists = self._lists(batch, arrays)
    length = jnp.sum(lists > 0, axis=1)[:, None]
    place = jax.random.randint(
      key, (lists.shape[0], self.num), 0, jnp.maximum(length, 1), jnp.int32
    )
    item_id = jnp.take_along_axis(lists, place, axis=1)
    return Candidates(item_id, item_id > 0)

  def log_probability(
    self,
    item_id: Int[Array, "batch_or_1 cand"],
    batch: Batch,
    arrays: Arrays,
    *,
    num_items: int,
  ) -> Float[Array, "batch cand"]:
    """Log of the share of an item in the list of each row.

    Args:
      item_id: ids for each row, or [1, cand] for all rows.
      batch: of the step.
      arrays: with the lists.
      num_items: not needed.

    Returns:
      [batch, cand].
    """
    del num_items
    lists = self._lists(batch, arrays)
    length = jnp.maximum(jnp.sum(lists > 0, axis=1), 1)[:, None]
    if item_id.shape[0] == 1:
      hits = _count_shared(lists, item_id[0])
    else:
      where = (lists > 0)[:, None, :]
      same = item_id[:, :, None] == lists[:, None, :]
      hits = jnp.sum(same & where, axis=2)
    share = hits / length
    return jnp.log(jnp.maximum(share, np.exp(LOG_NEVER)))


def _count_shared(
  lists: Int[Array, "batch width"], item_id: Int[Array, " cand"]
) -> Int[Array, "batch cand"]:
  """How often each list holds each of the ids, by looking up the lists."""
  ids = jnp.sort(item_id)
  place = jnp.searchsorted(ids, lists).astype(jnp.int32)
  found = ids[jnp.minimum(place, len(ids) - 1)] == lists
  row = jnp.arange(lists.shape[0], dtype=jnp.int32)[:, None]
  counts = jnp.zeros((lists.shape[0], len(ids)), jnp.int32)
  counts = counts.at[row, place].add(found & (lists > 0), mode="drop")
  # Equal ids are counted at the first of them.
  return counts[:, jnp.searchsorted(ids, item_id)]


@dataclasses.dataclass(frozen=True)
class Mined(HardLists):
  """Draws for each row from what an index of the current model finds.

  Xiong et al.: Approximate Nearest Neighbor Negative Contrastive Learning,
  ICLR 2021, https://arxiv.org/abs/2007.00808. The lists are arrays["mined"],
  [num_users + 1, pool], of `tasks.hard_mining.mine_hard_negatives` with a row
  for padding.

  Attributes:
    num: draws of each row, with replacement.
    pool: found for each user.
    refresh_epochs: after how many epochs the lists are mined anew.
    skip_top: of the nearest items that are left out, for they may well be
      positives that nobody has seen yet.
  """

  pool: int = 100
  refresh_epochs: int = 1
  skip_top: int = 0
  name: ClassVar[str] = MINED

  def __post_init__(self):
    super().__post_init__()
    check_range("Mined.pool", self.pool, 1, integer=True)
    check_range("Mined.refresh_epochs", self.refresh_epochs, 1, integer=True)
    check_range("Mined.skip_top", self.skip_top, 0, integer=True)
