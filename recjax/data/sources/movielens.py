"""MovieLens 100K and 1M, from the raw folders that GroupLens hands out.

F. Maxwell Harper and Joseph A. Konstan: The MovieLens Datasets: History and
Context. ACM Transactions on Interactive Intelligent Systems 5 (4), 2015,
https://doi.org/10.1145/2827872. The terms of GroupLens forbid passing the
data on; a researcher fetches it with `download=True` or by hand.
"""

import dataclasses
import datetime
import pathlib
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.interactions import Interactions
from recjax.data.k_core import k_core
from recjax.data.sources.columns import ColumnSpec, make_interactions
from recjax.data.sources.delimited import (
  line_of_row,
  read_delimited,
  read_fields,
)
from recjax.data.sources.download import fetch_zip
from recjax.errors import ConfigError, DataError, check_range

# SHA-256 of the archives: as in the checksums of tensorflow-datasets.
_SITE = "https://files.grouplens.org/datasets/movielens"
_SHA256 = {
  "ml-100k": "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
  "ml-1m": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
}
_SPEC = ColumnSpec("user", "item", timestamp="timestamp", rating="rating")
_GENRES_100K = (
  "unknown Action Adventure Animation Children's Comedy Crime Documentary"
  " Drama Fantasy Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War"
  " Western"
).split()
_MONTHS: tuple[str, ...] = tuple(
  "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
)
_AGES_1M = {
  "1": "under 18",
  "18": "18-24",
  "25": "25-34",
  "35": "35-44",
  "45": "45-49",
  "50": "50-55",
  "56": "56 and over",
}
_OCCUPATIONS_1M = (
  "other or not specified|academic/educator|artist|clerical/admin|"
  "college/grad student|customer service|doctor/health care|"
  "executive/managerial|farmer|homemaker|K-12 student|lawyer|programmer|"
  "retired|sales/marketing|scientist|self-employed|technician/engineer|"
  "tradesman/craftsman|unemployed|writer"
).split("|")


@dataclasses.dataclass(frozen=True)
class MovieLens100K:
  """MovieLens 100K: 943 users, 1,682 movies, 100,000 ratings with times.

  `users` has raw_id, age, gender, occupation, zip_code; `items` has raw_id,
  title, year, release_date (ISO, may be missing) and genres.

  Attributes:
    folder: holds u.data, u.item and u.user; within the data folder or
      absolute.
    name: how reports call it.
    download: whether a missing folder is fetched from GroupLens.
    min_rating: rows rated lower are dropped.
    min_user_count: users with fewer rows are dropped (see `k_core`).
    min_item_count: items with fewer rows are dropped.
  """

  folder: str = "ml-100k"
  name: str = "ml-100k"
  download: bool = dataclasses.field(
    default=False, metadata={"changes_data": False}
  )
  min_rating: int | float | None = None
  min_user_count: int = 0
  min_item_count: int = 0

  def __post_init__(self):
    _check_options(self)

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """u.data, u.item and u.user, fetched if missing and `download`.

    Raises:
      DataError: a file is missing, or can not be fetched.
    """
    return _find_files(
      self, data_dir, "ml-100k", ("u.data", "u.item", "u.user")
    )

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """Reads the raw files.

    Raises:
      DataError: a file is missing or a line is broken; its number is given.
    """
    ratings, movies, people = self.files(data_dir)
    names = ("user", "item", "rating", "timestamp")
    interactions = _read_ratings(self, ratings, "\t", names)
    users = _table(people, "|", 5, _users_100k)
    items = _table(movies, "|", 24, _items_100k)
    return _with_features(self, interactions, users, items)


@dataclasses.dataclass(frozen=True)
class MovieLens1M:
  """MovieLens 1M: 6,040 users, 3,706 rated movies, 1,000,209 ratings.

  `users` has raw_id, age, gender, occupation, zip_code; `items` has raw_id,
  title, year and genres. Movies without a rating get no id.

  Attributes:
    folder: holds ratings.dat, movies.dat and users.dat; within the data
      folder or absolute.
    name: how reports call it.
    download: whether a missing folder is fetched from GroupLens.
    min_rating: rows rated lower are dropped.
    min_user_count: users with fewer rows are dropped (see `k_core`).
    min_item_count: items with fewer rows are dropped.
  """

  folder: str = "ml-1m"
  name: str = "ml-1m"
  download: bool = dataclasses.field(
    default=False, metadata={"changes_data": False}
  )
  min_rating: int | float | None = None
  min_user_count: int = 0
  min_item_count: int = 0

  def __post_init__(self):
    _check_options(self)

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """ratings.dat, movies.dat and users.dat, fetched if `download`.

    Raises:
      DataError: a file is missing, or can not be fetched.
    """
    names = ("ratings.dat", "movies.dat", "users.dat")
    return _find_files(self, data_dir, "ml-1m", names)

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """Reads the raw files.

    Raises:
      DataError: a file is missing or a line is broken; its number is given.
    """
    ratings, movies, people = self.files(data_dir)
    # The separator "::" leaves an empty column between two single colons.
    names = ("user", "", "item", " ", "rating", "  ", "timestamp")
    interactions = _read_ratings(self, ratings, ":", names)
    users = _table(people, "::", 5, _users_1m)
    items = _table(movies, "::", 3, _items_1m)
    return _with_features(self, interactions, users, items)


def _check_options(source: MovieLens100K | MovieLens1M) -> None:
  if not source.folder or not source.name:
    raise ConfigError("a MovieLens source needs a folder and a name; got ''.")
  if source.min_rating is not None:
    check_range("min_rating", source.min_rating, 1, 5)
  check_range("min_user_count", source.min_user_count, 0, integer=True)
  check_range("min_item_count", source.min_item_count, 0, integer=True)


