"""MovieLens: the raw formats, their features, and missing files."""

import collections
import hashlib
import io
import zipfile

import numpy as np
import pytest
from pyarrow import parquet

from recjax.data.prepare import prepare
from recjax.data.sources import movielens
from recjax.data.sources.movielens import MovieLens1M, MovieLens100K
from recjax.errors import ConfigError, DataError

FLAGS = "|".join("01000100000000000000"[:19])
SMALL_100K = {
  "u.data": "2\t1\t5\t30\n1\t3\t3\t20\n2\t3\t1\t10\n",
  "u.item": (
    f"1|Amélie, a test (2001)|01-Jan-1995||http://x|{FLAGS}\n"
    f"2|Never rated (1990)|||http://x|{FLAGS}\n"
    f"3|unknown|||http://x|{'|'.join('1' + '0' * 18)}\n"
  ),
  "u.user": "1|24|M|technician|85711\n2|53|F|other|T8H1N\n",
}
SMALL_1M = {
  "ratings.dat": "2::7::5::30\n1::12::3::20\n2::12::1::10\n",
  "movies.dat": (
    "7::Léon: The Pro (1994)::Crime|Thriller\n"
    "9::Never rated (1990)::Drama\n"
    "12::No year::Drama\n"
  ),
  "users.dat": "1::F::1::10::48067\n2::M::56::0::02460-1234\n",
}


def _write(folder, contents, **changes):
  folder.mkdir(parents=True)
  for name, content in (contents | changes).items():
    (folder / name).write_bytes(content.encode("latin-1"))


def _raw_rows(data):
  users = data.users.column("raw_id").to_pylist()
  items = data.items.column("raw_id").to_pylist()
  return [
    (users[user - 1], items[item - 1])
    for user, item in zip(data.user_id.tolist(), data.item_id.tolist())
  ]


def test_small_100k(tmp_path):
  _write(tmp_path / "ml-100k", SMALL_100K)
  data = MovieLens100K().read(tmp_path)
  assert _raw_rows(data) == [("1", "3"), ("2", "3"), ("2", "1")]
  assert data.rating.tolist() == [3.0, 1.0, 5.0]
  assert data.timestamp.tolist() == [20, 10, 30]
  assert data.users.to_pylist()[1] == {
    "raw_id": "2",
    "age": 53,
    "gender": "F",
    "occupation": "other",
    "zip_code": "T8H1N",
  }
  assert data.items.to_pylist() == [
    {
      "raw_id": "1",
      "title": "Amélie, a test (2001)",
      "year": 2001,
      "release_date": "1995-01-01",
      "genres": ["Action", "Comedy"],
    },
    {
      "raw_id": "3",
      "title": "unknown",
      "year": None,
      "release_date": None,
      "genres": ["unknown"],
    },
  ]


def test_small_1m(tmp_path):
  _write(tmp_path / "ml-1m", SMALL_1M)
  data = MovieLens1M().read(tmp_path)
  assert _raw_rows(data) == [("1", "12"), ("2", "12"), ("2", "7")]
  assert data.rating.tolist() == [3.0, 1.0, 5.0]
  assert data.users.to_pylist() == [
    {
      "raw_id": "1",
      "age": "under 18",
      "gender": "F",
      "occupation": "K-12 student",
      "zip_code": "48067",
    },
    {
      "raw_id": "2",
      "age": "56 and over",
      "gender": "M",
      "occupation": "other or not specified",
      "zip_code": "02460-1234",
    },
  ]
  assert data.items.to_pylist() == [
    {
      "raw_id": "7",
      "title": "Léon: The Pro (1994)",
      "year": 1994,
      "genres": ["Crime", "Thriller"],
    },
    {"raw_id": "12", "title": "No year", "year": None, "genres": ["Drama"]},
  ]


def test_min_rating_and_k_core_keep_features_with_their_ids(tmp_path):
  _write(tmp_path / "ml-1m", SMALL_1M)
  data = MovieLens1M(min_rating=3).read(tmp_path)
  assert _raw_rows(data) == [("1", "12"), ("2", "7")]
  data = MovieLens1M(min_item_count=2).read(tmp_path)
  assert _raw_rows(data) == [("1", "12"), ("2", "12")]
  assert data.items.column("title").to_pylist() == ["No year"]


@pytest.mark.parametrize(
  "name, content, message",
  [
    (
      "ratings.dat",
      "1::7::5::3\n1::7::5\n",
      "line 2: expected 4 fields separated by '::'",
    ),
    ("ratings.dat", "1::7::5::3\n1::x::5::3\n", "line 2: 'x' .* no?t? an int"),
    ("ratings.dat", "1::7::5::3\n1::-7::5::3\n", "line 2: '-7' .* negative"),
    ("ratings.dat", "1::7::5::3\n1::7::4::3\n", "line 2: the same user"),
    ("ratings.dat", "1::99::5::3\n", "name movies 99"),
    ("ratings.dat", "5::7::5::3\n", "name users 5"),
    ("ratings.dat", "", "ratings.dat is empty"),
    ("movies.dat", "7::Title\n", "movies.dat, line 1: expected 3 fields"),
    ("users.dat", "1::F::3::10::4\n", "users.dat holds an unknown value"),
  ],
)
def test_broken_files(tmp_path, name, content, message):
  _write(tmp_path / "ml-1m", SMALL_1M, **{name: content})
  with pytest.raises(DataError, match=message):
    MovieLens1M().read(tmp_path)


