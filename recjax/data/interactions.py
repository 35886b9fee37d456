"""Who acted on what, and when: immutable, memory-mapped columns.

Rows are sorted by user, then time, then their place in the source, so the
rows of a user are contiguous and in time order. Ids run from 1; 0 is padding.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from recjax import files
from recjax.data import arrow_store
from recjax.data import fingerprint as fingerprints
from recjax.errors import DataError, check_column, nearest

_FORMAT = 1
_DTYPES = {
  "user_id": np.int32,
  "item_id": np.int32,
  "timestamp": np.int64,
  "rating": np.float32,
}
_MAX_ID = np.iinfo(np.int32).max - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Interactions:
  """Columns of interactions with the tables that describe users and items.

  Make one with `from_columns` or `load`; the constructor checks nothing.

  Attributes:
    name: how reports call the data set.
    table: Arrow columns `user_id` and `item_id` (int32), and where known
      `timestamp` (int64, seconds since 1970), `rating` (float32) and context
      columns.
    num_users: the largest user id; ids run from 1.
    num_items: the largest item id.
    users: row u - 1 describes user u: `raw_id` (text), then features. None
      where nothing is known.
    items: the same of items.
    fingerprint: hex SHA-256 of counts, columns and both tables. Neither the
      name nor the layout of a file has a part in it.
  """

  name: str
  table: pa.Table
  num_users: int
  num_items: int
  users: pa.Table | None
  items: pa.Table | None
  fingerprint: str

  # -- Making one ---------------------------------------------------------

  @classmethod
  def from_columns(
    cls,
    name: str,
    columns: Mapping[str, np.ndarray],
    *,
    num_users: int | None = None,
    num_items: int | None = None,
    users: pa.Table | None = None,
    items: pa.Table | None = None,
  ) -> "Interactions":
    """Checks columns, sorts rows by (user, timestamp, position), seals them.

    Args:
      name: how reports call the data set.
      columns: arrays of one length: `user_id`, `item_id`, and as there are
        `timestamp`, `rating` and context columns of numbers or text.
      num_users: the number of users; by default the largest id.
      num_items: the number of items; by default the largest id.
      users: a table of num_users rows with a text column `raw_id`.
      items: a table of num_items rows with a text column `raw_id`.

    Raises:
      DataError: a column is missing, of another length, holds NaN, or an id
        is below 1 or above the count.
    """
    arrays = _checked_columns(name, columns)
    counts = []
    for column, count in (("user_id", num_users), ("item_id", num_items)):
      largest = int(arrays[column].max())
      if count is not None and largest > count:
        raise DataError(
          f"{name}: column {column!r} holds the id {largest}, but ids must"
          f" lie in [1, {count}]."
        )
      counts.append(largest if count is None else int(count))
    order = _time_order(arrays["user_id"], arrays.get("timestamp"))
    if order is not None:
      arrays = {key: values[order] for key, values in arrays.items()}
    table = pa.table({key: pa.array(value) for key, value in arrays.items()})
    return cls.from_sorted_table(
      name,
      table,
      num_users=counts[0],
      num_items=counts[1],
      users=users,
      items=items,
    )

  @classmethod
  def from_sorted_table(
    cls,
    name: str,
    table: pa.Table,
    *,
    num_users: int,
    num_items: int,
    users: pa.Table | None = None,
    items: pa.Table | None = None,
  ) -> "Interactions":
    """Seals a table whose rows and types are already as they must be."""
    users = _checked_features(f"{name}: users", users, num_users)
    items = _checked_features(f"{name}: items", items, num_items)
    table = table.combine_chunks()
    digest = fingerprints.fingerprint(
      {"interactions": table, "users": users, "items": items},
      {"num_users": num_users, "num_items": num_items},
    )
    return cls(name, table, num_users, num_items, users, items, digest)

  # -- Reading it ---------------------------------------------------------

  def __len__(self) -> int:
    return self.table.num_rows

  def has(self, name: str) -> bool:
    """Whether there is a column of that name."""
    return name in self.table.column_names

  def column(self, name: str) -> Shaped[np.ndarray, " row"]:
    """A column as a read-only array; numbers are not copied.

    Raises:
      DataError: there is no such column.
    """
    check_column(self.name, name, self.table.column_names)
    column = self.table.column(name)
    array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    numeric = pa.types.is_integer(array.type) or pa.types.is_floating(
      array.type
    )
    values = array.to_numpy(zero_copy_only=numeric)
    values.flags.writeable = False
    return values

  @property
  def user_id(self) -> Int[np.ndarray, " row"]:
    """The user of each row, in [1, num_users]."""
    return self.column("user_id")

  @property
  def item_id(self) -> Int[np.ndarray, " row"]:
    """The item of each row, in [1, num_items]."""
    return self.column("item_id")

  @property
  def timestamp(self) -> Int[np.ndarray, " row"] | None:
    """Seconds since 1970 of each row, or None."""
    return self.column("timestamp") if self.has("timestamp") else None

  @property
  def rating(self) -> Float[np.ndarray, " row"] | None:
    """The rating of each row, or None."""
    return self.column("rating") if self.has("rating") else None

  @functools.cached_property
  def user_offsets(self) -> Int[np.ndarray, " num_users_plus_two"]:
    """Rows of user u are `offsets[u]:offsets[u + 1]`; user 0 has none."""
    counts = np.bincount(self.user_id, minlength=self.num_users + 1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    offsets.flags.writeable = False
    return offsets

  # -- Keeping it ---------------------------------------------------------

  def save(self, directory: files.PathLike) -> None:
    """Writes Arrow files and their manifest, all or nothing."""
    tables = {"interactions": self.table}
    if self.users is not None:
      tables["users"] = self.users
    if self.items is not None:
      tables["items"] = self.items
    facts = {
      "format": _FORMAT,
      "name": self.name,
      "num_users": self.num_users,
      "num_items": self.num_items,
      "fingerprint": self.fingerprint,
    }
    arrow_store.save_tables(directory, tables, facts)

  @classmethod
  def load(cls, directory: files.PathLike) -> "Interactions":
    """Maps a saved data set into memory after checking every file.

    Raises:
      DataError: a file is missing, truncated or altered; it is named.
    """
    manifest, tables = arrow_store.load_tables(
      directory,
      what="interactions",
      version=_FORMAT,
      facts=("name", "num_users", "num_items", "fingerprint"),
      needs="interactions",
    )
    return cls(
      name=manifest["name"],
      table=tables["interactions"],
      num_users=manifest["num_users"],
      num_items=manifest["num_items"],
      users=tables.get("users"),
      items=tables.get("items"),
      fingerprint=manifest["fingerprint"],
    )


def _checked_columns(
  name: str, columns: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  for column in ("user_id", "item_id"):
    if column not in columns:
      raise DataError(
        f"{name}: column {column!r} is needed; got"
        f" {', '.join(columns) or 'no column'}.{nearest(column, columns)}"
      )
  rows = len(columns["user_id"])
  if not rows:
    raise DataError(f"{name}: there is not one interaction.")
  known = [column for column in _DTYPES if column in columns]
  context = sorted(column for column in columns if column not in _DTYPES)
  arrays = {}
  for column in known + context:
    values = np.asarray(columns[column])
    if values.shape != (rows,):
      raise DataError(
        f"{name}: column {column!r} has shape {values.shape}, but 'user_id'"
        f" has {rows} rows."
      )
    if values.dtype.kind == "f" and np.isnan(values).any():
      row = int(np.flatnonzero(np.isnan(values))[0])
      raise DataError(f"{name}: column {column!r} holds NaN at row {row}.")
    arrays[column] = _as_stored(name, column, values)
  return arrays


def _as_stored(name: str, column: str, values: np.ndarray) -> np.ndarray:
  if column not in _DTYPES:
    return values.astype(np.uint8) if values.dtype.kind == "b" else values
  dtype = np.dtype(_DTYPES[column])
  kinds = "iuf" if dtype.kind == "f" else "iu"
  if values.dtype.kind not in kinds:
    raise DataError(
      f"{name}: column {column!r} must hold"
      f" {'numbers' if dtype.kind == 'f' else 'integers'}; got {values.dtype}."
    )
  if dtype == np.int32:
    low, high = int(values.min()), int(values.max())
    if low < 1 or high > _MAX_ID:
      row = int(values.argmin() if low < 1 else values.argmax())
      raise DataError(
        f"{name}: ids must lie in [1, {_MAX_ID}] (0 is padding); column"
        f" {column!r} holds {values[row]} at row {row}."
      )
  return values.astype(dtype, copy=False)


def _time_order(
  user_id: Int[np.ndarray, " row"], timestamp: Int[np.ndarray, " row"] | None
) -> Int[np.ndarray, " row"] | None:
  """The stable order by (user, time), or None where rows have it already."""
  step = np.diff(user_id)
  if timestamp is None:
    if np.all(step >= 0):
      return None
    return np.argsort(user_id, kind="stable")
  later = (step > 0) | ((step == 0) & (np.diff(timestamp) >= 0))
  return None if np.all(later) else np.lexsort((timestamp, user_id))


def _checked_features(
  what: str, table: pa.Table | None, rows: int
) -> pa.Table | None:
  if table is None:
    return None
  if table.num_rows != rows:
    raise DataError(
      f"{what} table has {table.num_rows} rows, but there are {rows} ids."
    )
  if "raw_id" not in table.column_names:
    raise DataError(f"{what} table needs a column 'raw_id'.")
  if not pa.types.is_string(table.schema.field("raw_id").type):
    raise DataError(f"{what}: the column 'raw_id' must hold text.")
  return table.combine_chunks()
