"""Encoded examples on disk, in shards that are read group by group.

A shard is an Arrow file with LZ4 compression; each of its record batches is a
*group* of some ten thousand rows, the unit that is read. Columns of several
values a row are lists of a fixed size. Files are read and not mapped, so that
memory holds what is in use and no page of what was.

The fingerprint is of the values in their order: with R_j an odd number for
column j and b_j(r) the 32 bits of its value at row r, modulo 2^64,

  sum_r mix(r G + sum_j b_j(r) R_j)

is added up while rows are written (`mix` and G as in `features.hashing`).
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, Shaped

from recjax import files
from recjax.data import arrow_store
from recjax.errors import DataError
from recjax.features import hashing

FORMAT = 1
_OPEN_FILES = 32
# Rows of several blocks have no length in common.
Columns = dict[str, Shaped[np.ndarray, "_ ..."]]


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedExamples:
  """Rows of encoded columns on disk; make one with `load`.

  Attributes:
    name: how reports call it.
    directory: of the shards.
    shards: file names with size, checksum and rows of each group.
    columns: name of each column -> its type ("int32" or "float32") and the
      shape of one row.
    fingerprint: hex digest of the values and names of the columns.
  """

  name: str
  directory: pathlib.Path
  shards: dict[str, dict[str, Any]]
  columns: dict[str, tuple[str, tuple[int, ...]]]
  fingerprint: str

  def __len__(self) -> int:
    return int(self.group_rows.sum())

  @functools.cached_property
  def group_rows(self) -> Int64[np.ndarray, " group"]:
    """The number of rows of each group, over all shards."""
    sizes = [shard["groups"] for shard in self.shards.values()]
    return np.array([rows for shard in sizes for rows in shard], np.int64)

  @property
  def row_bytes(self) -> int:
    """Memory of one row of all columns."""
    sizes = (4 * int(np.prod(shape)) for _, shape in self.columns.values())
    return sum(sizes)

  @functools.cached_property
  def _places(self) -> list[tuple[str, int]]:
    """Shard and number in it of each group."""
    return [
      (name, number)
      for name, shard in self.shards.items()
      for number in range(len(shard["groups"]))
    ]

  @functools.cached_property
  def _lock(self) -> threading.Lock:
    return threading.Lock()

  @functools.cached_property
  def _readers(self) -> dict[str, Any]:
    return {}

  @functools.cached_property
  def _checked(self) -> set[str]:
    return set()

  def read_group(self, group: int) -> Columns:
    """The rows of a group.

    The checksum of a shard is looked at when it is opened for the first time.

    Raises:
      DataError: the shard is missing, truncated or altered; it is named.
    """
    shard, number = self._places[group]
    with self._lock:
      path = self.directory / shard
      try:
        batch = self._reader(shard).get_batch(number)
      except (pa.ArrowInvalid, OSError) as error:
        raise _broken(path, error) from error
    return {
      name: _to_numpy(batch.column(name), shape)
      for name, (_, shape) in self.columns.items()
    }

  def _reader(self, shard: str) -> Any:
    reader = self._readers.pop(shard, None)
    if reader is None:
      self._check(shard)
      path = self.directory / shard
      reader = pa.ipc.open_file(pa.OSFile(os.fspath(path)))
    self._readers[shard] = reader  # The last one used stands last.
    while len(self._readers) > _OPEN_FILES:
      del self._readers[next(iter(self._readers))]
    return reader

  def _check(self, shard: str) -> None:
    """Looks at the checksum of a shard, the first time."""
    if shard not in self._checked:
      arrow_store.check_file(self.directory / shard, self.shards[shard])
      self._checked.add(shard)

  def scan(self, names: Sequence[str]) -> Iterator[Columns]:
    """Some columns of all rows, in order, group by group.

    Nothing of the other columns is unpacked.

    Raises:
      DataError: a shard is missing, truncated or altered; it is named.
    """
    for shard, facts in self.shards.items():
      path = self.directory / shard
      with self._lock:
        self._check(shard)
      try:
        with pa.OSFile(os.fspath(path)) as file:
          fields = pa.ipc.open_file(file).schema.names
          wanted = sorted(fields.index(name) for name in names)
          options = pa.ipc.IpcReadOptions(included_fields=wanted)
          reader = pa.ipc.open_file(file, options=options)
          for number in range(len(facts["groups"])):
            batch = reader.get_batch(number)
            yield {
              name: _to_numpy(batch.column(name), self.columns[name][1])
              for name in names
            }
      except (pa.ArrowInvalid, OSError) as error:
        raise _broken(path, error) from error

  def groups(
    self, start: int = 0, stop: int | None = None
  ) -> Iterator[Columns]:
    """Rows from `start` to `stop`, in order, group by group."""
    first = 0
    stop = len(self) if stop is None else stop
    for group, size in enumerate(self.group_rows.tolist()):
      low, high = max(start - first, 0), min(stop - first, size)
      if low < high:
        columns = self.read_group(group)
        yield {name: values[low:high] for name, values in columns.items()}
      first += size

  @classmethod
  def load(cls, directory: files.PathLike) -> "EncodedExamples":
    """Opens what a `ShardWriter` wrote, after a look at the files' sizes.

    Raises:
      DataError: a file is missing or truncated; it is named.
    """
    folder = pathlib.Path(directory)
    manifest = arrow_store.read_manifest(
      folder,
      what="encoded examples",
      version=FORMAT,
      facts=("name", "columns", "fingerprint"),
    )
    for name, expected in manifest["files"].items():
      arrow_store.check_file(folder / name, expected, content=False)
    columns = {
      name: (kind, tuple(shape))
      for name, (kind, shape) in manifest["columns"].items()
    }
    return cls(
      manifest["name"],
      folder,
      manifest["files"],
      columns,
      manifest["fingerprint"],
    )


class ShardWriter:
  """Writes shards one after the other; each is whole or not there.

  What is known of finished shards is in `state`, JSON values from which
  another writer can go on.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    group_rows: int,
    state: dict[str, Any] | None = None,
  ):
    """Goes on after the shards of `state`.

    Raises:
      DataError: one of them is missing or truncated.
    """
    directory.mkdir(parents=True, exist_ok=True)
    self._directory, self._group_rows = directory, group_rows
    self.state = state or {"files": {}, "columns": {}, "rows": 0, "sum": 0}
    for name, expected in self.state["files"].items():
      arrow_store.check_file(directory / name, expected, content=False)
    for path in directory.iterdir():
      if path.name not in self.state["files"]:
        path.unlink()
    self._waiting: list[Columns] = []
    self._num_waiting = 0
    self._writer: Any = None
    self._groups: list[int] = []

  def add(self, columns: Mapping[str, Shaped[np.ndarray, "_ ..."]]) -> None:
    """Adds rows; full groups are written."""
    arrays = {name: np.ascontiguousarray(x) for name, x in columns.items()}
    num_rows = len(next(iter(arrays.values())))
    if not num_rows:
      return
    total = self.state["sum"] + content_sum(arrays, self.state["rows"])
    self.state["sum"] = total % 2**64
    self.state["rows"] += num_rows
    if not self.state["columns"]:
      self.state["columns"] = {
        name: [x.dtype.name, list(x.shape[1:])] for name, x in arrays.items()
      }
    self._waiting.append(arrays)
    self._num_waiting += num_rows
    if self._num_waiting >= self._group_rows:
      self._write_groups(self._num_waiting // self._group_rows)

  def _write_groups(self, num: int, rest: bool = False) -> None:
    names = self._waiting[0]
    joined = {
      name: np.concatenate([part[name] for part in self._waiting])
      for name in names
    }
    size = self._group_rows
    cuts = [(n * size, (n + 1) * size) for n in range(num)]
    if rest and num * size < self._num_waiting:
      cuts.append((num * size, self._num_waiting))
    for start, stop in cuts:
      self._write_group({k: x[start:stop] for k, x in joined.items()})
    done = cuts[-1][1]
    self._num_waiting -= done
    self._waiting = []
    if self._num_waiting:
      # Copies, so that what was written is not kept in memory.
      self._waiting = [{k: x[done:].copy() for k, x in joined.items()}]

  def _write_group(self, columns: Columns) -> None:
    batch = pa.record_batch({k: _to_arrow(x) for k, x in columns.items()})
    if self._writer is None:
      path = self._directory / f".writing-{self._next_name()}"
      options = pa.ipc.IpcWriteOptions(compression="lz4")
      self._writer = pa.ipc.new_file(
        os.fspath(path), batch.schema, options=options
      )
    self._writer.write_batch(batch)
    self._groups.append(batch.num_rows)

  def _next_name(self) -> str:
    return f"shard-{len(self.state['files']):05d}.arrow"

  def finish_shard(self) -> None:
    """Writes what waits and closes the shard, if there is any."""
    if self._num_waiting:
      self._write_groups(self._num_waiting // self._group_rows, rest=True)
    if self._writer is None:
      return
    self._writer.close()
    self._writer = None
    name = self._next_name()
    path = self._directory / f".writing-{name}"
    with open(path, "rb") as file:
      os.fsync(file.fileno())
    facts = arrow_store.describe_file(path)
    os.replace(path, self._directory / name)
    self.state["files"][name] = {**facts, "groups": self._groups}
    self._groups = []

  def finish(self, name: str, columns: dict[str, Any]) -> None:
    """Writes the manifest.

    Args:
      name: how reports call the examples.
      columns: as in `state`, for the case that there is no row.
    """
    self.finish_shard()
    columns = self.state["columns"] or columns
    text = f"{sorted(columns.items())} {self.state['rows']} {self.state['sum']}"
    manifest = {
      "format": FORMAT,
      "name": name,
      "columns": columns,
      "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
      "files": self.state["files"],
    }
    path = self._directory / arrow_store.MANIFEST
    files.write_json_atomically(path, manifest)

  def close(self) -> None:
    """Drops an unfinished shard."""
    if self._writer is not None:
      self._writer.close()
      self._writer = None


def content_sum(columns: Columns, first_row: int) -> int:
  """The sum that makes the fingerprint, of consecutive rows."""
  num_rows = len(next(iter(columns.values())))
  rows = np.arange(first_row, first_row + num_rows, dtype=np.int64)
  total = rows.view(np.uint64) * np.uint64(hashing.GOLDEN)
  number = 0
  for name in sorted(columns):
    bits = columns[name].view(np.uint32).reshape(num_rows, -1)
    for place in range(bits.shape[1]):
      number += 1
      factor = hashing.hash_integers(np.array([number])) | np.uint64(1)
      total += bits[:, place] * factor
  return int(np.sum(hashing.mix(total)))


def _broken(path: pathlib.Path, error: Exception) -> DataError:
  return DataError(f"{path} is broken: {error}. Prepare the data again.")


def _to_arrow(values: np.ndarray) -> pa.Array:
  flat = pa.array(values.reshape(-1))
  if values.ndim == 1:
    return flat
  return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _to_numpy(array: pa.Array, shape: tuple[int, ...]) -> np.ndarray:
  flat = array.flatten() if shape else array
  return flat.to_numpy().reshape(-1, *shape)