def _find_files(
  source: MovieLens100K | MovieLens1M,
  data_dir: pathlib.Path,
  archive: str,
  names: tuple[str, ...],
) -> tuple[pathlib.Path, ...]:
  folder = pathlib.Path(data_dir) / source.folder
  url = f"{_SITE}/{archive}.zip"
  if not folder.exists() and source.download:
    fetch_zip(url, _SHA256[archive], archive, folder)
  found = tuple(folder / name for name in names)
  missing = [path.name for path in found if not path.is_file()]
  if missing:
    raise DataError(
      f"{source.name}: {', '.join(missing)} not found in {folder.absolute()}."
      " Set --data_dir or RECJAX_DATA_DIR to the folder that holds"
      f" {source.folder!r}; or unpack {url} there; or, where the folder does"
      " not exist yet, set download=True to have it fetched."
    )
  return found


def _read_ratings(
  source: MovieLens100K | MovieLens1M,
  path: pathlib.Path,
  delimiter: str,
  names: tuple[str, ...],
) -> Interactions:
  try:
    table = read_delimited(
      path,
      delimiter=delimiter,
      columns={
        "user": pa.int64(),
        "item": pa.int64(),
        "rating": pa.float64(),
        "timestamp": pa.int64(),
      },
      names=names,
      encoding="latin-1",
      quotes=False,
    )
  except DataError:
    if delimiter == ":":
      # Says it in terms of "::" where a line has too few or too many fields.
      read_fields(path, "::", 4, "latin-1")
    raise

  def where(row: int) -> str:
    line = line_of_row(
      path, row, delimiter=delimiter, header=False, quotes=False
    )
    return f"{path}, line {line}"

  spec = dataclasses.replace(_SPEC, min_rating=source.min_rating)
  return make_interactions(source.name, table, spec, where)


def _with_features(
  source: MovieLens100K | MovieLens1M,
  interactions: Interactions,
  users: pa.Table,
  items: pa.Table,
) -> Interactions:
  whole = Interactions.from_sorted_table(
    interactions.name,
    interactions.table,
    num_users=interactions.num_users,
    num_items=interactions.num_items,
    users=_rows_of(interactions.users, users, "users"),
    items=_rows_of(interactions.items, items, "movies"),
  )
  return k_core(whole, source.min_user_count, source.min_item_count)


def _rows_of(known: pa.Table | None, features: pa.Table, what: str) -> pa.Table:
  """The rows of `features` in the order of the raw ids of `known`."""
  assert known is not None
  raw = known.column("raw_id")
  rows = pc.call_function(
    "index_in", [raw], pc.SetLookupOptions(features.column("raw_id"))
  )
  if rows.null_count:
    place = int(np.flatnonzero(np.asarray(rows.is_null()))[0])
    raise DataError(
      f"the ratings name {what} {raw[place]} and {rows.null_count - 1} more"
      f" that the file of {what} does not have."
    )
  return features.take(rows)


def _table(
  path: pathlib.Path,
  separator: str,
  num_fields: int,
  make: Callable[[list[list[str]]], pa.Table],
) -> pa.Table:
  fields = read_fields(path, separator, num_fields, "latin-1")
  try:
    return make(fields)
  except (ValueError, LookupError) as error:
    raise DataError(f"{path} holds an unknown value: {error}.") from error


def _users_100k(fields: list[list[str]]) -> pa.Table:
  raw, age, gender, occupation, zip_code = zip(*fields)
  return pa.table(
    {
      "raw_id": raw,
      "age": pa.array([int(years) for years in age], pa.int32()),
      "gender": gender,
      "occupation": occupation,
      "zip_code": zip_code,
    }
  )


def _items_100k(fields: list[list[str]]) -> pa.Table:
  genres = [
    [genre for genre, flag in zip(_GENRES_100K, row[5:]) if flag == "1"]
    for row in fields
  ]
  return pa.table(
    {
      "raw_id": [row[0] for row in fields],
      "title": [row[1] for row in fields],
      "year": _years([row[1] for row in fields]),
      "release_date": pa.array([_iso(row[2]) for row in fields], pa.string()),
      "genres": pa.array(genres, pa.list_(pa.string())),
    }
  )


def _users_1m(fields: list[list[str]]) -> pa.Table:
  raw, gender, age, occupation, zip_code = zip(*fields)
  return pa.table(
    {
      "raw_id": raw,
      "age": [_AGES_1M[code] for code in age],
      "gender": gender,
      "occupation": [_OCCUPATIONS_1M[int(code)] for code in occupation],
      "zip_code": zip_code,
    }
  )


def _items_1m(fields: list[list[str]]) -> pa.Table:
  raw, title, genres = zip(*fields)
  return pa.table(
    {
      "raw_id": raw,
      "title": title,
      "year": _years(title),
      "genres": pa.array([text.split("|") for text in genres]),
    }
  )


def _years(titles: tuple[str, ...] | list[str]) -> pa.Array:
  """The year at the end of "Toy Story (1995)"; null where there is none."""
  found = [re.search(r"\((\d{4})\)\s*$", title) for title in titles]
  return pa.array(
    [int(match[1]) if match else None for match in found], pa.int32()
  )


def _iso(date: str) -> str | None:
  """Turns "01-Jan-1995" into "1995-01-01" and "" into None."""
  if not date:
    return None
  day, month, year = date.split("-")
  number = _MONTHS.index(month) + 1
  return datetime.date(int(year), number, int(day)).isoformat()
