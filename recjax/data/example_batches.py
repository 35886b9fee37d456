"""Batches of examples that fit in memory, from the host or from the device.

Both roads give the same batches: step n of a seed is the same whichever way
it comes, after a restart as well, and however many processes share the work.
For data larger than memory see `recjax.data.stream_batches`.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from recjax.data.examples import Examples
from recjax.data.label_columns import label_key
from recjax.errors import ConfigError, DataError, check_range
from recjax.features.fitted import FittedFeatures
from recjax.types import Batch

Columns = dict[str, Shaped[np.ndarray, "row ..."]]


def encode_examples(
  features: FittedFeatures, examples: Examples, labels: Sequence[str] = ()
) -> Columns:
  """The arrays of all features, "label", and "weight" if there are any.

  Args:
    features: fitted on training rows.
    examples: rows with the columns that they read.
    labels: columns of further labels, which are told as "label/COLUMN"; NaN
      where one is null.

  Raises:
    DataError: a column is missing, or a value can not be encoded.
  """
  columns = features.encode(examples.table)
  columns["label"] = examples.labels
  if examples.weights is not None:
    columns["weight"] = examples.weights
  return columns | {label_key(name): examples.numbers(name) for name in labels}


class ExampleBatches:
  """Steps over examples in an order fixed by seed and epoch.

  A batch has the arrays of `columns` and "where", which is False for what
  only fills up the last batch of an epoch: rows of its beginning once more,
  so that whoever overlooks "where" meets real rows.

  Attributes:
    columns: arrays with one row an example.
    batch_size: examples of one step.
    seed: of the order.
    num_rows: how many examples there are.
    steps_per_epoch: steps that visit each example once.
    num_bytes: of the columns.
    batch_ndims: name of each array of a batch -> its number of axes.
  """

  def __init__(
    self,
    columns: Mapping[str, Shaped[np.ndarray, "_ ..."]],
    *,
    batch_size: int,
    seed: int,
  ):
    check_range("batch_size", batch_size, 1, integer=True)
    self.columns, self.num_rows = check_columns(columns)
    if self.num_rows + batch_size >= 2**31:
      raise DataError(
        f"ExampleBatches takes fewer than 2^31 examples; got {self.num_rows}."
        " Read them from disk, with recjax.data.example_stream."
      )
    self.batch_size = batch_size
    self.seed = seed
    self.steps_per_epoch = -(-self.num_rows // batch_size)
    self.num_bytes = sum(column.nbytes for column in self.columns.values())
    self.batch_ndims = {name: x.ndim for name, x in self.columns.items()}
    self.batch_ndims["where"] = 1
    # Two epochs are kept: prefetching reaches into the next one.
    self.plan = functools.lru_cache(maxsize=2)(self._plan)
    self._host_plan = functools.lru_cache(maxsize=2)(
      lambda epoch: np.asarray(self.plan(epoch))
    )

  def _plan(self, epoch: int) -> Int[Array, " order"]:
    """The row at each place of an epoch, on the device."""
    key = jax.random.fold_in(jax.random.key(self.seed), epoch)
    size = self.steps_per_epoch * self.batch_size
    return _shuffled(key, num_rows=self.num_rows, size=size)

  @functools.cached_property
  def device_data(self) -> dict[str, Shaped[Array, "row ..."]]:
    """All columns, on the device."""
    return {name: jnp.asarray(column) for name, column in self.columns.items()}

  def gather(
    self,
    data: dict[str, Shaped[Array, "row ..."]],
    plan: Int[Array, " order"],
    index: Int[Array, ""],
  ) -> Batch:
    """The batch of a step of an epoch, from data on the device."""
    return gather_examples(data, plan, index, batch_size=self.batch_size)

  def host_batch(
    self, step: int, process_index: int = 0, process_count: int = 1
  ) -> dict[str, np.ndarray]:
    """The batch of a step, or a process's equal share of its examples.

    Args:
      step: counted from the start of training.
      process_index: which share.
      process_count: how many shares; divides the batch size.
    """
    epoch, index = divmod(step, self.steps_per_epoch)
    share = self.batch_size // process_count
    start = index * self.batch_size + process_index * share
    rows = self._host_plan(epoch)[start : start + share]
    batch = {name: column[rows] for name, column in self.columns.items()}
    batch["where"] = np.arange(start, start + share) < self.num_rows
    return batch


@functools.partial(jax.jit, static_argnames=("num_rows", "size"))
def _shuffled(key, *, num_rows: int, size: int) -> Int[Array, " order"]:
  order = jax.random.permutation(key, num_rows).astype(jnp.int32)
  return order[jnp.arange(size) % num_rows]


def gather_examples(
  columns: dict[str, Shaped[Array, "row ..."]],
  order: Int[Array, " order"],
  index: Int[Array, ""] | int,
  *,
  batch_size: int,
) -> dict[str, Shaped[Array, "..."]]:
  """`ExampleBatches.host_batch` for data that lies on the device.

  Args:
    columns: `ExampleBatches.device_data`.
    order: `ExampleBatches.plan` of the epoch.
    index: step of the epoch.
    batch_size: examples of one step.

  Returns:
    The batch.
  """
  place = index * batch_size + jnp.arange(batch_size)
  rows = order[place]
  batch = {name: column[rows] for name, column in columns.items()}
  num_rows = len(next(iter(columns.values())))
  return {**batch, "where": place < num_rows}


def evaluation_batches(
  columns: Mapping[str, Shaped[np.ndarray, "_ ..."]],
  batch_size: int,
  *,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """All rows once, in their order, in batches of one shape.

  Args:
    columns: arrays with one row an example.
    batch_size: examples of a batch of all processes.
    process_index: this process.
    process_count: processes that share each batch.

  Yields:
    The arrays, and "where", which is False for the rows that fill up the last
    batch (the last row, repeated).

  Raises:
    ConfigError: the processes can not share a batch evenly.
    DataError: columns are of different lengths, or there is no row.
  """
  check_range("batch_size", batch_size, 1, integer=True)
  check_shares(batch_size, process_count)
  arrays, num_rows = check_columns(columns)
  share = batch_size // process_count
  for first in range(0, num_rows, batch_size):
    place = first + process_index * share + np.arange(share)
    rows = np.minimum(place, num_rows - 1)
    batch = {name: column[rows] for name, column in arrays.items()}
    yield {**batch, "where": place < num_rows}


def check_shares(batch_size: int, process_count: int) -> None:
  """Raises ConfigError unless processes can share a batch evenly."""
  if batch_size % process_count:
    raise ConfigError(
      f"batch_size must be a multiple of the {process_count} processes; got"
      f" {batch_size}."
    )


def check_columns(
  columns: Mapping[str, Shaped[np.ndarray, "_ ..."]],
) -> tuple[Columns, int]:
  """The columns as arrays, and their number of rows.

  Raises:
    DataError: there is none, one is called "where", they are of different
      lengths, or there is no row.
  """
  arrays = {name: np.asarray(column) for name, column in columns.items()}
  if not arrays or "where" in arrays:
    raise DataError(
      "examples need columns, and none named 'where'; got"
      f" {', '.join(arrays) or 'none'}."
    )
  lengths = {name: len(array) for name, array in arrays.items()}
  first = next(iter(lengths))
  for name, length in lengths.items():
    if length != lengths[first]:
      raise DataError(
        f"all columns must have the same rows; {first!r} has {lengths[first]}"
        f" and {name!r} has {length}."
      )
  if not lengths[first]:
    raise DataError("there is not one example.")
  return arrays, lengths[first]
