"""Candidates of the batches before, kept in a ring.

Wang et al.: Cross-Batch Memory for Embedding Learning, CVPR 2020,
https://arxiv.org/abs/1912.06798; Wang, Zhu, He: Cross-Batch Negative Sampling
for Training Two-Tower Recommenders, SIGIR 2021,
https://arxiv.org/abs/2110.15154

The vectors of the items of a batch are kept as they were; in the steps after
it they are candidates, without the cost of the tower. Their rows came as those
of a batch do, so that their probabilities are those of `InBatch`.

Deviations from the papers: when to start using the memory (after a warm-up) is
left to whoever trains.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from recjax.errors import check_range
from recjax.tasks.retrieval_negatives import Arrays, Candidates, InBatch
from recjax.types import ITEM, Batch

MEMORY = "memory"


@dataclasses.dataclass(frozen=True)
class CrossBatchMemory:
  """Items of the batches before, with the vectors that they had then.

  A source as in `tasks.retrieval_negatives`; the memory is arrays["memory"].

  Attributes:
    size: rows that are kept.
    in_batch: knows the probabilities.
  """

  size: int
  in_batch: InBatch = InBatch()
  shared: ClassVar[bool] = True

  def __post_init__(self):
    check_range("CrossBatchMemory.size", self.size, 1, integer=True)

  def init(self, dim: int) -> dict[str, Array]:
    """An empty memory: "vectors" [size, dim], "item_id" [size], "place" []."""
    return {
      "vectors": jnp.zeros((self.size, dim), jnp.float32),
      ITEM: jnp.zeros((self.size,), jnp.int32),
      "place": jnp.zeros((), jnp.int32),
    }

  def push(
    self,
    state: Mapping[str, Array],
    vectors: Float[Array, "batch dim"],
    item_id: Int[Array, " batch"],
    where: Bool[Array, " batch"],
  ) -> dict[str, Array]:
    """The memory with the rows of a batch in place of its oldest.

    Args:
      state: of `init`, or of the step before.
      vectors: of the items; no gradient flows into them.
      item_id: their ids.
      where: which rows count; of more than `size` the last ones stay.

    Returns:
      The new memory.
    """
    num = jnp.sum(where)
    order = jnp.cumsum(where) - 1
    kept = where & (order >= num - self.size)
    # What is not kept is written nowhere.
    place = (state["place"] + order) % self.size
    place = jnp.where(kept, place, self.size)
    vectors = jax.lax.stop_gradient(vectors).astype(state["vectors"].dtype)
    return {
      "vectors": state["vectors"].at[place].set(vectors, mode="drop"),
      ITEM: state[ITEM].at[place].set(item_id, mode="drop"),
      "place": ((state["place"] + num) % self.size).astype(jnp.int32),
    }

  def num_candidates(self, batch_size: int) -> int:
    """The size of the memory."""
    del batch_size
    return self.size

  def num_live(self, batch: Batch, arrays: Arrays) -> Num[Array, ""]:
    """How many rows are filled."""
    del batch
    return jnp.sum(arrays[MEMORY][ITEM] > 0)

  def constants(
    self, counts: Num[np.ndarray, " vocab"]
  ) -> dict[str, np.ndarray]:
    """As `InBatch.constants`."""
    return self.in_batch.constants(counts)

  def draw(
    self, key: Key[Array, ""], batch: Batch, arrays: Arrays, *, num_items: int
  ) -> Candidates:
    """All that is kept; nothing is random."""
    del key, batch, num_items
    item_id = arrays[MEMORY][ITEM]
    return Candidates(item_id, item_id > 0)

  def log_probability(
    self,
    item_id: Int[Array, "*ids"],
    batch: Batch,
    arrays: Arrays,
    *,
    num_items: int,
  ) -> Float[Array, "*ids"]:
    """As `InBatch.log_probability`."""
    return self.in_batch.log_probability(
      item_id, batch, arrays, num_items=num_items
    )
