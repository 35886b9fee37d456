"""Reads the parts of a split from files and finds their events.

An event is found by its user and item. Where a user took an item several
times, the first mention (training before validation before test) is the first
of these events in time, and so on; a mention too many means the last event
again, which then stands in two parts and is reported as a leak.

A history without a user is found by what it holds: with x_1..x_n the items of
a history and R an odd number, the rolling hash H_n = sum_j x_j R^j modulo 2^64
of every prefix of every user is known from one cumulative sum.
"""

import hashlib
import pathlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from recjax.data.interactions import Interactions
from recjax.data.ragged import Ragged
from recjax.errors import DataError
from recjax.files import sha256_of_file

LAYOUTS = ("pairs", "user_lines", "rows", "gsasrec")
_PARTS = ("train", "validation", "test")
_ROLL = np.uint64(0x9E3779B97F4A7C15)

# One axis; the parts of a split have different lengths.
Rows = Int[np.ndarray, " _"]


def read_parts(
  interactions: Interactions, paths: Mapping[str, pathlib.Path], layout: str
) -> dict[str, Rows]:
  """The sorted rows of train, validation, test, and context.

  Args:
    interactions: where to find the events.
    paths: part -> its file or, for "gsasrec", folder.
    layout: one of LAYOUTS; see `splits.GivenFiles`.

  Raises:
    DataError: a file is missing or broken, or names an event that is not
      there; file and line are given.
  """
  if layout == "gsasrec":
    rows = _read_gsasrec(interactions, paths)
  elif layout == "rows":
    rows = {
      part: _read_row_numbers(path, len(interactions))
      for part, path in paths.items()
    }
  else:
    rows = _read_mentions(interactions, paths, layout == "user_lines")
  for part in _PARTS:
    rows.setdefault(part, np.zeros(0, np.int64))
  if "train" not in paths:
    rest = np.ones(len(interactions), bool)
    rest[np.concatenate(list(rows.values()))] = False
    rows["train"] = np.flatnonzero(rest)
  for part in ("train", "test"):
    if not len(rows[part]):
      raise DataError(f"{part} is empty; files: {_listed(paths)}.")
  return rows


def digest(paths: Mapping[str, pathlib.Path]) -> str:
  """A hex SHA-256 over parts and the content of their files."""
  total = hashlib.sha256()
  for part, path in sorted(paths.items()):
    names = [path]
    if path.is_dir():
      names = [path / "input.txt", path / "output.txt"]
    for name in names:
      if name.exists():
        total.update(f"{part}:{name.name}:{sha256_of_file(name)};".encode())
  return total.hexdigest()


def _listed(paths: Mapping[str, pathlib.Path]) -> str:
  return ", ".join(str(path) for path in paths.values())


def _read_row_numbers(path: pathlib.Path, num_rows: int) -> Rows:
  try:
    rows = np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise DataError(f"{path} is no .npy file of rows: {error}.") from error
  if rows.ndim != 1 or rows.dtype.kind not in "iu":
    raise DataError(
      f"{path} must hold one axis of integers; got {rows.dtype} of shape"
      f" {rows.shape}."
    )
  rows = np.sort(rows.astype(np.int64))
  if len(rows) and not 0 <= rows[0] <= rows[-1] < num_rows:
    raise DataError(
      f"{path}: rows must lie in [0, {num_rows}); found {rows[0]}..{rows[-1]}."
    )
  if np.any(np.diff(rows) == 0):
    raise DataError(f"{path} holds a row twice.")
  return rows


# -- Lines of ids -----------------------------------------------------------


def _read_lines(path: pathlib.Path) -> list[list[bytes]]:
  """The fields of every line; blank lines have none."""
  try:
    return [line.split() for line in path.read_bytes().splitlines()]
  except OSError as error:
    raise DataError(
      f"{path} can not be read: {error}. Paths start from data_dir."
    ) from error


def _ids(
  what: str,
  texts: list[bytes],
  lines: np.ndarray,
  path: pathlib.Path,
  table: pa.Table | None,
  largest: int,
) -> np.ndarray:
  """Ids of recjax for the ids of a file."""
  column = pa.array(texts, pa.binary()).cast(pa.string())
  if table is not None:
    known = pc.SetLookupOptions(table["raw_id"].combine_chunks())
    found = pc.call_function("index_in", [column], known)
    ids = pc.fill_null(found, -1).to_numpy(zero_copy_only=False) + 1
  else:
    try:
      ids = column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
      raise DataError(
        f"{path}: {what} ids must be integers: {error}."
      ) from None
    ids = np.where((ids >= 1) & (ids <= largest), ids, 0)
  if len(ids) and ids.min() < 1:
    bad = int(np.flatnonzero(ids < 1)[0])
    known = "is not among the raw ids" if table is not None else "is outside"
    raise DataError(
      f"{path}, line {lines[bad]}: {what} {texts[bad].decode()!r} {known} of"
      f" the {largest} {what}s of the data."
    )
  return ids.astype(np.int64)


