"""What goes into an index: numbers that are numbers, and ids that are ids.

Every function here names the row and the value that is wrong.
"""

import hashlib
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Bool, Float32, Int, Int32

from recjax.errors import DataError

_MAX_ID = 2**31 - 1
_HASH_ROWS = 65_536


def checked_items(
  vectors: ArrayLike,
  item_id: ArrayLike,
  *,
  dim: int | None = None,
  taken: Int32[np.ndarray, " vocab"] | None = None,
) -> tuple[Float32[np.ndarray, "item dim"], Int32[np.ndarray, " item"]]:
  """Items in the order of their ids.

  Args:
    vectors: one row an item.
    item_id: from 1, each once.
    dim: the width that the vectors must have; None is any.
    taken: ids that may not come again.

  Returns:
    Vectors and ids.

  Raises:
    DataError: no items, a wrong shape, no numbers, NaN, or an id twice.
  """
  rows = _floats(vectors, "item vectors")
  if rows.ndim != 2 or not rows.size:
    raise DataError(
      "item vectors must be an array [item, dim] of one item or more; got"
      f" the shape {list(rows.shape)}. An index of nothing finds nothing."
    )
  if dim is not None and rows.shape[1] != dim:
    raise DataError(
      f"item vectors must have the width of the index, {dim}; got"
      f" {rows.shape[1]}."
    )
  ids = _ids(item_id, "item_id")
  if ids.shape != rows.shape[:1]:
    raise DataError(
      f"item_id must name each of the {len(rows)} item vectors; got the shape"
      f" {list(ids.shape)}."
    )
  if ids.min() < 1 or ids.max() > _MAX_ID:
    row = int(np.argmax((ids < 1) | (ids > _MAX_ID)))
    raise DataError(
      f"item_id must lie in [1, {_MAX_ID}]; got {ids[row]} in row {row}. Id 0"
      " is padding: leave row 0 of an item table out."
    )
  if (ids[1:] < ids[:-1]).any():
    order = np.argsort(ids, kind="stable")
    rows, ids = rows[order], ids[order]
  again = np.flatnonzero(ids[1:] == ids[:-1])
  if len(again):
    raise DataError(f"item_id must name each item once; {ids[again[0]]} comes"
      " twice.")  # fmt: skip
  if taken is not None and (known := np.isin(ids, taken)).any():
    raise DataError(
      f"item_id {ids[np.argmax(known)]} is in the index already; items can be"
      " added, not changed. Build the index again."
    )
  _check_finite(rows, "item vectors", "item_id", ids)
  return rows, ids.astype(np.int32)


def checked_queries(
  queries: ArrayLike, dim: int
) -> Float32[np.ndarray, "batch *rest"]:
  """Queries [batch, dim] or [batch, interest, dim].

  Raises:
    DataError: another width, no numbers, or NaN.
  """
  rows = _floats(queries, "queries")
  if rows.ndim not in (2, 3) or rows.shape[-1] != dim or 0 in rows.shape[1:]:
    raise DataError(
      f"queries must be an array [batch, {dim}] or [batch, interest, {dim}],"
      f" as wide as the index; got the shape {list(rows.shape)}."
    )
  _check_finite(rows, "queries", "row", np.arange(len(rows)))
  return rows


def checked_excluded(
  excluded: ArrayLike, num_queries: int
) -> Int[np.ndarray, "batch len"]:
  """Ids that are left out, 0 is padding.

  Raises:
    DataError: no integers, or not one row a query.
  """
  ids = _ids(excluded, "excluded")
  if ids.ndim != 2 or len(ids) != num_queries:
    raise DataError(
      f"excluded must be an array [{num_queries}, len], one row a query; got"
      f" the shape {list(ids.shape)}."
    )
  return np.where((ids > 0) & (ids <= _MAX_ID), ids, 0)


def check_filled(num_items: int, name: str) -> None:
  """Raises DataError for an index without items."""
  if not num_items:
    raise DataError(
      f"the {name} is empty: call build(vectors, item_id) first, or load a"
      " saved one with recjax.retrieval.saved_index.load_index."
    )


def items_fingerprint(
  vectors: ArrayLike, item_id: ArrayLike, *, after: str = ""
) -> str:
  """The SHA-256 of items: their ids and float32 vectors, in order of ids.

  Args:
    vectors: one row an item, as given to `build` or `add`.
    item_id: their ids.
    after: the fingerprint of the items that were there before.

  Returns:
    64 hex digits.

  Raises:
    DataError: as for `checked_items`.
  """
  rows, ids = checked_items(vectors, item_id)
  digest = hashlib.sha256(after.encode())
  digest.update(np.array(rows.shape, "<i8").tobytes())
  digest.update(ids.astype("<i4").tobytes())
  for start in range(0, len(rows), _HASH_ROWS):
    block = rows[start : start + _HASH_ROWS]
    digest.update(np.ascontiguousarray(block, "<f4").data)
  return digest.hexdigest()


def is_in_row(
  ids: Int[np.ndarray, "batch cand"], listed: Int[np.ndarray, "batch len"]
) -> Bool[np.ndarray, "batch cand"]:
  """Whether an id stands in the same row of `listed`."""
  row = np.arange(len(ids), dtype=np.int64)[:, None] << 32
  return np.isin(ids + row, listed + row)


def _floats(values: Any, what: str) -> np.ndarray:
  array = np.asarray(values)
  if array.dtype.kind in "OSUV" and array.dtype.name != "bfloat16":
    text = f"; the first is {array.flat[0]!r}" if array.size else ""
    raise DataError(
      f"{what} must be floating-point numbers; got the dtype {array.dtype}"
      f"{text}. A text column is turned into vectors by a feature encoder, see"
      " recjax/features/text.py."
    )
  if array.dtype.kind not in "fV":
    raise DataError(
      f"{what} must be floating-point numbers; got the dtype {array.dtype}."
      " Ids are no vectors: look up their rows first."
    )
  return np.ascontiguousarray(array, np.float32)


def _ids(values: Any, what: str) -> np.ndarray:
  array = np.asarray(values)
  if array.dtype.kind not in "iu":
    raise DataError(
      f"{what} must hold integer ids; got the dtype {array.dtype}."
    )
  return array.astype(np.int64)


def _check_finite(
  rows: np.ndarray, what: str, name: str, names: np.ndarray
) -> None:
  finite = np.isfinite(rows)
  if finite.all():
    return
  row = int(np.argmin(finite.reshape(len(rows), -1).all(1)))
  value = rows[row][~finite[row]][0]
  raise DataError(
    f"{what} must be finite; {name} {names[row]} holds {value}. A run whose"
    " loss became NaN, or a division by a zero norm, gives such vectors."
  )
