"""From a source to memory-mapped columns, once: the cache of prepared data."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

from absl import logging

import recjax
from recjax import files, progress
from recjax.data.examples import ExampleSplit
from recjax.data.interactions import Interactions
from recjax.errors import DataError

T = TypeVar("T")

# Raise it when a source reads the same bytes into something else.
_CACHE_FORMAT = 1


@runtime_checkable
class FileSource(Protocol):
  """A frozen dataclass of settings that says what files it reads."""

  @property
  def name(self) -> str:
    """How reports call the data set."""
    ...

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files that are read; empty where the data is generated."""
    ...


@runtime_checkable
class Source(Protocol):
  """Where interactions come from; a frozen dataclass of settings."""

  @property
  def name(self) -> str:
    """How reports call the data set."""
    ...

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files that `read` reads; empty where the data is generated."""
    ...

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """Reads or generates the data."""
    ...


@runtime_checkable
class ExampleSource(Protocol):
  """Where labelled rows come from; a frozen dataclass of settings."""

  @property
  def name(self) -> str:
    """How reports call the data set."""
    ...

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files that `read` reads; empty where the data is generated."""
    ...

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """Reads or generates the data."""
    ...


def default_cache_dir() -> pathlib.Path:
  """$RECJAX_CACHE_DIR, or else ~/.cache/recjax."""
  named = os.environ.get("RECJAX_CACHE_DIR")
  return pathlib.Path(named) if named else pathlib.Path.home() / ".cache/recjax"


def prepare(
  source: Source,
  data_dir: files.PathLike = ".",
  cache_dir: files.PathLike | None = None,
) -> Interactions:
  """Reads a source once and maps the columns from the cache ever after.

  An entry of the cache is keyed by the settings of the source and the content
  of its files, so a changed file or setting makes a new entry. An entry
  appears whole or not at all; processes that prepare the same data at the
  same time wait for the first.

  Args:
    source: what to read.
    data_dir: the folder in which the source looks for its files.
    cache_dir: where prepared data is kept; see `default_cache_dir`.

  Returns:
    The data, memory-mapped.

  Raises:
    DataError: what the source finds wrong with its files.
  """
  data_dir = pathlib.Path(data_dir)
  entry = cache_entry(source, data_dir, cache_dir)
  return find_or_make(
    entry, Interactions.load, lambda: source.read(data_dir).save(entry)
  )


def prepare_examples(
  source: ExampleSource,
  data_dir: files.PathLike = ".",
  cache_dir: files.PathLike | None = None,
) -> ExampleSplit:
  """`prepare` for labelled rows; see there."""
  data_dir = pathlib.Path(data_dir)
  entry = cache_entry(source, data_dir, cache_dir)
  return find_or_make(
    entry, ExampleSplit.load, lambda: source.read(data_dir).save(entry)
  )


def find_or_make(
  entry: pathlib.Path,
  load: Callable[[pathlib.Path], T],
  make: Callable[[], object],
) -> T:
  """What is kept in an entry of the cache, after making it if need be.

  Args:
    entry: its path.
    load: reads an entry; raises DataError if it is broken.
    make: writes the entry, whole or not at all. One process calls it at a
      time; others wait.
  """
  found = _load_entry(entry, load)
  if found is not None:
    return found
  with _lock(entry.with_suffix(".lock")):
    found = _load_entry(entry, load)
    if found is None:
      # Nobody else writes this entry now: these are of killed processes.
      for remains in entry.parent.glob(f".writing-{entry.name}-*"):
        shutil.rmtree(remains, ignore_errors=True)
      make()
      found = load(entry)
  return found


def _load_entry(
  entry: pathlib.Path, load: Callable[[pathlib.Path], T]
) -> T | None:
  if not entry.exists():
    return None
  try:
    return load(entry)
  except DataError as error:
    logging.warning("prepared data is rebuilt: %s", error)
    return None


def cache_entry(
  source: FileSource,
  data_dir: pathlib.Path,
  cache_dir: files.PathLike | None = None,
  more: Any = None,
) -> pathlib.Path:
  """Where in the cache a source stands, by its settings and files' content.

  Args:
    source: with `name` and `files`.
    data_dir: where its files are.
    cache_dir: the cache; see `default_cache_dir`.
    more: further settings, dataclasses or JSON values, that make the data.
  """
  cache = pathlib.Path(cache_dir) if cache_dir else default_cache_dir()
  return cache / "prepared" / _entry_name(source, data_dir, cache, more)


def _entry_name(
  source: FileSource,
  data_dir: pathlib.Path,
  cache: pathlib.Path,
  more: Any,
) -> str:
  identity = {
    "recjax": recjax.__version__,
    "format": _CACHE_FORMAT,
    "source": _settings(source),
    **({"more": _settings(more)} if more is not None else {}),
    "files": [
      (path.name, _content_hash(path, cache))
      for path in progress.track(
        source.files(data_dir), f"checking the files of {source.name}"
      )
    ],
  }
  text = json.dumps(identity, sort_keys=True)
  key = hashlib.sha256(text.encode()).hexdigest()[:20]
  return f"{re.sub('[^A-Za-z0-9_-]+', '-', source.name)}-{key}"


def _settings(value: Any) -> Any:
  """A dataclass as JSON, less the fields that do not change what is read."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    kind = type(value)
    return {"class": f"{kind.__module__}.{kind.__qualname__}"} | {
      field.name: _settings(getattr(value, field.name))
      for field in dataclasses.fields(value)
      if field.metadata.get("changes_data", True)
    }
  if isinstance(value, dict):
    return {str(key): _settings(entry) for key, entry in value.items()}
  if isinstance(value, (list, tuple)):
    return [_settings(entry) for entry in value]
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  return f"{type(value).__qualname__}:{value}"


def _content_hash(path: pathlib.Path, cache: pathlib.Path) -> str:
  """SHA-256 of a file, remembered by its path, size and time of change."""
  path = path.absolute()
  status = path.stat()
  stamp = [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]
  name = hashlib.sha256(str(path).encode()).hexdigest()[:20]
  note = cache / "file_hashes" / f"{name}.json"
  with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
    known = json.loads(note.read_text(encoding="utf-8"))
    if known["stamp"] == stamp:
      return str(known["sha256"])
  digest = files.sha256_of_file(path)
  # A file changed a moment ago may change again within the same clock tick.
  if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > 2e9:
    note_value = {"stamp": stamp, "sha256": digest}
    files.write_json_atomically(note, note_value)
  return digest


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
  """Holds a file lock, which the system drops when the process ends."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "wb")
  except OSError as error:
    raise DataError(
      f"can not write prepared data to {path.parent}: {error}. Name another"
      " folder in RECJAX_CACHE_DIR."
    ) from error
  with file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield
