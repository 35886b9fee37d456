r"""How often items turn up in training batches: from the stream or from counts.

Yi et al.: Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
Recommendations, RecSys 2019, Algorithms 2 and 3,
https://doi.org/10.1145/3298689.3346996

The mean number of steps between two batches that hold an item is the inverse
of the probability that a batch holds it. An array A keeps the last step at
which an item was seen, an array B the estimated gap; at step t, for the items
of its batch,

  B[h(y)] <- (1 - alpha) B[h(y)] + alpha (t - A[h(y)]),   A[h(y)] <- t

and 1 / B[h(y)] is the probability. Items whose hashes collide look like one
that is seen more often, so that with several hashes the largest gap counts.

Two things are easily taken for each other. With B rows a batch, each of which
holds item i with probability q,

  1 - (1 - q)^B   is the probability that a batch holds i at all,
  B q             is how many copies of i are expected in a batch.

The first is what a gap measures, the second what the correction of a loss
over all rows needs. They agree for rare items; the first stops at 1 while the
second goes on growing. `log_draw_probability` turns the first into q.

Deviations from the paper:
- An item that a batch holds several times is seen once in it; taken one after
  another as written, each further copy would be a gap of 0.
- The first hash is the id modulo the buckets, so that nothing collides when
  there are more buckets than ids.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Num

from recjax.embeddings.compression import Hashing
from recjax.errors import DataError, check_range

LOG_NEVER = -30 * math.log(2)
"""Log of 2^-30, for what is never drawn: the logarithm stays finite."""

LAST_STEP, GAP = "last_step", "gap"


@dataclasses.dataclass(frozen=True)
class StreamingFrequency:
  """Estimates from the stream of batches how probable an item is in one.

  Attributes:
    num_buckets: entries of an array; more than ids, and none collide.
    learning_rate: alpha; the estimate looks back over about 1 / alpha
      sightings, and its relative deviation is about sqrt(alpha / 2) for an
      item that is rare in batches.
    num_hashes: arrays, each with its own hash. The largest of several gaps
      is above their mean, so that without collisions one is best.
    initial_gap: B before anything is seen, in steps; the paper's is 100.
  """

  num_buckets: int
  learning_rate: float = 0.01
  num_hashes: int = 1
  initial_gap: float = 100.0

  def __post_init__(self):
    name = "StreamingFrequency"
    check_range(f"{name}.num_buckets", self.num_buckets, 1, integer=True)
    check_range(f"{name}.learning_rate", self.learning_rate, 1e-6, 1.0)
    check_range(f"{name}.num_hashes", self.num_hashes, 1, 16, integer=True)
    check_range(f"{name}.initial_gap", self.initial_gap, 1.0)

  def init(self) -> dict[str, Array]:
    """The arrays before the first step.

    Returns:
      "last_step" int32 and "gap" float32, [hashes, buckets].
    """
    shape = (self.num_hashes, self.num_buckets)
    return {
      LAST_STEP: jnp.zeros(shape, jnp.int32),
      GAP: jnp.full(shape, self.initial_gap, jnp.float32),
    }

  def update(
    self,
    state: Mapping[str, Array],
    item_id: Int[Array, " batch"],
    where: Bool[Array, " batch"],
    step: Int[Array, ""],
  ) -> dict[str, Array]:
    """The arrays after a batch; its cost follows the batch alone.

    Args:
      state: of `init`, or of the step before.
      item_id: the items of the batch. An item counts once a step, also when
        the step comes in several calls.
      where: which rows count.
      step: number of the step, from 1.

    Returns:
      The new arrays.
    """
    bucket = self._buckets(item_id)
    row = jnp.arange(self.num_hashes)[:, None]
    last, gap = state[LAST_STEP][row, bucket], state[GAP][row, bucket]
    moved = gap + self.learning_rate * ((step - last) - gap)
    # Copies of an item write the same; what does not count writes nowhere.
    is_new = where[None, :] & (last < step)
    bucket = jnp.where(is_new, bucket, self.num_buckets)
    return {
      LAST_STEP: state[LAST_STEP].at[row, bucket].set(step, mode="drop"),
      GAP: state[GAP].at[row, bucket].set(moved, mode="drop"),
    }

  def log_probability(
    self, state: Mapping[str, Array], item_id: Int[Array, "*ids"]
  ) -> Float[Array, "*ids"]:
    """Log of the estimated probability that a batch holds an item."""
    bucket = self._buckets(item_id.reshape(-1))
    row = jnp.arange(self.num_hashes)[:, None]
    gap = jnp.max(state[GAP][row, bucket], axis=0)
    return -jnp.log(jnp.maximum(gap, 1.0)).reshape(item_id.shape)

  def _buckets(self, item_id: Int[Array, " ids"]) -> Int[Array, "hashes ids"]:
    bucket = (item_id % self.num_buckets)[None, :]
    if self.num_hashes == 1:
      return bucket
    hashing = Hashing(self.num_buckets, self.num_hashes - 1)
    return jnp.concatenate([bucket, hashing.rows(item_id).T - 1], axis=0)


def log_draw_probability(
  log_probability: Float[Array, "*ids"], num_rows: Num[Array, ""] | int
) -> Float[Array, "*ids"]:
  """Log q of one row, from the probability p that a batch holds an item.

  q = 1 - (1 - p)^(1 / B)

  Args:
    log_probability: log p, such as of `StreamingFrequency`.
    num_rows: B, the rows of a batch.

  Returns:
    Log q. Where nearly every batch holds the item, p says little about q: as
    p is taken to be 1 - 2^-20 at most, q is 13.9 / B at most.
  """
  probability = jnp.minimum(jnp.exp(log_probability), 1.0 - 2.0**-20)
  num_rows = jnp.maximum(jnp.asarray(num_rows, jnp.float32), 1.0)
  return jnp.log(-jnp.expm1(jnp.log1p(-probability) / num_rows))


def count_log_probability(
  counts: Num[np.ndarray, " vocab"],
) -> Float32[np.ndarray, " vocab"]:
  """Log q of a row that is drawn from the training rows.

  q(i) = count_i / sum_j count_j

  Args:
    counts: training count of every id; entry 0 is padding.

  Returns:
    Log q of every id; `LOG_NEVER` for padding and for what was never counted.

  Raises:
    DataError: no item was ever counted.
  """
  weights = np.maximum(counts.astype(np.float64), 0.0)
  weights[0] = 0.0
  if not weights.any():
    raise DataError(
      "no item occurs in the training rows, so a batch holds none; count the"
      " items of the training part."
    )
  share = np.maximum(weights / weights.sum(), np.exp(LOG_NEVER))
  return np.log(share).astype(np.float32)
