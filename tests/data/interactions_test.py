"""Interactions: order, checks, files and what breaks them."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.interactions import Interactions
from recjax.errors import DataError

COLUMNS = {
  "user_id": np.array([2, 1, 2, 1, 2, 4]),
  "item_id": np.array([5, 3, 1, 3, 2, 1]),
  "timestamp": np.array([9, 4, 7, 4, 7, 1]),
  "rating": np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.5]),
}


@pytest.fixture
def toy():
  return Interactions.from_columns("toy", COLUMNS)


def test_rows_are_sorted_by_user_time_and_position(toy):
  # Rows 1 and 3, and rows 2 and 4, have the same user and time.
  assert toy.user_id.tolist() == [1, 1, 2, 2, 2, 4]
  assert toy.item_id.tolist() == [3, 3, 1, 2, 5, 1]
  assert toy.timestamp.tolist() == [4, 4, 7, 7, 9, 1]
  assert toy.rating.tolist() == [4.0, 2.0, 3.0, 1.0, 5.0, 0.5]


def test_without_times_rows_keep_their_order_inside_a_user():
  columns = {key: COLUMNS[key] for key in ("user_id", "item_id")}
  data = Interactions.from_columns("toy", columns)
  assert data.item_id.tolist() == [3, 3, 5, 1, 2, 1]
  assert data.timestamp is None and data.rating is None
  assert not data.has("rating")


def test_sort_against_python_on_random_rows():
  random = np.random.default_rng(1)
  columns = {
    "user_id": random.integers(1, 20, 3000),
    "item_id": random.integers(1, 50, 3000),
    "timestamp": random.integers(0, 30, 3000),
  }
  rows = zip(*(values.tolist() for values in columns.values()))
  expected = sorted(rows, key=lambda row: (row[0], row[2]))  # It is stable.
  data = Interactions.from_columns("random", columns)
  got = zip(*(data.column(name).tolist() for name in columns))
  assert list(got) == expected


def test_types_counts_and_offsets(toy):
  kinds = {name: toy.column(name).dtype for name in toy.table.column_names}
  assert kinds == {
    "user_id": np.int32,
    "item_id": np.int32,
    "timestamp": np.int64,
    "rating": np.float32,
  }
  assert (len(toy), toy.num_users, toy.num_items) == (6, 4, 5)
  assert toy.user_offsets.tolist() == [0, 0, 2, 5, 5, 6]
  assert toy.user_offsets.dtype == np.int64
  for user in range(1, 5):
    rows = slice(toy.user_offsets[user], toy.user_offsets[user + 1])
    assert (toy.user_id[rows] == user).all()


def test_nothing_can_be_changed(toy):
  for values in (toy.user_id, toy.rating, toy.user_offsets):
    with pytest.raises(ValueError, match="read-only"):
      values[0] = 1
  with pytest.raises(dataclasses.FrozenInstanceError):
    toy.name = "other"


def test_numbers_are_not_copied(toy):
  first, second = toy.column("item_id"), toy.column("item_id")
  assert np.shares_memory(first, second)


def test_context_columns():
  context = {
    "hour": np.array([1, 2, 3, 4, 5, 6], np.int16),
    "country": np.array(["de", "fr", "de", "", "it", "us"]),
    "clicked": np.array([True, False, True, True, False, True]),
  }
  data = Interactions.from_columns("toy", {**COLUMNS, **context})
  assert data.column("hour").tolist() == [2, 4, 3, 5, 1, 6]
  assert data.column("country").tolist() == ["fr", "", "de", "it", "de", "us"]
  assert data.column("clicked").tolist() == [0, 1, 1, 0, 1, 1]


def test_an_unknown_column_names_the_nearest(toy):
  with pytest.raises(DataError, match="toy has no column 'ratings'.*'rating'"):
    toy.column("ratings")


@pytest.mark.parametrize(
  "change, message",
  [
    ({"user_id": None}, "column 'user_id' is needed"),
    ({"item_id": np.array([1, 2])}, r"'item_id' has shape \(2,\)"),
    (
      {"rating": np.array([1, 2, np.nan, 1, 1, 1])},
      "'rating' holds NaN at row 2",
    ),
    ({"item_id": np.array([5, 3, 0, 3, 2, 1])}, "holds 0 at row 2"),
    ({"user_id": np.array([5, 3, 1, 3, -7, 1])}, "holds -7 at row 4"),
    ({"item_id": np.array([1, 1, 1, 1, 1, 2**31])}, "2147483648 at row 5"),
    ({"item_id": np.ones(6)}, "'item_id' must hold integers; got float64"),
    ({"rating": np.array(list("abcdef"))}, "'rating' must hold numbers"),
    ({"timestamp": np.ones(6)}, "'timestamp' must hold integers"),
  ],
)
def test_bad_columns(change, message):
  columns = {**COLUMNS, **change}
  columns = {key: value for key, value in columns.items() if value is not None}
  with pytest.raises(DataError, match=message):
    Interactions.from_columns("toy", columns)


def test_no_rows():
  empty = {key: np.zeros(0, int) for key in ("user_id", "item_id")}
  with pytest.raises(DataError, match="not one interaction"):
    Interactions.from_columns("toy", empty)


def test_ids_above_the_count():
  with pytest.raises(DataError, match=r"id 5, but ids must lie in \[1, 4\]"):
    Interactions.from_columns("toy", COLUMNS, num_items=4)
  assert Interactions.from_columns("t", COLUMNS, num_items=9).num_items == 9


@pytest.mark.parametrize(
  "table, message",
  [
    (pa.table({"raw_id": ["a"]}), "users table has 1 rows, but there are 4"),
    (pa.table({"id": list("abcd")}), "users table needs a column 'raw_id'"),
    (pa.table({"raw_id": [1, 2, 3, 4]}), "'raw_id' must hold text"),
  ],
)
def test_bad_feature_tables(table, message):
  with pytest.raises(DataError, match=message):
    Interactions.from_columns("toy", COLUMNS, users=table)


def test_the_fingerprint_sees_values_counts_and_features_but_no_name(toy):
  users = pa.table({"raw_id": list("abcd"), "age": [1, 2, 3, 4]})
  older = pa.table({"raw_id": list("abcd"), "age": [1, 2, 3, 5]})
  make = Interactions.from_columns
  other_rating = {**COLUMNS, "rating": COLUMNS["rating"] + 1}
  digests = {
    toy.fingerprint,
    make("toy", other_rating).fingerprint,
    make("toy", COLUMNS, num_users=5).fingerprint,
    make("toy", COLUMNS, users=users).fingerprint,
    make("toy", COLUMNS, users=older).fingerprint,
  }
  assert len(digests) == 5
  assert make("other name", COLUMNS).fingerprint == toy.fingerprint
  # Rows of different users may come in any order.
  turned = {key: value[[5, 0, 1, 2, 3, 4]] for key, value in COLUMNS.items()}
  assert make("toy", turned).fingerprint == toy.fingerprint


def test_save_and_load(toy, tmp_path):
  users = pa.table(
    {"raw_id": list("abcd"), "tags": [["x"], [], None, ["y", "z"]]}
  )
  saved = Interactions.from_columns("toy", COLUMNS, users=users, num_items=7)
  saved.save(tmp_path / "toy")
  loaded = Interactions.load(tmp_path / "toy")
  assert loaded.table.equals(saved.table)
  assert loaded.users.equals(users) and loaded.items is None
  assert (loaded.name, loaded.num_users, loaded.num_items) == ("toy", 4, 7)
  assert loaded.fingerprint == saved.fingerprint
  # The fingerprint of what was read is the one that was written.
  again = Interactions.from_sorted_table(
    "x", loaded.table, num_users=4, num_items=7, users=loaded.users
  )
  assert again.fingerprint == saved.fingerprint


def test_loaded_columns_lie_in_the_mapped_file(toy, tmp_path):
  toy.save(tmp_path / "toy")
  before = pa.total_allocated_bytes()
  loaded = Interactions.load(tmp_path / "toy")
  column = loaded.item_id
  assert pa.total_allocated_bytes() == before
  assert not column.flags.owndata and not column.flags.writeable
  assert column.tolist() == [3, 3, 1, 2, 5, 1]


def test_saving_again_replaces_and_leaves_old_maps_valid(toy, tmp_path):
  toy.save(tmp_path / "toy")
  first = Interactions.load(tmp_path / "toy")
  columns = {**COLUMNS, "rating": COLUMNS["rating"] * 0}
  Interactions.from_columns("new", columns).save(tmp_path / "toy")
  assert first.rating.tolist() == [4.0, 2.0, 3.0, 1.0, 5.0, 0.5]
  assert Interactions.load(tmp_path / "toy").rating.tolist() == [0.0] * 6
  assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_an_interrupted_save_leaves_the_old_data(toy, tmp_path, monkeypatch):
  toy.save(tmp_path / "toy")

  def full(path):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("recjax.files.sha256_of_file", full)
  with pytest.raises(OSError, match="No space"):
    Interactions.from_columns("new", COLUMNS).save(tmp_path / "toy")
  monkeypatch.undo()
  assert Interactions.load(tmp_path / "toy").name == "toy"
  assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def _truncate(folder):
  path = folder / "interactions.arrow"
  path.write_bytes(path.read_bytes()[:-100])


def _flip(folder):
  path = folder / "interactions.arrow"
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))


def _edit_manifest(change):
  def edit(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))

  return edit


@pytest.mark.parametrize(
  "damage, message",
  [
    (_truncate, r"interactions\.arrow has \d+ bytes where .* truncated"),
    (_flip, r"interactions\.arrow does not have the checksum"),
    (
      lambda folder: (folder / "users.arrow").unlink(),
      r"users\.arrow is missing",
    ),
    (
      lambda folder: (folder / "manifest.json").unlink(),
      r"manifest\.json is missing",
    ),
    (
      lambda folder: (folder / "manifest.json").write_text('{"format": 1,'),
      r"manifest\.json is corrupt",
    ),
    (_edit_manifest(lambda m: m.pop("num_items")), "corrupt: it lacks"),
    (_edit_manifest(lambda m: m.update(format=99)), "has format 99"),
    (
      _edit_manifest(lambda m: m["files"].pop("interactions.arrow")),
      "lists no interactions.arrow",
    ),
  ],
)
def test_a_damaged_file_is_named(tmp_path, damage, message):
  users = pa.table({"raw_id": list("abcd")})
  data = Interactions.from_columns("toy", COLUMNS, users=users)
  data.save(tmp_path / "toy")
  damage(tmp_path / "toy")
  with pytest.raises(DataError, match=message):
    Interactions.load(tmp_path / "toy")
