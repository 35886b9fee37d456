"""A folder that holds an index: written whole, checked file by file.

Its manifest names size and SHA-256 of every file, so that a truncated, altered
or added one is found and named before it is read.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from recjax import files
from recjax.errors import DataError

MANIFEST = "manifest.json"
FORMAT = 1
FACTS = (
  "kind",
  "settings",
  "similarity",
  "dim",
  "num_items",
  "fingerprint",
  "checkpoint",
  "build_secs",
  "versions",
  "files",
)
_AGAIN = "Build the index again."


def save_folder(
  folder: files.PathLike,
  write: Callable[[pathlib.Path], object],
  facts: Mapping[str, Any],
) -> None:
  """Writes files and their manifest; all of it or nothing.

  Args:
    folder: an index that stood there before is replaced.
    write: writes the files into the empty folder it is given.
    facts: further entries of the manifest, all of FACTS but "files".

  Raises:
    DataError: the folder holds something else than an index.
  """
  _check_replaceable(pathlib.Path(folder))
  with files.replace_directory(folder) as inside:
    write(inside)
    listed = {
      path.name: {
        "bytes": path.stat().st_size,
        "sha256": files.sha256_of_file(path),
      }
      for path in sorted(inside.iterdir())
    }
    manifest = {"format": FORMAT, **facts, "files": listed}
    files.write_json_atomically(inside / MANIFEST, manifest)


def _check_replaceable(folder: pathlib.Path) -> None:
  """Raises DataError where more than an index, whole or broken, would go."""
  if not folder.exists():
    return
  names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
  text = "{}"
  if MANIFEST in names:
    text = (folder / MANIFEST).read_text("utf-8", errors="replace")
  # The folder of an export has such a file, too; it lists tables.
  if names and (MANIFEST not in names or '"tables"' in text):
    raise DataError(
      f"{folder} holds something else than an index, which would be deleted:"
      " choose another folder."
    )


def check_folder(folder: files.PathLike) -> dict[str, Any]:
  """The manifest of a folder whose files are all as they were written.

  Raises:
    DataError: a file is missing, truncated, altered or was added.
  """
  folder = pathlib.Path(folder)
  manifest = _read_manifest(folder)
  listed: Mapping[str, Any] = manifest["files"]
  for path in sorted(folder.iterdir()):
    if path.name != MANIFEST and path.name not in listed:
      raise DataError(
        f"{path} is no part of the index that its manifest describes. {_AGAIN}"
      )
  for name, expected in listed.items():
    _check_file(folder / name, expected)
  return manifest


def _check_file(path: pathlib.Path, expected: Mapping[str, Any]) -> None:
  if not path.is_file():
    raise DataError(f"{path} is missing. {_AGAIN}")
  size = path.stat().st_size
  if size != expected["bytes"]:
    raise DataError(
      f"{path} has {size} bytes where its manifest says {expected['bytes']}:"
      f" it is truncated or altered. {_AGAIN}"
    )
  if files.sha256_of_file(path) != expected["sha256"]:
    raise DataError(
      f"{path} does not have the checksum of its manifest: it is corrupt."
      f" {_AGAIN}"
    )


def _read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / MANIFEST
  try:
    manifest = json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, NotADirectoryError):
    raise DataError(
      f"{folder} holds no saved index: {path} is missing."
    ) from None
  except ValueError as error:
    raise DataError(f"{path} is corrupt: {error}. {_AGAIN}") from error
  if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
    found = manifest.get("format") if isinstance(manifest, dict) else manifest
    raise DataError(
      f"{path} has format {found!r}; this version of recjax reads format"
      f" {FORMAT}. {_AGAIN}"
    )
  lacking = [name for name in FACTS if name not in manifest]
  if lacking:
    raise DataError(f"{path} is corrupt: it lacks {lacking}. {_AGAIN}")
  return manifest
