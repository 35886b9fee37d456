"""Batches of sequences, from the host through Grain or from the device.

Both roads give the same batches: step n of a seed is the same whichever way
it comes, after a restart as well, and however many processes share the work.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from recjax.data.ragged import Ragged
from recjax.data.sequences import (
  EpochPlan,
  first_fit,
  num_steps_per_epoch,
  plan_epoch,
)
from recjax.errors import ConfigError, check_range
from recjax.types import Batch


@runtime_checkable
class Batches(Protocol):
  """Steps over training data in an order fixed by seed and epoch.

  Attributes:
    batch_size: examples of one step.
    steps_per_epoch: steps that visit each example once.
    num_bytes: of the data, were it held on a device.
    batch_ndims: name of each array of a batch -> its number of axes; scalars
      are the same in all processes, others are shared out among them.
  """

  batch_size: int
  steps_per_epoch: int
  num_bytes: int
  batch_ndims: dict[str, int]

  @property
  def device_data(self) -> Any:
    """All data, on the device."""
    ...

  def plan(self, epoch: int) -> Any:
    """The order of an epoch, on the device."""
    ...

  def gather(self, data: Any, plan: Any, index: Int[Array, ""]) -> Batch:
    """The batch of a step of an epoch, from data on the device."""
    ...

  def host_batch(
    self, step: int, process_index: int = 0, process_count: int = 1
  ) -> dict[str, np.ndarray]:
    """The batch of a step of the training, or a process's share of it."""
    ...


class SequenceBatches:
  """Steps over training sequences in an order fixed by seed and epoch.

  Attributes:
    sequences: one row a user, at least two items each.
    batch_size: sequences of one step.
    max_len: most inputs of a sequence; the last ones are taken.
    seed: of the order.
    steps_per_epoch: steps that visit each sequence once; the last step of an
      epoch may be short.
  """

  def __init__(
    self, sequences: Ragged, *, batch_size: int, max_len: int, seed: int
  ):
    check_range("batch_size", batch_size, 1, integer=True)
    check_range("max_len", max_len, 1, integer=True)
    self.sequences = sequences
    self.batch_size = batch_size
    self.max_len = max_len
    self.seed = seed
    self.steps_per_epoch = num_steps_per_epoch(len(sequences), batch_size)
    self.num_bytes = sequences.values.nbytes
    self.batch_ndims = {
      "window": 2,
      "length": 1,
      "row": 1,
      "offset": 1,
      "num_rows": 0,
    }
    self._num_items = np.asarray(sequences.lengths, np.int32)
    # Two epochs are kept: prefetching reaches into the next one.
    self.plan = functools.lru_cache(maxsize=2)(self._plan)
    self._host_plan = functools.lru_cache(maxsize=2)(
      lambda epoch: tuple(np.asarray(part) for part in self.plan(epoch))
    )

  def _plan(self, epoch: int) -> EpochPlan:
    """The order and packing of an epoch, on the device."""
    key = jax.random.fold_in(jax.random.key(self.seed), epoch)
    return plan_epoch(
      key,
      jnp.asarray(self._num_items),
      batch_size=self.batch_size,
      max_len=self.max_len,
    )

  @functools.cached_property
  def device_data(self) -> tuple[Array, Array]:
    """Items and offsets of all sequences, on the device."""
    if self.sequences.offsets[-1] >= 2**31:
      raise ConfigError(
        "feed='device' holds at most 2**31 interactions; this data set has"
        f" {self.sequences.offsets[-1]}. Use feed='grain'."
      )
    return (
      jnp.asarray(self.sequences.values, jnp.int32),
      jnp.asarray(self.sequences.offsets, jnp.int32),
    )

  def gather(
    self, data: tuple[Array, Array], plan: EpochPlan, index: Int[Array, ""]
  ) -> Batch:
    """The batch of a step of an epoch, from data on the device."""
    return gather_batch(*data, plan, index, max_len=self.max_len)

  def host_batch(
    self, step: int, process_index: int = 0, process_count: int = 1
  ) -> dict[str, np.ndarray]:
    """The batch of a step, or a process's equal share of its sequences.

    Args:
      step: counted from the start of training.
      process_index: which share.
      process_count: how many shares; divides the batch size.

    Returns:
      What `tasks.next_item.NextItem.micro_batches` reads; "num_rows" is of
      the whole batch.
    """
    epoch, index = divmod(step, self.steps_per_epoch)
    share = self.batch_size // process_count
    mine = slice(process_index * share, (process_index + 1) * share)
    *parts, num_rows = (part[index] for part in self._host_plan(epoch))
    sequence, length, row, offset = (part[mine] for part in parts)
    # The window is the last length + 1 items, left-aligned.
    end = self.sequences.offsets[np.maximum(sequence, 0) + 1]
    inside = np.arange(self.max_len + 1)
    position = (end - length - 1)[:, None] + inside
    valid = (inside <= length[:, None]) & (length > 0)[:, None]
    values = self.sequences.values[np.where(valid, position, 0)]
    return {
      "window": np.where(valid, values, 0).astype(np.int32),
      "length": length,
      "row": row,
      "offset": offset,
      "num_rows": num_rows,
    }


