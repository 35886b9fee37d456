"""A digest of Arrow data that depends on its values alone.

Two tables get the same digest exactly when they hold the same columns, types
and values; how the rows are cut into chunks, padded or stored has no effect.
"""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def fingerprint(
  tables: dict[str, pa.Table | None], counts: dict[str, int]
) -> str:
  """The hex SHA-256 over counts, schemas and values of all tables.

  Args:
    tables: named tables; None stands for a table that is not there.
    counts: named numbers that are part of the identity, such as num_items.
  """
  digest = hashlib.sha256(b"recjax-fingerprint-1")
  for name in sorted(counts):
    digest.update(f"\0count {name}={counts[name]}".encode())
  for name in sorted(tables):
    table = tables[name]
    digest.update(f"\0table {name}".encode())
    if table is None:
      continue
    for column in sorted(table.column_names):
      array = _one_array(table.column(column))
      digest.update(f"\0column {column}:{array.type}:{len(array)}".encode())
      _add(digest, array)
  return digest.hexdigest()


def _one_array(column: pa.ChunkedArray) -> pa.Array:
  if column.num_chunks == 1:
    return column.chunk(0)
  combined = column.combine_chunks()
  if isinstance(combined, pa.ChunkedArray):
    return pa.concat_arrays(combined.chunks)
  return combined


def _add(digest: Any, array: pa.Array) -> None:
  if array.null_count:
    mask = array.is_null().to_numpy(zero_copy_only=False)
    digest.update(b"\0nulls" + np.packbits(mask).tobytes())
  kind = array.type
  if pa.types.is_null(kind):
    return  # Type and length, which are told already, say it all.
  if pa.types.is_dictionary(kind):
    _add(digest, array.cast(kind.value_type))
  elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
    lengths = pc.call_function("list_value_length", [array]).fill_null(0)
    digest.update(np.asarray(lengths, np.int64).tobytes())
    _add(digest, array.flatten())
  elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
    text = array.cast(pa.large_string()).fill_null("")
    lengths = pc.call_function("binary_length", [text])
    digest.update(np.asarray(lengths, np.int64).tobytes())
    offsets = np.frombuffer(text.buffers()[1], np.int64)
    offsets = offsets[text.offset : text.offset + len(text) + 1]
    data = text.buffers()[2]
    if data is not None and len(text):
      digest.update(memoryview(data)[offsets[0] : offsets[-1]])
  else:
    # Numbers. A null holds whatever the writer left there: make it zero.
    if array.null_count:
      array = array.fill_null(pa.scalar(0).cast(kind))
    values = array.to_numpy(zero_copy_only=False)
    digest.update(np.ascontiguousarray(values).view(np.uint8).data)
