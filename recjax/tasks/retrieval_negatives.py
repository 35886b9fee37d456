r"""Where the candidates of a retrieval loss come from, and how probably.

Several sources are put together (mixed negative sampling, Yang et al.: Mixed
Negative Sampling for Learning Two-tower Neural Networks in Recommendations,
WWW 2020 companion, https://doi.org/10.1145/3366424.3386195). If source s puts
in num_s candidates, each of which is item i with probability q_s(i), then

  c(i) = sum_s num_s q_s(i)

copies of i are expected among all of them, and exp(s_j) / c(j), summed over
all candidates, is an unbiased estimate of the sum over the items: log c
(`log_expected_counts`) is the exact correction of the mixture. A candidate's
own source does not matter to it.

A source has

  shared                      one set of candidates for the whole batch [num],
                              or own ones for each row [batch, num]
  num_candidates(batch_size)  how many of them, as a static shape
  num_live(batch, arrays)     how many of them are really there
  constants(counts)           arrays it needs that follow from training counts
  draw(key, batch, arrays, num_items=n)             `Candidates`
  log_probability(ids, batch, arrays, num_items=n)  log q of any ids, not only
                              of its own draws; [batch, cand] where they are
                              not shared

`batch` holds "item_id", "user_id" and maybe "where" [batch]; `arrays` holds
the constants and the variables of the task, by name. Probabilities below 2^-30
are given as 2^-30, so that their logarithms are finite.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from recjax.errors import ConfigError, check_range
from recjax.tasks.frequencies import (
  LOG_NEVER,
  StreamingFrequency,
  count_log_probability,
  log_draw_probability,
)
from recjax.tasks.negative_sampling import NegativeSampling
from recjax.types import ITEM, Batch

USER, WHERE = "user_id", "where"
IN_BATCH_LOG_Q, FREQUENCY = "in_batch_log_q", "frequency"
Arrays = Mapping[str, Any]


class Candidates(NamedTuple):
  """What a source puts in.

  Attributes:
    item_id: ids, 0 where there is none.
    where: which are there.
  """

  item_id: Int[Array, "*rows cand"]
  where: Bool[Array, "*rows cand"]


class Source(Protocol):
  """Of candidates; see the docstring of the module."""

  shared: ClassVar[bool]

  def num_candidates(self, batch_size: int) -> int:
    """Candidates of a batch, or of each of its rows."""
    ...

  def num_live(self, batch: Batch, arrays: Arrays) -> Num[Array, ""] | int:
    """How many of them are there."""
    ...

  def constants(
    self, counts: Num[np.ndarray, " vocab"]
  ) -> dict[str, np.ndarray]:
    """What follows from the training count of every id."""
    ...

  def draw(
    self, key: Key[Array, ""], batch: Batch, arrays: Arrays, *, num_items: int
  ) -> Candidates:
    """The candidates of a step."""
    ...

  def log_probability(
    self,
    item_id: Int[Array, "*ids"],
    batch: Batch,
    arrays: Arrays,
    *,
    num_items: int,
  ) -> Float[Array, "*ids"]:
    """Log q of ids."""
    ...


def rows_where(batch: Batch) -> Bool[Array, " batch"]:
  """Which rows of a batch count."""
  return batch.get(WHERE, jnp.ones(batch[ITEM].shape, bool))


@dataclasses.dataclass(frozen=True)
class InBatch:
  """The positives of the other rows.

  Attributes:
    streaming: estimates q from the stream, whose state is arrays["frequency"];
      None takes the training counts, exact for rows in random order.
  """

  streaming: StreamingFrequency | None = None
  shared: ClassVar[bool] = True

  def num_candidates(self, batch_size: int) -> int:
    """One a row; to its own row a positive is no candidate."""
    return batch_size

  def num_live(self, batch: Batch, arrays: Arrays) -> Num[Array, ""]:
    """The other rows that count."""
    del arrays
    return jnp.maximum(jnp.sum(rows_where(batch)) - 1, 0)

  def constants(
    self, counts: Num[np.ndarray, " vocab"]
  ) -> dict[str, np.ndarray]:
    """Log of the share of each id in the training rows."""
    if self.streaming is not None:
      return {}
    return {IN_BATCH_LOG_Q: count_log_probability(counts)}

  def draw(
    self, key: Key[Array, ""], batch: Batch, arrays: Arrays, *, num_items: int
  ) -> Candidates:
    """The positives of the batch; nothing is random."""
    del key, arrays, num_items
    return Candidates(batch[ITEM], rows_where(batch))

  def log_probability(
    self,
    item_id: Int[Array, "*ids"],
    batch: Batch,
    arrays: Arrays,
    *,
    num_items: int,
  ) -> Float[Array, "*ids"]:
    """Log of the probability that a row holds an item."""
    del num_items
    if self.streaming is None:
      return jnp.asarray(arrays[IN_BATCH_LOG_Q])[item_id]
    held = self.streaming.log_probability(arrays[FREQUENCY], item_id)
    # Of a full batch, as those that the estimate comes from.
    return log_draw_probability(held, batch[ITEM].shape[0])


@dataclasses.dataclass(frozen=True)
class Uniform:
  """Draws from all items alike, one set for the whole batch.

  Attributes:
    num: draws, with replacement.
  """

  num: int
  shared: ClassVar[bool] = True

  def __post_init__(self):
    check_range("Uniform.num", self.num, 1, integer=True)

  @property
  def sampling(self) -> NegativeSampling:
    """What draws."""
    return NegativeSampling(num=self.num, exclude="none", shared=True)

  def num_candidates(self, batch_size: int) -> int:
    """As many as are drawn."""
    del batch_size
    return self.num

  def num_live(self, batch: Batch, arrays: Arrays) -> int:
    """All of them."""
    del batch, arrays
    return self.num

  def constants(
    self, counts: Num[np.ndarray, " vocab"]
  ) -> dict[str, np.ndarray]:
    """The popularity, where it is drawn by."""
    if self.sampling.distribution == "uniform":
      return {}
    return {self._name: self.sampling.cumulative_tickets(counts)}

  @property
  def _name(self) -> str:
    return f"tickets_{self.sampling.alpha:g}"

  def _tickets(self, arrays: Arrays) -> Int[Array, " vocab"] | None:
    if self.sampling.distribution == "uniform":
      return None
    return jnp.asarray(arrays[self._name])

  def draw(
    self, key: Key[Array, ""], batch: Batch, arrays: Arrays, *, num_items: int
  ) -> Candidates:
    """Draws ids with replacement."""
    del batch
    item_id = self.sampling.draw(
      key,
      (self.num,),
      num_items=num_items,
      tickets=self._tickets(arrays),
    )
    return Candidates(item_id, jnp.ones(item_id.shape, bool))

  def log_probability(
    self,
    item_id: Int[Array, "*ids"],
    batch: Batch,
    arrays: Arrays,
    *,
    num_items: int,
  ) -> Float[Array, "*ids"]:
    """Log of the probability of one draw."""
    del batch
    return self.sampling.log_probability(
      item_id, num_items=num_items, tickets=self._tickets(arrays)
    )


@dataclasses.dataclass(frozen=True)
class Popularity(Uniform):
  """Draws in proportion to the training count to the power alpha.

  Attributes:
    num: draws, with replacement.
    alpha: exponent of the count, in [0, 1].
  """

  alpha: float = 0.75

  def __post_init__(self):
    check_range("Popularity.num", self.num, 1, integer=True)
    check_range("Popularity.alpha", self.alpha, 0.0, 1.0)

  @property
  def sampling(self) -> NegativeSampling:
    """What draws."""
    return NegativeSampling(
      num=self.num,
      distribution="popularity",
      alpha=self.alpha,
      exclude="none",
      shared=True,
    )


def log_expected_counts(
  parts: Sequence[tuple[Num[Array, ""] | int, Float[Array, "..."]]],
) -> Float[Array, "..."]:
  r"""How many copies of items are expected over all sources together.

  log c(i) = log sum_s num_s q_s(i)

  Args:
    parts: for each source the number of its candidates that are there, and
      log q_s of the same ids: arrays of one rank that broadcast.

  Returns:
    Log c, `LOG_NEVER` at least.
  """
  total = None
  for num, log_q in parts:
    part = log_q + jnp.log(jnp.asarray(num, log_q.dtype))
    total = part if total is None else jnp.logaddexp(total, part)
  if total is None:
    raise ConfigError(
      "log_expected_counts needs one source of candidates at least; got none."
    )
  return jnp.maximum(total, LOG_NEVER)
