"""What an array costs a device under a strategy: memory and exchanged bytes.

With B examples of L lookups on D devices, rows of d columns of w bytes, S
pieces along the rows, M along the columns, R replicas and the capacity C
(`recjax.embeddings.exchange`), a device holds

  table  = rows d w / (S M)
  slots  = 4 rows (wide columns / (S M) + narrow columns / S)
  buffers = 8 n d + exchanged                          with n = B L / D

and receives in a step, its own share included and counted once a round,

  columns (M > 1):  ids 4 n M + rows n d w + gradients 4 n d
  rows (S > 1):     ids 4 S C + rows S C d w / M + gradients 4 S C d / M
  replicas (R > 1): R S C (4 + 4 d / M)
  by table, W lookups of an example to each device:
                    S W B / D (4 + d w + 4 d)

Where C is not all that can be asked for, ids go with the gradients once more,
and a few bytes agree on rounds. A number may be summed over the columns of a
row, 4 bytes each. A
dense table has no slots but as many copies of itself as optax and the gradient
need. A narrow slot has one column for the whole row.
"""

import dataclasses
import math

import jax
import numpy as np

from recjax.embeddings.column_optimizers import sums_a_row
from recjax.embeddings.exchange import CAPACITY_SLACK
from recjax.embeddings.layouts import ArrayLayout
from recjax.embeddings.strategies import Partition
from recjax.embeddings.table_exchange import sent_columns

_MEASURED_SLACK = 1.1
"""Room above the most that was seen in one batch."""


