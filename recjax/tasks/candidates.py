"""What the positives of a batch are compared with, and by which loss.

Candidates of several sources stand side by side. Those that are drawn are
looked up with the positives; those of the batch are there already, and those
of a memory come as vectors.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from recjax.data.ragged import Ragged
from recjax.errors import ConfigError
from recjax.losses.pairwise import bpr_loss, hinge_loss, warp_loss
from recjax.losses.pointwise import binary_cross_entropy_loss
from recjax.losses.retrieval import (
  candidate_softmax_loss,
  mixture_loss,
)
from recjax.tasks.cross_batch_memory import MEMORY, CrossBatchMemory
from recjax.tasks.frequencies import StreamingFrequency
from recjax.tasks.list_negatives import HARD_LISTS, MINED, Mined
from recjax.tasks.pairs import USER, is_touched
from recjax.tasks.retrieval_negatives import (
  FREQUENCY,
  InBatch,
  log_expected_counts,
)
from recjax.tasks.retrieval_objectives import (
  Binary,
  Mixture,
  Pairwise,
  Softmax,
  softmax_of,
)
from recjax.types import ITEM, Batch

REMOVE = ("target", "touched", "none")
STEP = "step"


@dataclasses.dataclass(frozen=True)
class CandidateSources:
  """Sources of candidates with the loss that compares them.

  Attributes:
    sources: of `recjax.tasks.retrieval_negatives`.
    objective: the loss.
    num_items: ids run from 1 to it.
    remove_hits: candidates left out, "target", "touched" or "none".
  """

  sources: tuple[Any, ...]
  objective: Any
  num_items: int
  remove_hits: str

  def __post_init__(self):
    if not isinstance(self.sources, tuple) or not self.sources:
      raise ConfigError(
        "negatives must be a tuple of sources such as (InBatch(),"
        f" Uniform(1000)); got {self.sources!r}."
      )
    for source in self.sources:
      if isinstance(source, type) or not hasattr(source, "log_probability"):
        raise ConfigError(
          "negatives must be sources such as InBatch() or Uniform(1000); got"
          f" {source!r}."
        )
    if not isinstance(self.objective, Softmax | Mixture | Binary | Pairwise):
      raise ConfigError(
        "the objective must be Softmax(), Mixture(), Binary() or Pairwise();"
        f" got {self.objective!r}."
      )
    kinds = [type(source) for source in self.sources]
    if kinds == [Mined]:
      raise ConfigError(
        "Mined can not be the only source of negatives: before the first lists"
        " are mined there would be nothing to learn from. Put InBatch() or"
        " Uniform(num) beside it."
      )
    if len(set(self._in_batch)) > 1:
      raise ConfigError(
        "CrossBatchMemory.in_batch must estimate frequencies as the InBatch"
        f" beside it does; got {' and '.join(map(repr, self._in_batch))}."
      )
    twice = {kind.__name__ for kind in kinds if kinds.count(kind) > 1}
    if twice:
      raise ConfigError(
        f"negatives must be of different kinds; got {', '.join(sorted(twice))}"
        " more than once: give one of them a larger num."
      )
    softmax = softmax_of(self.objective)
    if softmax and softmax.symmetric and kinds != [InBatch]:
      raise ConfigError(
        "Softmax.symmetric needs negatives=(InBatch(),): only the batch has"
        " users for an item to choose from."
      )

  # -- Arrays ---------------------------------------------------------------

  def init(self, width: int) -> dict[str, Any]:
    """What is remembered from step to step.

    Args:
      width: of the vectors.
    """
    state: dict[str, Any] = {}
    for source in self.sources:
      if isinstance(source, CrossBatchMemory):
        state[MEMORY] = source.init(width)
    streaming = self._streaming
    if streaming is not None:
      state[FREQUENCY] = streaming.init()
      state[STEP] = jnp.zeros((), jnp.int32)
    return state

  @property
  def _in_batch(self) -> list[InBatch]:
    """What knows how often items are in a batch; all are equal."""
    own = [source for source in self.sources if isinstance(source, InBatch)]
    memories = [s for s in self.sources if isinstance(s, CrossBatchMemory)]
    return own + [memory.in_batch for memory in memories]

  @property
  def _streaming(self) -> StreamingFrequency | None:
    return self._in_batch[0].streaming if self._in_batch else None

  @property
  def mined(self) -> Mined | None:
    """The source whose lists an index is to find, if there is one."""
    return next((s for s in self.sources if isinstance(s, Mined)), None)

  @property
  def needs_lists(self) -> bool:
    """Whether lists of hard negatives are to be given."""
    return any(getattr(s, "name", "") == HARD_LISTS for s in self.sources)

  def constants(
    self, train_items: Ragged, counts: Num[np.ndarray, " vocab"]
  ) -> dict[str, np.ndarray]:
    """What the sources are drawn by; mined lists are empty at first.

    Args:
      train_items: training items of each user id; row 0 is empty.
      counts: training count of every item id.
    """
    out: dict[str, np.ndarray] = {}
    for source in self.sources:
      out |= source.constants(counts)
    if self.mined is not None:
      shape = (len(train_items), self.mined.pool)
      out[MINED] = np.zeros(shape, np.int32)
    if self.remove_hits == "touched":
      order = np.lexsort((train_items.values, train_items.row_ids))
      out["touched"] = np.asarray(train_items.values, np.int32)[order]
      out["offsets"] = train_items.offsets.astype(np.int32)
    return out

  # -- A step ---------------------------------------------------------------

  def draw(
    self, key: Key[Array, ""], batch: Batch, arrays: Mapping[str, Any]
  ) -> Int[Array, "batch cand"]:
    """All candidates that are to be looked up; 0 where there is none.

    Those drawn for the whole batch are spread over its rows.

    Args:
      key: of the draws.
      batch: "user_id", "item_id" and "where".
      arrays: of `constants`.
    """
    rows = batch[ITEM].shape[0]
    columns = [jnp.zeros((rows, 0), jnp.int32)]
    for number, source in enumerate(self.sources):
      if _has_vectors(source):
        continue
      source_key = jax.random.fold_in(key, number)
      drawn = source.draw(source_key, batch, arrays, num_items=self.num_items)
      ids = jnp.where(drawn.where, drawn.item_id, 0)
      if source.shared:
        ids = jnp.pad(ids, (0, -ids.shape[0] % rows)).reshape(rows, -1)
      columns.append(ids)
    return jnp.concatenate(columns, axis=1)

  def losses(
    self,
    user: Float[Array, "batch dim"],
    items: Float[Array, "batch places dim"],
    state: Mapping[str, Any],
    examples: Batch,
    constants: Mapping[str, Any],
  ) -> tuple[Float[Array, " batch"], dict[str, Any]]:
    """The loss of each row, and what is remembered after it.

    Args:
      user: vectors, over the temperature.
      items: the positive of each row, then its part of what `draw` gave.
      state: of `init`, or of the step before.
      examples: "user_id", "where" and "candidates".
      constants: of `constants`.
    """
    ids, where = examples["candidates"], examples["where"]
    batch = {USER: examples[USER], ITEM: ids[:, 0], "where": where}
    state = self._seen(dict(state), batch)
    arrays = {**constants, **state}
    shared, own = self._gathered(items, ids, batch, state)
    score = lambda vectors: user @ vectors.T
    negative = [score(vectors) for vectors, _ in shared]
    negative += [jnp.einsum("bd,bnd->bn", user, v) for v, _ in own]
    candidate_id = [i[None, :] for _, i in shared] + [i for _, i in own]
    ignored = self._ignored(candidate_id, batch, constants)
    positive = jnp.einsum("bd,bd->b", user, items[:, 0])
    losses = self._loss(
      positive,
      jnp.concatenate(negative, axis=1),
      ignored,
      lambda: self._log_counts(candidate_id, batch, arrays),
      batch,
    )
    for source in self.sources:
      if isinstance(source, CrossBatchMemory):
        state[MEMORY] = source.push(
          state[MEMORY], items[:, 0], batch[ITEM], where
        )
    return losses, state

  def _seen(self, state: dict[str, Any], batch: Batch) -> dict[str, Any]:
    """The state after a look at the items of a batch."""
    streaming = self._streaming
    if streaming is None:
      return state
    step = state[STEP] + 1
    frequency = streaming.update(
      state[FREQUENCY], batch[ITEM], batch["where"], step
    )
    return state | {STEP: step, FREQUENCY: frequency}

  def _gathered(self, items, ids, batch, state):
    """(vectors, ids) of shared candidates, and of those of each row."""
    shared, own, column = [], [], 1
    rows, width = items.shape[0], items.shape[-1]
    for source in self.sources:
      if isinstance(source, InBatch):
        shared.append((items[:, 0], batch[ITEM] * batch["where"]))
        continue
      if isinstance(source, CrossBatchMemory):
        shared.append((state[MEMORY]["vectors"], state[MEMORY][ITEM]))
        continue
      num = source.num_candidates(rows)
      stop = column + (-(-num // rows) if source.shared else num)
      vectors, part = items[:, column:stop], ids[:, column:stop]
      if source.shared:
        vectors = vectors.reshape(-1, width)[:num]
        shared.append((vectors, part.reshape(-1)[:num]))
      else:
        own.append((vectors, part))
      column = stop
    return shared, own

  def _ignored(
    self, candidate_id: list[Array], batch: Batch, constants
  ) -> Bool[Array, "batch cand"]:
    """What is no candidate: nothing at all, the positive, what was touched."""
    rows = batch[ITEM].shape[0]
    ignored = []
    places = [isinstance(s, InBatch) for s in self._in_order()]
    for ids, is_batch in zip(candidate_id, places, strict=True):
      ids = jnp.broadcast_to(ids, (rows, ids.shape[1]))
      out = ids == 0
      if self.remove_hits != "none":
        out |= ids == batch[ITEM][:, None]
      elif is_batch:
        out |= jnp.eye(rows, dtype=bool)
      if self.remove_hits == "touched":
        out |= is_touched(batch[USER][:, None], ids, constants)
      ignored.append(out)
    return jnp.concatenate(ignored, axis=1)

  def _ignored_users(
    self, ignored: Bool[Array, "batch batch"], batch: Batch
  ) -> Bool[Array, "batch batch"]:
    """Which users are no candidates of the item of a row."""
    same = jnp.eye(len(ignored), dtype=bool)
    if self.remove_hits != "none":
      same = batch[USER][:, None] == batch[USER][None, :]
    return ignored.T | same | ~batch["where"][None, :]

  def _in_order(self) -> list[Any]:
    """The sources in the order of their candidates."""
    return [
      *(source for source in self.sources if source.shared),
      *(source for source in self.sources if not source.shared),
    ]

  def _log_counts(
    self, candidate_id: list[Array], batch: Batch, arrays
  ) -> tuple[Float[Array, "_ cand"], Float[Array, " batch"]]:
    """Log of the expected copies of the candidates, and of the positives."""
    rows = batch[ITEM].shape[0]

    def log_count(ids):
      parts = [
        (
          source.num_live(batch, arrays),
          source.log_probability(ids, batch, arrays, num_items=self.num_items),
        )
        for source in self.sources
      ]
      return log_expected_counts(parts)

    counts = [log_count(ids) for ids in candidate_id]
    counts = [jnp.broadcast_to(c, (rows, c.shape[1])) for c in counts]
    positive = log_count(batch[ITEM][:, None])
    return jnp.concatenate(counts, axis=1), positive[:, 0]

  def _loss(self, positive, negative, ignored, log_counts, batch: Batch):
    where = batch["where"]

    def softmax_loss(settings: Softmax):
      of_users = _softmax(
        settings, positive, negative, ignored, log_counts, where
      )
      if not settings.symmetric:
        return of_users
      others = self._ignored_users(ignored, batch)
      of_items = candidate_softmax_loss(
        positive, negative.T, None, None, others, where
      )
      return (of_users + of_items) / 2

    binary = lambda: binary_cross_entropy_loss(
      positive, negative, where, ignored
    )
    match self.objective:
      case Softmax():
        return softmax_loss(self.objective)
      case Mixture(weight=weight, softmax=softmax):
        return mixture_loss(softmax_loss(softmax), binary(), weight=weight)
      case Binary():
        return binary()
      case Pairwise(kind="bpr"):
        return bpr_loss(positive, negative, where, ignored)
      case Pairwise(kind="hinge", margin=margin):
        return hinge_loss(positive, negative, where, ignored, margin=margin)
      case Pairwise(margin=margin):
        return warp_loss(
          positive,
          negative,
          ignored,
          where,
          num_items=self.num_items,
          margin=margin,
        )
    raise AssertionError(self.objective)


def _softmax(settings: Softmax, positive, negative, ignored, log_counts, where):
  of_candidates, of_positive = log_counts() if settings.log_q else (None, None)
  return candidate_softmax_loss(
    positive,
    negative,
    of_candidates,
    of_positive if settings.correct_positive else None,
    ignored,
    where,
  )


def _has_vectors(source: Any) -> bool:
  """Whether a source needs no look-up."""
  return isinstance(source, InBatch | CrossBatchMemory)
