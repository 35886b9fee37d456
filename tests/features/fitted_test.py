"""Fitted features as a whole: streams, names, files, and bad input."""

import dataclasses
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from recjax.errors import ConfigError, DataError
from recjax.features import fitted as lib
from recjax.features import specs as s
from recjax.features.encodings import GivenIds, Hashed, SharedWith, Vocabulary
from recjax.features.fitted import FittedFeatures, fit_features

SPECS = (
  s.Categorical("user", "uid", GivenIds(50)),
  s.Numeric("age", transform="z_score", fill="mean"),
  s.Categorical("item"),
  s.Sequence("history", max_len=3, encoding=SharedWith("item")),
  s.MultiHot("tags", max_len=2, encoding=Hashed(20), separator="|"),
  s.Bucketized("age_group", "age", num_quantiles=4),
  s.Cross("user_item", ("uid", "item"), num_buckets=500),
  s.Cross("item_age", (), ("item", "age_group"), num_buckets=100),
  s.Vector("image", dim=2),
  s.ListWeights("history_weight", "history", "when"),
)
NAMES = tuple(spec.name for spec in SPECS)


def rows(num, seed=0):
  random = np.random.default_rng(seed)
  items = np.array([f"i{n}" for n in range(30)])
  lengths = random.integers(0, 6, num)
  return pa.table(
    {
      "uid": random.integers(1, 50, num),
      "age": pa.array(
        random.normal(40, 10, num), mask=random.random(num) < 0.2
      ),
      "item": items[random.zipf(1.5, num) % 30],
      "history": [
        items[random.integers(0, 30, length)].tolist() for length in lengths
      ],
      "when": [[0.5] * length for length in lengths],
      "tags": ["x|y", "y", None, "z"] * (num // 4),
      "image": [[1.0, 2.0]] * num,
      "not_used": ["?"] * num,
    }
  )


TABLE = rows(400)


@pytest.fixture(scope="module")
def fitted():
  return fit_features(SPECS, TABLE)


def test_names_shapes_and_types(fitted):
  assert fitted.names == NAMES
  assert fitted.dense == ("age", "image")
  floats = ("age", "image", "history_weight")
  assert fitted.categorical == tuple(n for n in NAMES if n not in floats)
  assert fitted.list_weights == {"history": "history_weight"}
  assert fitted.columns == (
    *("uid", "age", "item", "history", "tags", "image", "when"),
  )
  arrays = fitted.encode(TABLE)
  assert tuple(arrays) == NAMES
  shapes = {"history": (3,), "tags": (2,), "image": (2,)}
  shapes["history_weight"] = (3,)
  for name, values in arrays.items():
    kind = np.float32 if name in floats else np.int32
    assert values.dtype == kind
    assert values.shape == (400, *shapes.get(name, ()))
    assert fitted.shape(name) == shapes.get(name, ())


def test_every_id_lies_below_num_ids(fitted):
  arrays = fitted.encode(rows(400, seed=1))
  for name in fitted.categorical:
    assert 0 <= arrays[name].min() <= arrays[name].max() < fitted.num_ids(name)
  assert fitted.num_ids("user") == 50 and fitted.num_ids("tags") == 21
  assert fitted.num_ids("history") == fitted.num_ids("item")
  assert fitted.num_ids("age_group") == 5


def test_ids_of_one_row_by_hand(fitted):
  arrays = fitted.encode(TABLE)
  item = fitted.raw_values("item")
  for row in range(20):
    raw = TABLE.slice(row, 1).to_pylist()[0]
    assert arrays["user"][row] == raw["uid"]
    assert item[arrays["item"][row]] == raw["item"]
    history = [item[i] for i in arrays["history"][row] if i]
    assert history == [v if v in item else None for v in raw["history"][-3:]]


def test_weights_follow_their_values(fitted):
  arrays = fitted.encode(TABLE)
  expected = np.where(arrays["history"] != 0, 0.5, 0)
  np.testing.assert_array_equal(arrays["history_weight"], expected)
  with pytest.raises(DataError, match="is a ListWeights and has no ids"):
    fitted.num_ids("history_weight")


def test_numbers_against_numpy(fitted):
  ages = TABLE.column("age").to_numpy()
  mean, std = np.nanmean(ages), np.nanstd(ages)
  expected = (np.where(np.isnan(ages), mean, ages) - mean) / std
  found = fitted.encode(TABLE)["age"]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_blocks_give_what_the_table_gives(fitted, monkeypatch):
  blocks = [TABLE.slice(start, 37) for start in range(0, 400, 37)]
  streamed = fit_features(SPECS, blocks)
  assert streamed.num_rows == 400
  for name in fitted.categorical:
    assert streamed.num_ids(name) == fitted.num_ids(name)
    assert streamed.collision_rate(name) == fitted.collision_rate(name)
  monkeypatch.setattr(lib, "_BLOCK_ROWS", 64)
  whole, parts = fitted.encode(TABLE), streamed.encode(TABLE)
  for name in NAMES:
    # The mean of means is another one in its last digits.
    np.testing.assert_allclose(whole[name], parts[name], rtol=1e-6, atol=1e-6)


def test_the_number_of_chunks_has_no_effect(fitted):
  chunked = pa.concat_tables([TABLE.slice(0, 100), TABLE.slice(100)])
  assert chunked.column("uid").num_chunks == 2
  expected, found = fitted.encode(TABLE), fitted.encode(chunked)
  for name in NAMES:
    np.testing.assert_array_equal(expected[name], found[name])


def test_collision_rates(fitted):
  arrays = fitted.encode(TABLE)
  pairs = zip(TABLE["uid"].to_pylist(), TABLE["item"].to_pylist())
  ids = dict(zip(pairs, arrays["user_item"].tolist()))
  counts = np.bincount(list(ids.values()))
  expected = counts[counts > 1].sum() / len(ids)
  assert fitted.collision_rate("user_item") == expected > 0.1
  assert fitted.collision_rate("item") == 0
  assert 0 < fitted.collision_rate("item_age") < 1
  # A stream that can be read once alone leaves no second pass.
  once = fit_features(SPECS, iter([TABLE]))
  assert np.isnan(once.collision_rate("item_age"))
  assert once.collision_rate("user_item") == expected


def test_no_rows_to_encode(fitted):
  arrays = fitted.encode(TABLE.slice(0, 0))
  assert arrays["history"].shape == (0, 3)
  with pytest.raises(DataError, match="reads the column 'age'"):
    fitted.encode(TABLE.slice(0, 0).drop(["age"]))


# -- Files ---------------------------------------------------------------------


def test_saved_and_loaded(fitted, tmp_path):
  fitted.save(tmp_path / "features.npz")
  loaded = FittedFeatures.load(tmp_path / "features.npz")
  assert loaded.specs == fitted.specs and loaded.num_rows == 400
  assert loaded.fingerprint == fitted.fingerprint
  other = rows(100, seed=3)
  expected, found = fitted.encode(other), loaded.encode(other)
  for name in NAMES:
    np.testing.assert_array_equal(expected[name], found[name])
  assert loaded.raw_values("item") == fitted.raw_values("item")


def test_the_fingerprint_sees_specs_and_values(fitted):
  changed = [dataclasses.replace(SPECS[1], transform="min_max")]
  prints = {
    fitted.fingerprint,
    fit_features(SPECS, rows(400, seed=5)).fingerprint,
    fit_features([SPECS[0], *changed, *SPECS[2:]], TABLE).fingerprint,
  }
  assert len(prints) == 3


def test_a_broken_write_leaves_the_old_file(fitted, tmp_path, monkeypatch):
  path = tmp_path / "features.npz"
  fitted.save(path)
  before = path.read_bytes()

  def full(file, **arrays):
    file.write(b"half of it")
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(np, "savez", full)
  with pytest.raises(OSError, match="No space"):
    fitted.save(path)
  assert path.read_bytes() == before
  assert [entry.name for entry in tmp_path.iterdir()] == ["features.npz"]


@pytest.mark.parametrize(
  ("content", "message"),
  [(None, "there are no fitted features at"), (b"PK broken", "or broken ones")],
)
def test_broken_files(tmp_path, content, message):
  path = tmp_path / "features.npz"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(DataError, match=message):
    FittedFeatures.load(path)


def test_another_version(fitted, tmp_path, monkeypatch):
  monkeypatch.setattr(lib, "_FORMAT", 99)
  fitted.save(tmp_path / "f")
  monkeypatch.undo()
  with pytest.raises(DataError, match="has format 99; this version .* reads"):
    FittedFeatures.load(tmp_path / "f")


# -- Bad input -----------------------------------------------------------------


def test_errors_name_feature_row_column_and_value(fitted):
  late = TABLE.set_column(0, "uid", [[*[1] * 399, 50]])
  message = r"feature 'user': row 399 of column 'uid' holds 50, and ids must"
  with pytest.raises(DataError, match=message):
    fitted.encode(late)
  strict = fit_features(
    [s.Categorical("item", "", Vocabulary(oov="error"))], TABLE
  )
  unseen = TABLE.set_column(2, "item", [["i1"] * 399 + ["i99"]])
  with pytest.raises(DataError, match="row 399 of column 'item' holds 'i99'"):
    strict.encode(unseen)


def test_rows_are_counted_over_blocks(monkeypatch):
  monkeypatch.setattr(lib, "_BLOCK_ROWS", 64)
  bad = pa.table({"n": [1.0] * 200 + [np.inf]})
  with pytest.raises(DataError, match="row 200 of column 'n' holds inf"):
    fit_features([s.Numeric("n")], bad)
  fit = fit_features([s.Numeric("n")], bad.slice(0, 200))
  with pytest.raises(DataError, match="row 200 of column 'n' holds inf"):
    fit.encode(bad)


def test_unknown_names(fitted):
  with pytest.raises(DataError, match="no feature 'itm'.*Did you mean 'item'"):
    fitted.num_ids("itm")
  with pytest.raises(DataError, match="'age' is a Numeric and has no ids"):
    fitted.num_ids("age")
  with pytest.raises(DataError, match="'user' has no vocabulary"):
    fitted.raw_values("user")


def test_nothing_to_fit():
  with pytest.raises(ConfigError, match="at least one feature"):
    fit_features([], TABLE)
  with pytest.raises(DataError, match="there is no training row"):
    fit_features(SPECS[:1], TABLE.slice(0, 0))
  with pytest.raises(DataError, match="there is no training row"):
    fit_features(SPECS[:1], [])


def test_memory_does_not_grow_with_the_rows():
  block = pa.table({"n": np.random.default_rng(0).normal(size=20_000)})
  specs = [s.Numeric("n", transform="quantile"), s.Bucketized("b", "n", (0.0,))]
  peaks = []
  for num_blocks in (30, 120):
    tracemalloc.start()
    fit_features(specs, (block for _ in range(num_blocks)))
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < 1.2 * peaks[0]