def _read_mentions(
  interactions: Interactions,
  paths: Mapping[str, pathlib.Path],
  many: bool,
) -> dict[str, Rows]:
  """Finds the (user, item) mentions of all parts."""
  found = [_read_keys(interactions, path, many) for path in paths.values()]
  key = np.concatenate([keys for keys, _ in found])
  rows = _match(interactions, key)
  missing = int((rows < 0).sum())
  out, start = {}, 0
  for (part, path), (_, lines) in zip(paths.items(), found):
    mine = rows[start : start + len(lines)]
    if mine.min(initial=0) < 0:
      bad = int(np.flatnonzero(mine < 0)[0])
      user, item = divmod(int(key[start + bad]), interactions.num_items + 1)
      raise DataError(
        f"{path}, line {lines[bad]}: user {user} and item {item} do not meet"
        f" in {interactions.name!r}; {missing:,} such pairs in all. Was the"
        " data filtered?"
      )
    start += len(lines)
    out[part] = np.sort(mine)
    if np.any(np.diff(out[part]) == 0):
      raise DataError(
        f"{path} names a pair more often than {interactions.name!r} holds it."
      )
  return out


def _read_keys(
  interactions: Interactions, path: pathlib.Path, many: bool
) -> tuple[np.ndarray, np.ndarray]:
  """A key of each (user, item) mention of a file, and the mention's line."""
  fields = _read_lines(path)
  lengths = np.array([len(values) for values in fields], np.int64)
  if not many:
    short = np.flatnonzero(lengths == 1)
    if len(short):
      text = fields[short[0]][0].decode(errors="replace")
      raise DataError(
        f"{path}, line {short[0] + 1}: expected 'user item', got {text!r}."
      )
    lengths = np.minimum(lengths, 2)
  lengths = np.maximum(lengths - 1, 0)
  lines = np.repeat(np.arange(1, len(fields) + 1), lengths)
  last = None if many else 2
  user_ids = _ids(
    "user",
    [values[0] for values in fields for _ in values[1:last]],
    lines,
    path,
    interactions.users,
    interactions.num_users,
  )
  item_ids = _ids(
    "item",
    [item for values in fields for item in values[1:last]],
    lines,
    path,
    interactions.items,
    interactions.num_items,
  )
  return user_ids * (interactions.num_items + 1) + item_ids, lines


def _match(interactions: Interactions, key: np.ndarray) -> np.ndarray:
  """The row of each mention of a (user, item) key, -1 where there is none."""
  own = interactions.user_id.astype(np.int64) * (interactions.num_items + 1)
  own += interactions.item_id
  order = np.argsort(own, kind="stable")
  first = np.searchsorted(own, key, side="left", sorter=order)
  last = np.searchsorted(own, key, side="right", sorter=order) - 1
  # The how-manieth mention of its key each is.
  by_key = np.argsort(key, kind="stable")
  ordered = key[by_key]
  starts = np.searchsorted(ordered, ordered, side="left")
  nth = np.empty(len(key), np.int64)
  nth[by_key] = np.arange(len(key)) - starts
  place = np.minimum(first + nth, last)
  return np.where(last >= first, order[np.maximum(place, 0)], -1)


# -- gSASRec's folders ------------------------------------------------------


