"""Batches of examples that lie on disk, shuffled, resumable, shared out.

The order of an epoch is a function of (seed, epoch). Groups of rows are
permuted and stand in a line, which is cut into `num_lanes` lanes of equal
length (to within one row). A lane reads its groups one *window* after the
other and permutes the rows of each window. A batch takes the same number of
rows of every lane.

So every row comes once an epoch; the batch of a step can be made without
those before it, which is what makes a restart exact; and processes that share
the lanes each read their own part of the disk, yet make up the same batches
however many they are.

How well rows are mixed: a batch is drawn from `window_rows` rows, which are
groups from all over the data. Rows of one group never lie further apart than
a window of their lane.
"""

import bisect
import functools
import threading
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int64, Shaped

from recjax.data.example_batches import check_shares, gather_examples
from recjax.data.example_shards import Columns, EncodedExamples
from recjax.errors import ConfigError, DataError, check_range
from recjax.types import Batch

_GROUP_STREAM, _ROW_STREAM = 1, 2


class _Window(NamedTuple):
  """Rows of a lane that are permuted together.

  Attributes:
    start: place of its first row in the lane.
    pieces: (group, from, to) of the rows.
    num_rows: how many.
    number: counted within the lane.
  """

  start: int
  pieces: list[tuple[int, int, int]]
  num_rows: int
  number: int