@dataclasses.dataclass(frozen=True)
class Workload:
  """What a batch asks of an array.

  Attributes:
    batch_size: examples on all devices.
    num_devices: that share them.
    columns: place of the table of each lookup of an example.
    rows: of all lookups of a batch, example by example; None if there is no
      data, and an even spread is assumed.
  """

  batch_size: int
  num_devices: int
  columns: tuple[int, ...]
  rows: np.ndarray | None = None

  @property
  def lookups(self) -> int:
    """n, the lookups of a device."""
    return -(-self.batch_size // self.num_devices) * len(self.columns)


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of an array, on each device.

  Attributes:
    table_bytes: of its piece.
    slot_bytes: of what optimizers remember; of a dense table, its copies.
    exchanged_bytes: that it receives in a step, in one round.
    buffer_bytes: of looked-up rows, gradients, and what is exchanged.
    collectives: in a step.
    capacity: rows that go from a device to an owner; 0 where it is not used.
    imbalance: what the busiest owner is asked for, over the mean; 1 is even.
  """

  table_bytes: int
  slot_bytes: int
  exchanged_bytes: int
  buffer_bytes: int
  collectives: int
  capacity: int
  imbalance: float

  @property
  def memory_bytes(self) -> int:
    """All that lies on the device."""
    return self.table_bytes + self.slot_bytes + self.buffer_bytes


def array_cost(
  layout: ArrayLayout,
  partition: Partition,
  work: Workload,
  *,
  dense_copies: int,
) -> Cost:
  """The cost of an array that is cut in one way.

  Args:
    layout: the array.
    partition: how it is cut.
    work: what a batch asks of it.
    dense_copies: arrays of the size of a dense table that its gradient and
      optax need.

  Returns:
    The cost.
  """
  table = partition.block * partition.width * _itemsize(layout)
  spec, optimizer = layout.spec, layout.spec.optimizer
  if optimizer is None:
    slots = dense_copies * table
  else:
    shapes = jax.eval_shape(lambda: optimizer.slots(layout.num_rows, spec.dim))
    slots = sum(
      partition.block
      * (partition.width if slot.ndim > 1 else 1)
      * slot.dtype.itemsize
      for slot in shapes.values()
    )
  capacity, imbalance = 0, 1.0
  if partition.by_table and partition.rows:
    exchanged, collectives, imbalance = _by_table(layout, partition, work)
  else:
    capacity, imbalance = _capacity(layout, partition, work)
    exchanged, collectives = _by_row(layout, partition, work, capacity)
  return Cost(
    table_bytes=table,
    slot_bytes=slots,
    exchanged_bytes=exchanged,
    buffer_bytes=8 * work.lookups * spec.dim + exchanged,
    collectives=collectives,
    capacity=capacity if partition.rows or partition.replicas else 0,
    imbalance=imbalance,
  )


def _by_row(layout, part, work, capacity) -> tuple[int, int]:
  """Bytes and number of the collectives of `RowExchange`."""
  n, width, itemsize = work.lookups, part.width, _itemsize(layout)
  joined, sent = n * part.column_shards, part.row_shards * capacity
  total = count = 0
  if part.columns:
    total += 4 * joined + n * part.dim * (itemsize + 4)
    count += 3
  if part.rows:
    total += sent * (4 + width * itemsize + 4 * width)
    count += 3
  if part.replicas:
    total += part.num_replicas * sent * (4 + 4 * width)
    count += 2
  if capacity < min(joined, part.block):
    # Rounds: ids again with the gradients, how many, and where each ends.
    if part.rows:
      total, count = total + 4 * sent + 4, count + 2
    if part.rows or part.replicas:
      total, count = total + 4 * part.row_shards, count + 1
  if part.columns and layout.spec.optimizer is not None:
    sums = sums_a_row(layout.spec.optimizer, layout.spec.max_norm)
    is_sent = part.rows or part.replicas
    places = part.num_replicas * sent if is_sent else joined
    total, count = total + 4 * sums * places, count + sums
  return total, count


def _by_table(layout, part, work) -> tuple[int, int, float]:
  """Bytes, number of collectives and imbalance of `TableExchange`."""
  sizes = [len(sent) for sent in sent_columns(layout, part, work.columns)]
  examples = -(-work.batch_size // work.num_devices)
  asked = part.row_shards * max(sizes) * examples
  total = asked * (4 + part.dim * (_itemsize(layout) + 4))
  return total, 3, max(sizes) * len(sizes) / max(sum(sizes), 1)


def _capacity(
  layout: ArrayLayout, part: Partition, work: Workload
) -> tuple[int, float]:
  """Capacity and imbalance: measured where there are data, or expected."""
  if work.rows is None:
    counts, slack = expected_counts(layout, part, work)[None], CAPACITY_SLACK
  else:
    counts, slack = distinct_counts(part, work), _MEASURED_SLACK
  served = counts.sum(axis=0)
  imbalance = float(served.max() / served.mean()) if served.any() else 1.0
  most = math.ceil(slack * counts.max() / 8) * 8
  joined = work.lookups * part.column_shards
  return max(1, min(most, joined, part.block)), imbalance


def expected_counts(
  layout: ArrayLayout, part: Partition, work: Workload
) -> np.ndarray:
  """How many distinct rows an asker wants of each owner, at even spread.

  m draws out of N rows hit N (1 - (1 - 1 / N)^m) different ones.

  Args:
    layout: where the tables lie.
    part: as for `distinct_counts`.
    work: its columns say how often each table is read.

  Returns:
    Counts [owners], not whole numbers.
  """
  counts = np.zeros(part.row_shards)
  edges = np.arange(part.row_shards + 1) * part.block
  askers = work.num_devices // part.column_shards
  reads = np.bincount(work.columns, minlength=len(layout.tables))
  draws = reads * -(-work.batch_size // askers)
  for spec, start, num_draws in zip(
    layout.tables, layout.starts, draws, strict=True
  ):
    size = spec.ids_rows
    distinct = size * (1 - (1 - 1 / size) ** num_draws)
    inside = np.clip(edges, start, start + size)
    counts += distinct / size * np.diff(inside)
  return counts


def distinct_counts(part: Partition, work: Workload) -> np.ndarray:
  """How many distinct rows each asker wants of each owner.

  Args:
    part: its pieces along the rows are the owners; devices that hold different
      columns of one piece ask together.
    work: with rows.

  Returns:
    Counts [askers, owners].
  """
  assert work.rows is not None
  askers = work.num_devices // part.column_shards
  counts = []
  for rows in work.rows.reshape(askers, -1):
    rows = np.unique(rows[(rows >= 0) & (rows < part.num_rows)])
    counts.append(np.bincount(rows // part.block, minlength=part.row_shards))
  return np.stack(counts)


def _itemsize(layout: ArrayLayout) -> int:
  return 2 if layout.spec.dtype == "bfloat16" else 4