def _read_gsasrec(
  interactions: Interactions, paths: Mapping[str, pathlib.Path]
) -> dict[str, Rows]:
  """Rows of each part; what only an input shows becomes context."""
  rows: dict[str, np.ndarray] = {}
  shown = [np.zeros(0, np.int64)]
  for part, path in paths.items():
    inputs = _read_histories(interactions, path / "input.txt")
    if part == "train":
      first, lengths = _find(interactions, inputs, path / "input.txt")
      rows[part] = np.sort(_spread(first, lengths))
      continue
    outputs = _read_histories(interactions, path / "output.txt")
    if len(outputs) != len(inputs) or np.any(outputs.lengths == 0):
      raise DataError(
        f"{path}: output.txt must have an item for each line of input.txt; got"
        f" {len(outputs)} lines for {len(inputs)}."
      )
    whole = Ragged.from_pairs(
      np.concatenate([inputs.row_ids, outputs.row_ids]),
      np.concatenate([inputs.values, outputs.values]),
      len(inputs),
    )
    first, _ = _find(interactions, whole, path / "input.txt")
    shown.append(_spread(first, inputs.lengths))
    rows[part] = np.sort(_spread(first + inputs.lengths, outputs.lengths))
  for part, path in paths.items():
    if np.any(np.diff(rows[part]) == 0):
      raise DataError(f"{path}: two lines are the same user's.")
  # Marks, as np.unique and its like take seconds for a million rows.
  left = np.zeros(len(interactions), bool)
  left[np.concatenate(shown)] = True
  for part in ("train", "validation"):
    left[rows.get(part, shown[0])] = False
  context = np.flatnonzero(left)
  return rows | {"context": context}


def _read_histories(interactions: Interactions, path: pathlib.Path) -> Ragged:
  """The items of every line."""
  fields = _read_lines(path)
  lengths = np.array([len(values) for values in fields], np.int64)
  where = np.repeat(np.arange(1, len(fields) + 1), lengths)
  texts = [item for values in fields for item in values]
  items = _ids(
    "item", texts, where, path, interactions.items, interactions.num_items
  )
  return Ragged.from_pairs(where - 1, items, len(fields))


def _find(
  interactions: Interactions, lines: Ragged, path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
  """First row and length of the user whose history starts as each line.

  Where several users start alike, line k is user k's if it can be.
  """
  offsets = interactions.user_offsets
  histories = Ragged(interactions.item_id, offsets[1:])
  own = _prefix_hashes(histories)
  at_row = np.arange(len(interactions)) - offsets[interactions.user_id] + 1
  ends = lines.offsets[1:] - 1
  wanted = _prefix_hashes(lines)[ends] ^ _mixed(lines.lengths)
  keys = own ^ _mixed(at_row)
  order = np.argsort(keys, kind="stable")
  left = np.searchsorted(keys, wanted, side="left", sorter=order)
  right = np.searchsorted(keys, wanted, side="right", sorter=order)
  last_row = order[np.minimum(left, len(order) - 1)]
  # Line k as user k, where that user has so many events and the same hash.
  number = np.arange(1, len(lines) + 1)
  users = np.minimum(number, interactions.num_users)
  same = offsets[users] + lines.lengths - 1
  fits = (number == users) & (lines.lengths <= histories.lengths[users - 1])
  fits &= keys[np.minimum(same, len(keys) - 1)] == wanted
  last_row = np.where(fits, same, last_row)
  bad = (lines.lengths == 0) | (right == left) | ((right > left + 1) & ~fits)
  first = last_row - lines.lengths + 1
  if not bad.any():
    found = interactions.item_id[_spread(first, lines.lengths)]
    bad[lines.row_ids[found != lines.values]] = True
  if bad.any():
    line = int(np.flatnonzero(bad)[0])
    why = (
      "several users start" if right[line] > left[line] else "no user starts"
    )
    raise DataError(
      f"{path}, line {line + 1}: {why} with these {lines.lengths[line]} items"
      f" in {interactions.name!r}."
    )
  return first, lines.lengths


def _prefix_hashes(lines: Ragged) -> np.ndarray:
  """H of every prefix of every row; the sums wrap around on purpose."""
  inside = np.arange(len(lines.values)) - np.repeat(
    lines.offsets[:-1], lines.lengths
  )
  powers = np.cumprod(
    np.full(int(lines.lengths.max(initial=0)), _ROLL), dtype=np.uint64
  )
  terms = _mixed(lines.values) * powers[inside]
  total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
  return total[1:] - np.repeat(total[lines.offsets[:-1]], lines.lengths)


def _mixed(numbers: np.ndarray) -> np.ndarray:
  """Spreads small integers over 64 bits."""
  numbers = (numbers.astype(np.uint64) + np.uint64(1)) * _ROLL
  return (numbers ^ (numbers >> np.uint64(29))) * _ROLL


def _spread(first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  """first[i], first[i] + 1, ... of every i, `lengths[i]` of them."""
  offsets = np.cumsum(lengths) - lengths
  return np.arange(lengths.sum()) + np.repeat(first - offsets, lengths)
