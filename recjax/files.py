"""Writes that either happen whole or leave the old file as it was."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

PathLike = str | os.PathLike[str]


def write_atomically(
  path: PathLike, write: Callable[[BinaryIO], object]
) -> None:
  """Calls `write(file)` on a temporary file, then renames it onto `path`.

  The data is flushed to disk before the rename, so that a crash, a full disk
  or an interrupt leaves the file that stood at `path` before.

  Args:
    path: where the file shall stand; its folder is made if need be.
    write: writes the content to the binary file it is given.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
  try:
    with os.fdopen(handle, "wb") as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise


def write_text_atomically(path: PathLike, text: str) -> None:
  """Writes `text` as UTF-8, whole or not at all."""
  write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json_atomically(path: PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, whole or not at all."""
  write_text_atomically(
    path, json.dumps(value, indent=2, ensure_ascii=False) + "\n"
  )


@contextlib.contextmanager
def replace_directory(path: PathLike) -> Iterator[pathlib.Path]:
  """Yields an empty folder that becomes `path` when the block succeeds.

  A block that raises leaves what stood at `path` before.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(
    tempfile.mkdtemp(dir=path.parent, prefix=f".writing-{path.name}-")
  )
  try:
    os.chmod(temporary, 0o755)
    yield temporary
    _swap(temporary, path)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def _swap(new: pathlib.Path, path: pathlib.Path) -> None:
  aside = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=".old-"))
  old = aside / path.name
  try:
    with contextlib.suppress(FileNotFoundError):
      os.replace(path, old)
    os.replace(new, path)
  except BaseException:
    if old.exists():
      os.replace(old, path)
    aside.rmdir()
    raise
  shutil.rmtree(aside, ignore_errors=True)


def sha256_of_file(path: PathLike) -> str:
  """The hex SHA-256 of a file's content."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