def test_missing_files_are_named_with_where_and_how(tmp_path):
  with pytest.raises(DataError) as error:
    MovieLens100K().files(tmp_path)
  message = str(error.value)
  assert "u.data, u.item, u.user" in message
  assert str(tmp_path / "ml-100k") in message
  assert "download=True" in message and "ml-100k.zip" in message


def test_bad_options():
  with pytest.raises(ConfigError, match=r"min_rating must lie in \[1, 5\]"):
    MovieLens1M(min_rating=6)
  with pytest.raises(ConfigError, match="needs a folder"):
    MovieLens100K(folder="")
  with pytest.raises(ConfigError, match="min_item_count"):
    MovieLens1M(min_item_count=-1)


def test_download(tmp_path, monkeypatch):
  content = io.BytesIO()
  with zipfile.ZipFile(content, "w") as archive:
    for name, text in SMALL_1M.items():
      archive.writestr(f"ml-1m/{name}", text.encode("latin-1"))
  (tmp_path / "ml-1m.zip").write_bytes(content.getvalue())
  digest = hashlib.sha256(content.getvalue()).hexdigest()
  monkeypatch.setattr(movielens, "_SITE", tmp_path.as_uri())
  monkeypatch.setitem(movielens._SHA256, "ml-1m", digest)
  source = MovieLens1M(download=True)
  data = prepare(source, tmp_path / "data", tmp_path / "cache")
  assert len(data) == 3 and data.users.num_rows == 2
  # What is there is not fetched again, and has one entry in the cache.
  (tmp_path / "ml-1m.zip").unlink()
  prepare(source, tmp_path / "data", tmp_path / "cache")
  prepare(MovieLens1M(), tmp_path / "data", tmp_path / "cache")
  entries = [
    path
    for path in (tmp_path / "cache" / "prepared").iterdir()
    if path.suffix != ".lock"
  ]
  assert len(entries) == 1


def test_real_100k(data_dir):
  data = MovieLens100K().read(data_dir)
  # u.info: 943 users, 1682 items, 100000 ratings.
  counts = (data.num_users, data.num_items, len(data))
  assert counts == (943, 1682, 100_000)
  rows = np.loadtxt(data_dir / "ml-100k/u.data", np.int64)
  order = np.lexsort((rows[:, 3], rows[:, 0]))
  # All ids from 1 to the largest are there, so they stay as they are.
  for column, name in enumerate(("user_id", "item_id", "rating", "timestamp")):
    assert np.array_equal(data.column(name), rows[order, column]), name
  genres = collections.Counter(sum(data.items.column("genres").to_pylist(), []))
  lines = (data_dir / "ml-100k/u.item").read_text("latin-1").splitlines()
  flags = np.array([line.split("|")[5:] for line in lines], int)
  names = (data_dir / "ml-100k/u.genre").read_text().split()
  expected = {
    name.split("|")[0]: int(count) for name, count in zip(names, flags.sum(0))
  }
  assert genres == expected


def test_1m_without_ratings_says_so(data_dir):
  with pytest.raises(DataError, match="ml-1m: ratings.dat not found in"):
    MovieLens1M().read(data_dir)


def test_1m_with_real_movies_and_users(data_dir, tmp_path):
  """The real pairs and features; ratings and times are made up."""
  pairs = parquet.read_table(
    data_dir / "ml-1m/pairs_in_ratings_dat_order.parquet"
  )
  users = pairs.column("userID").to_pylist()[:50_000]
  movies = pairs.column("movieID").to_pylist()[:50_000]
  lines = [
    f"{user}::{movie}::{row % 5 + 1}::{978300760 + row}\n"
    for row, (user, movie) in enumerate(zip(users, movies))
  ]
  folder = tmp_path / "ml-1m"
  folder.mkdir()
  (folder / "ratings.dat").write_text("".join(lines))
  for name in ("movies.dat", "users.dat"):
    (folder / name).write_bytes((data_dir / "ml-1m" / name).read_bytes())
  data = MovieLens1M().read(tmp_path)
  assert len(data) == 50_000
  assert data.num_users == len(set(users))
  assert data.num_items == len(set(movies))
  assert set(_raw_rows(data)) == set(zip(users, movies))
  row = data.items.to_pylist()[0]
  assert row["raw_id"] == "1" and row["title"] == "Toy Story (1995)"
  assert row["genres"] == ["Animation", "Children's", "Comedy"]
