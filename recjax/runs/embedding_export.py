"""Vectors with their ids as Parquet and npz, and a manifest of their origin.

items.parquet    item_id, raw_id, name, train_count, vector
items.npz        the same as arrays
users.parquet    user_id, raw_id, vector; npz alike (only where asked for)
manifest.json    checkpoint, fingerprints, shapes, and the SHA-256 of each file;
                 written last: an export that has it is whole

A vector in Parquet is a list of fixed length of float32; several interests of
a user are a list of such lists.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped
from pyarrow import parquet

from recjax import files
from recjax.errors import DataError

MANIFEST = "manifest.json"
VECTOR = "vector"
FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class VectorTable:
  """Vectors of items or of users.

  Attributes:
    name: of the files, "items" or "users".
    id_name: "item_id" or "user_id".
    ids: one a row.
    vectors: float32; [row, dim], or [row, k, dim] for k interests.
    columns: what else is known of each row, such as `raw_id`; numbers or text.
  """

  name: str
  id_name: str
  ids: Int[np.ndarray, " row"]
  vectors: Float[np.ndarray, "row *k dim"]
  columns: Mapping[str, Shaped[np.ndarray, " row"]]

  def __post_init__(self):
    taken = {self.id_name, VECTOR} & set(self.columns)
    if taken:
      raise DataError(f"{self.name}: {', '.join(taken)} is there twice.")
    if not np.isfinite(self.vectors).all():
      finite = np.isfinite(self.vectors).reshape(len(self.ids), -1).all(1)
      raise DataError(
        f"{self.name}: the vector of {self.id_name}"
        f" {self.ids[int(np.argmin(finite))]} is not finite: the model has"
        f" diverged ({int((~finite).sum())} such vectors)."
      )

  def to_arrow(self) -> pa.Table:
    """The table as Arrow columns."""
    arrays = {self.id_name: pa.array(self.ids.astype(np.int32))}
    for name, column in self.columns.items():
      is_text = column.dtype.kind in "OU"
      arrays[name] = pa.array(column, pa.string() if is_text else None)
    vectors = np.ascontiguousarray(self.vectors, np.float32)
    array: pa.Array = pa.array(vectors.reshape(-1))
    for width in vectors.shape[:0:-1]:
      array = pa.FixedSizeListArray.from_arrays(array, width)
    return pa.table({**arrays, VECTOR: array})

  def to_arrays(self) -> dict[str, np.ndarray]:
    """The table as arrays of NumPy, texts as such (no pickled objects)."""
    columns = {
      name: column.astype(str) if column.dtype.kind in "OU" else column
      for name, column in self.columns.items()
    }
    return {
      self.id_name: self.ids.astype(np.int32),
      **columns,
      VECTOR: np.asarray(self.vectors, np.float32),
    }


def export_vectors(
  folder: files.PathLike,
  tables: tuple[VectorTable, ...],
  origin: Mapping[str, Any],
) -> list[pathlib.Path]:
  """Writes tables of vectors, each file whole or not at all.

  An export that stood there is taken away first, for its vectors may be of
  another model; other files of the folder stay.

  Args:
    folder: made if need be.
    tables: items, and maybe users.
    origin: what the manifest tells besides, such as the checkpoint.

  Returns:
    The files, the manifest last.

  Raises:
    DataError: the folder holds a manifest of something else.
  """
  folder = pathlib.Path(folder)
  manifest_path = folder / MANIFEST
  _remove_export(folder)
  written, shapes = [], {}
  for table in tables:
    arrow, arrays = table.to_arrow(), table.to_arrays()
    for suffix, write in (
      ("parquet", lambda file, t=arrow: parquet.write_table(t, file)),
      ("npz", lambda file, a=arrays: np.savez(file, allow_pickle=False, **a)),
    ):
      path = folder / f"{table.name}.{suffix}"
      files.write_atomically(path, write)
      written.append(path)
    shapes[table.name] = {
      "rows": len(table.ids),
      "vector": list(table.vectors.shape[1:]),
      "columns": arrow.column_names,
    }
  listed = {path.name: files.sha256_of_file(path) for path in written}
  manifest = {"format": FORMAT, **origin, "tables": shapes, "files": listed}
  files.write_json_atomically(manifest_path, manifest)
  return [*written, manifest_path]


def _remove_export(folder: pathlib.Path) -> None:
  """Deletes the manifest of an export, then the files that it lists."""
  path = folder / MANIFEST
  try:
    manifest = json.loads(path.read_text("utf-8"))
  except FileNotFoundError:
    return
  except ValueError:
    manifest = None
  # An index has such a file, too, but no tables.
  if (
    not isinstance(manifest, dict)
    or manifest.get("format") != FORMAT
    or not isinstance(manifest.get("tables"), dict)
  ):
    raise DataError(
      f"{path} is not of an export of recjax: choose another folder."
    )
  path.unlink()
  for name in manifest["files"]:
    (folder / pathlib.Path(name).name).unlink(missing_ok=True)