class StreamBatches:
  """Steps over examples on disk in an order fixed by seed and epoch.

  Memory: the rows of one window of each lane of a process, and while one is
  read, that one once more; `memory_bytes` says how much that is. A batch has
  the columns and "where", which is False for what only fills up the last
  batch of an epoch (the last row of a lane, repeated).

  Attributes:
    examples: on disk.
    batch_size: examples of one step.
    seed: of the order.
    window_rows: rows of the windows of all lanes together, about.
    num_lanes: divides the batch size; processes share them.
    num_rows: how many examples there are.
    steps_per_epoch: steps that visit each example once.
    num_bytes: of all examples, were they in memory.
    batch_ndims: name of each array of a batch -> its number of axes.
  """

  def __init__(
    self,
    examples: EncodedExamples,
    *,
    batch_size: int,
    seed: int,
    window_rows: int = 1 << 20,
    num_lanes: int = 8,
  ):
    check_range("batch_size", batch_size, 1, integer=True)
    check_range("window_rows", window_rows, 1, integer=True)
    check_range("num_lanes", num_lanes, 1, integer=True)
    if batch_size % num_lanes:
      raise ConfigError(
        f"batch_size must be a multiple of num_lanes={num_lanes}; got"
        f" {batch_size}."
      )
    self.examples, self.batch_size, self.seed = examples, batch_size, seed
    self.window_rows, self.num_lanes = window_rows, num_lanes
    self.num_rows = len(examples)
    if self.num_rows < num_lanes:
      raise DataError(
        f"{examples.name} has {self.num_rows} rows, which is fewer than"
        f" num_lanes={num_lanes}: set that lower."
      )
    longest = -(-self.num_rows // num_lanes)
    self.steps_per_epoch = -(-longest // (batch_size // num_lanes))
    self.num_bytes = self.num_rows * examples.row_bytes
    self.batch_ndims = {
      name: 1 + len(shape) for name, (_, shape) in examples.columns.items()
    }
    self.batch_ndims["where"] = 1
    mean = max(1.0, self.num_rows / len(examples.group_rows))
    self._window_groups = max(1, round(window_rows / num_lanes / mean))
    self._lock = threading.Lock()
    self._held: dict[int, tuple[tuple[int, int], Columns]] = {}
    # Two epochs are kept: prefetching reaches into the next one.
    self._lanes = functools.lru_cache(maxsize=2)(self._cut_lanes)

  @property
  def memory_bytes(self) -> int:
    """The most that rows take up in memory, of all lanes."""
    largest = int(self.examples.group_rows.max())
    window = self._window_groups * largest * self.examples.row_bytes
    return (self.num_lanes + 2) * window

  # -- The order --------------------------------------------------------------

  def _cut_lanes(self, epoch: int) -> list[list[_Window]]:
    """The windows of each lane."""
    sizes = self.examples.group_rows
    random = np.random.default_rng([self.seed, epoch, _GROUP_STREAM])
    order = random.permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    lanes = []
    for lane in range(self.num_lanes):
      low, high = self._lane_range(lane)
      first = int(np.searchsorted(ends, low, side="right"))
      last = int(np.searchsorted(ends, high, side="left"))
      pieces = []
      for place in range(first, last + 1):
        begin = int(ends[place] - sizes[order[place]])
        inside = max(low - begin, 0), min(high, int(ends[place])) - begin
        pieces.append((int(order[place]), *inside))
      lanes.append(self._cut_windows(pieces, lane))
    return lanes

  def _lane_range(self, lane: int) -> tuple[int, int]:
    total, num = self.num_rows, self.num_lanes
    return lane * total // num, (lane + 1) * total // num

  def _cut_windows(
    self, pieces: list[tuple[int, int, int]], lane: int
  ) -> list[_Window]:
    # First windows differ in length, so that lanes do not all read at once.
    cut = max(1, self._window_groups * (lane + 1) // self.num_lanes)
    windows, start = [], 0
    while pieces:
      taken, pieces = pieces[:cut], pieces[cut:]
      num_rows = sum(stop - begin for _, begin, stop in taken)
      windows.append(_Window(start, taken, num_rows, len(windows)))
      start += num_rows
      cut = self._window_groups
    return windows

  def _permutation(
    self, epoch: int, lane: int, window: _Window
  ) -> Int64[np.ndarray, " row"]:
    key = [self.seed, epoch, _ROW_STREAM, lane, window.number]
    return np.random.default_rng(key).permutation(window.num_rows)

  # -- From the host ----------------------------------------------------------

  def host_batch(
    self, step: int, process_index: int = 0, process_count: int = 1
  ) -> dict[str, np.ndarray]:
    """The batch of a step, or a process's equal share of its examples.

    Args:
      step: counted from the start of training.
      process_index: which share.
      process_count: how many shares; divides the number of lanes.

    Raises:
      ConfigError: the processes can not share the lanes.
      DataError: a shard is missing or broken.
    """
    if self.num_lanes % process_count:
      raise ConfigError(
        f"num_lanes must be a multiple of the {process_count} processes; got"
        f" {self.num_lanes}."
      )
    epoch, index = divmod(step, self.steps_per_epoch)
    share = self.batch_size // self.num_lanes
    mine = self.num_lanes // process_count
    first = process_index * mine
    parts, where = [], []
    with self._lock:
      for lane in set(self._held) - set(range(first, first + mine)):
        del self._held[lane]  # Of another share, which was looked at once.
      for lane in range(first, first + mine):
        low, high = self._lane_range(lane)
        place = np.arange(index * share, (index + 1) * share)
        where.append(place < high - low)
        parts += self._lane_rows(epoch, lane, np.minimum(place, high - low - 1))
    batch = {
      name: np.concatenate([part[name] for part in parts])
      for name in self.examples.columns
    }
    batch["where"] = np.concatenate(where)
    return batch

  def _lane_rows(
    self, epoch: int, lane: int, places: Int64[np.ndarray, " row"]
  ) -> list[Columns]:
    """The rows at increasing places of a lane, window by window."""
    found = []
    windows = self._lanes(epoch)[lane]
    first = bisect.bisect_right(windows, places[0], key=lambda w: w.start) - 1
    for window in windows[first:]:
      if window.start > places[-1]:
        break
      inside = places - window.start
      inside = inside[(inside >= 0) & (inside < window.num_rows)]
      if len(inside):
        columns = self._window(epoch, lane, window)
        found.append({name: x[inside] for name, x in columns.items()})
    return found

  def _window(self, epoch: int, lane: int, window: _Window) -> Columns:
    """The permuted rows of a window; the last one of each lane is held."""
    key = (epoch, window.number)
    held = self._held.pop(lane, None)
    if held is None or held[0] != key:
      held = None  # Drops the rows before others are read.
      held = key, self._read_window(epoch, lane, window)
    self._held[lane] = held
    return held[1]

  def _read_window(self, epoch: int, lane: int, window: _Window) -> Columns:
    pieces = []
    for group, begin, stop in window.pieces:
      columns = self.examples.read_group(group)
      pieces.append({name: x[begin:stop] for name, x in columns.items()})
    order = self._permutation(epoch, lane, window)
    out = {}
    for name in self.examples.columns:
      # One column at a time, so that little is there twice.
      out[name] = np.concatenate([piece.pop(name) for piece in pieces])[order]
    return out

  # -- From the device --------------------------------------------------------

  @property
  def device_data(self) -> dict[str, Shaped[Array, "row ..."]]:
    """All columns, on the device; for data that fits there after all."""
    groups = list(self.examples.groups())
    return {
      name: jnp.asarray(np.concatenate([group[name] for group in groups]))
      for name in self.examples.columns
    }

  def plan(self, epoch: int) -> tuple[Int[Array, " order"], Array]:
    """The row at each place of an epoch and whether it counts."""
    firsts = np.cumsum(self.examples.group_rows) - self.examples.group_rows
    share = self.batch_size // self.num_lanes
    lanes, where = [], []
    for lane, windows in enumerate(self._lanes(epoch)):
      rows = []
      for window in windows:
        pieces = [
          firsts[group] + np.arange(begin, stop)
          for group, begin, stop in window.pieces
        ]
        order = self._permutation(epoch, lane, window)
        rows.append(np.concatenate(pieces)[order])
      line = np.concatenate(rows)
      place = np.arange(self.steps_per_epoch * share)
      lanes.append(line[np.minimum(place, len(line) - 1)].reshape(-1, share))
      where.append((place < len(line)).reshape(-1, share))
    order = np.concatenate(lanes, axis=1).reshape(-1)
    return (
      jnp.asarray(order, jnp.int32),
      jnp.asarray(np.concatenate(where, axis=1).reshape(-1)),
    )

  def gather(
    self,
    data: dict[str, Shaped[Array, "row ..."]],
    plan: tuple[Int[Array, " order"], Array],
    index: Int[Array, ""],
  ) -> Batch:
    """The batch of a step of an epoch, from data on the device."""
    order, where = plan
    size = self.batch_size
    batch = gather_examples(data, order, index, batch_size=size)
    place = index * size + jnp.arange(size)
    return {**batch, "where": where[place]}


def stream_evaluation_batches(
  examples: EncodedExamples,
  batch_size: int,
  *,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """All rows once, in batches of one shape.

  A process reads a stretch of rows of its own; with one process the rows come
  in their order. Memory holds a group and a batch.

  Args:
    examples: on disk.
    batch_size: examples of a batch of all processes.
    process_index: this process.
    process_count: processes, each of which yields as many batches.

  Yields:
    The columns, and "where", which is False for the rows that fill up the
    last batch (the last row, repeated).

  Raises:
    ConfigError: the processes can not share a batch evenly.
    DataError: there are fewer rows than processes, or a shard is broken.
  """
  check_range("batch_size", batch_size, 1, integer=True)
  check_shares(batch_size, process_count)
  total = len(examples)
  if total < process_count:
    raise DataError(
      f"{examples.name} has {total} rows for {process_count} process(es)."
    )
  share = batch_size // process_count
  low = process_index * total // process_count
  high = (process_index + 1) * total // process_count
  longest = -(-total // process_count)
  num_batches = -(-longest // share)
  rest: Columns = {}
  for group in examples.groups(low, high):
    if rest:
      group = {k: np.concatenate([rest[k], x]) for k, x in group.items()}
    num_rows, start = len(next(iter(group.values()))), 0
    while num_rows - start > share:
      batch = {k: x[start : start + share] for k, x in group.items()}
      yield {**batch, "where": np.ones(share, bool)}
      start += share
      num_batches -= 1
    rest = {k: x[start:].copy() for k, x in group.items()}
  yield from _padded(rest, num_batches, share)


def _padded(
  columns: Columns, num_batches: int, share: int
) -> Iterator[dict[str, np.ndarray]]:
  """The last batches, filled up with the last row."""
  num_rows = len(next(iter(columns.values())))
  for number in range(num_batches):
    place = number * share + np.arange(share)
    rows = np.minimum(place, num_rows - 1)
    batch = {name: values[rows] for name, values in columns.items()}
    yield {**batch, "where": place < num_rows}
