"""Arrow tables in a folder with a manifest: written whole, checked on reading.

The manifest names size and SHA-256 of every file, so that a truncated or
altered one is found and named before it is used.
"""

import json
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from recjax import files
from recjax.errors import DataError

MANIFEST = "manifest.json"


def save_tables(
  directory: files.PathLike,
  tables: Mapping[str, pa.Table],
  facts: Mapping[str, Any],
) -> None:
  """Writes `name.arrow` of every table and the manifest, all or nothing.

  Args:
    directory: what stood there before is replaced.
    tables: by name.
    facts: further entries of the manifest, "format" among them.
  """
  with files.replace_directory(directory) as folder:
    manifest: dict[str, Any] = {**facts, "files": {}}
    for name, table in tables.items():
      path = folder / f"{name}.arrow"
      with pa.OSFile(str(path), "wb") as sink:
        with pa.ipc.new_file(sink, table.schema) as writer:
          writer.write_table(table.combine_chunks())
      manifest["files"][path.name] = describe_file(path)
    files.write_json_atomically(folder / MANIFEST, manifest)


def load_tables(
  directory: files.PathLike,
  *,
  what: str,
  version: int,
  facts: Collection[str],
  needs: str,
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
  """Maps saved tables into memory after checking every file.

  Args:
    directory: where they were saved.
    what: is saved there, for messages.
    version: the "format" that can be read.
    facts: entries that the manifest must have.
    needs: the table that must be there.

  Returns:
    The manifest, and the tables by name.

  Raises:
    DataError: a file is missing, truncated or altered; it is named.
  """
  folder = pathlib.Path(directory)
  manifest = read_manifest(folder, what=what, version=version, facts=facts)
  if f"{needs}.arrow" not in manifest["files"]:
    raise DataError(
      f"{folder / MANIFEST} is corrupt: it lists no {needs}.arrow."
    )
  tables = {}
  for file_name, expected in manifest["files"].items():
    path = folder / file_name
    check_file(path, expected)
    with pa.memory_map(os.fspath(path)) as source:
      try:
        tables[path.stem] = pa.ipc.open_file(source).read_all()
      except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no Arrow file: {error}") from error
  return manifest, tables


def read_manifest(
  folder: pathlib.Path, *, what: str, version: int, facts: Collection[str]
) -> dict[str, Any]:
  """The manifest of a folder.

  Raises:
    DataError: it is missing, broken, lacks an entry or has another format.
  """
  path = folder / MANIFEST
  try:
    manifest = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise DataError(
      f"{folder} holds no saved {what}: {path} is missing."
    ) from None
  except ValueError as error:
    raise DataError(f"{path} is corrupt: {error}.") from error
  needed = {*facts, "files"}
  if not isinstance(manifest, dict) or not needed <= manifest.keys():
    raise DataError(f"{path} is corrupt: it lacks some of {sorted(needed)}.")
  if manifest.get("format") != version:
    raise DataError(
      f"{path} has format {manifest.get('format')!r}; this version of recjax"
      f" reads format {version}. Prepare the data again."
    )
  return manifest


def describe_file(path: pathlib.Path) -> dict[str, Any]:
  """Size and checksum of a file, for a manifest."""
  return {
    "bytes": path.stat().st_size,
    "sha256": files.sha256_of_file(path),
  }


def check_file(
  path: pathlib.Path, expected: Mapping[str, Any], *, content: bool = True
) -> None:
  """Checks a file against its description.

  Args:
    path: the file.
    expected: what `describe_file` gave.
    content: whether to look at the checksum and not at the size alone.

  Raises:
    DataError: it is missing or another one.
  """
  if not path.exists():
    raise DataError(f"{path} is missing. Prepare the data again.")
  size = path.stat().st_size
  if size != expected["bytes"]:
    raise DataError(
      f"{path} has {size} bytes where its manifest says {expected['bytes']}:"
      " it is truncated or altered. Prepare the data again."
    )
  if content and files.sha256_of_file(path) != expected["sha256"]:
    raise DataError(
      f"{path} does not have the checksum of its manifest: it is corrupt."
      " Prepare the data again."
    )