def gather_batch(
  items: Int[Array, " values"],
  offsets: Int[Array, " sequences_plus_one"],
  plan: EpochPlan,
  index: Int[Array, ""],
  *,
  max_len: int,
) -> dict[str, Array]:
  """`SequenceBatches.host_batch` for data that lies on the device.

  Args:
    items: of `device_data`.
    offsets: of `device_data`.
    plan: of the epoch.
    index: step of the epoch.
    max_len: most inputs of a sequence.

  Returns:
    The batch.
  """
  sequence, length, row, offset, num_rows = (x[index] for x in plan)
  end = offsets[jnp.maximum(sequence, 0) + 1]
  inside = jnp.arange(max_len + 1)
  position = (end - length - 1)[:, None] + inside[None, :]
  valid = (inside[None, :] <= length[:, None]) & (length > 0)[:, None]
  window = jnp.where(valid, items[jnp.where(valid, position, 0)], 0)
  return {
    "window": window,
    "length": length,
    "row": row,
    "offset": offset,
    "num_rows": num_rows,
  }


@dataclasses.dataclass(frozen=True)
class _Steps(grain.sources.RandomAccessDataSource):
  """A Grain source whose element n is the whole batch of step n."""

  batches: Batches
  num_steps: int
  process_index: int
  process_count: int

  def __len__(self) -> int:
    return self.num_steps

  def __getitem__(self, step: int) -> dict[str, np.ndarray]:
    return self.batches.host_batch(step, self.process_index, self.process_count)


def grain_iterator(
  batches: Batches,
  num_steps: int,
  *,
  process_index: int = 0,
  process_count: int = 1,
  prefetch: int = 4,
) -> grain.DatasetIterator:
  """Batches in order, made ahead in a thread, with a state to go on from.

  Args:
    batches: what to iterate over.
    num_steps: steps of the whole training.
    process_index: this process.
    process_count: processes that share each batch.
    prefetch: batches made ahead.

  Returns:
    An iterator with Grain's `get_state` and `set_state`.

  Raises:
    ConfigError: the processes can not share a batch evenly.
  """
  if batches.batch_size % process_count:
    raise ConfigError(
      f"batch_size must be a multiple of the {process_count} processes; got"
      f" {batches.batch_size}."
    )
  source = _Steps(batches, num_steps, process_index, process_count)
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch)
  return iter(grain.MapDataset.source(source).to_iter_dataset(options))


_first_fit = jax.jit(first_fit, static_argnames="row_len")


def history_batches(
  histories: Ragged, *, batch_size: int, max_len: int
) -> Iterator[tuple[np.ndarray, dict[str, Array]]]:
  """Packs histories for encoding, those of like length together.

  Args:
    histories: items in time order; an empty one is encoded as padding.
    batch_size: histories at a time.
    max_len: the last so many items are taken.

  Yields:
    Positions of the histories (-1 fills the last batch up), and a batch for
    `tasks.next_item.NextItem.encode`.
  """
  order = np.argsort(-histories.lengths, kind="stable")
  for start in range(0, len(order), batch_size):
    rows = order[start : start + batch_size]
    last = histories.take(rows).last(max_len)
    window = np.zeros((batch_size, max_len + 1), np.int32)
    window[: len(rows)] = last.padded(max_len + 1)
    length = np.zeros(batch_size, np.int32)
    length[: len(rows)] = last.lengths
    row, offset = _first_fit(jnp.asarray(length), row_len=max_len)
    yield (
      np.concatenate([rows, np.full(batch_size - len(rows), -1)]),
      {
        "window": jnp.asarray(window),
        "length": jnp.asarray(length),
        "row": row,
        "offset": offset,
        "num_rows": jnp.max(jnp.where(length > 0, row + 1, 0)),
      },
    )
