"""Exported vectors, read back with the libraries that others will use."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from recjax import files
from recjax.errors import DataError
from recjax.runs import embedding_export
from recjax.runs.embedding_export import VectorTable, export_vectors


@pytest.fixture
def items():
  rng = np.random.default_rng(0)
  return VectorTable(
    "items",
    "item_id",
    np.array([1, 2, 3]),
    rng.normal(size=(3, 4)).astype(np.float32),
    {
      "raw_id": np.array(["a", "ü", ""], object),
      "train_count": np.array([5, 0, 7]),
    },
  )


@pytest.fixture
def users():
  rng = np.random.default_rng(1)
  vectors = rng.normal(size=(2, 3, 4)).astype(np.float32)
  return VectorTable("users", "user_id", np.array([4, 9]), vectors, {})


def test_parquet(items, users, tmp_path):
  export_vectors(tmp_path / "out", (items, users), {})
  table = parquet.read_table(tmp_path / "out" / "items.parquet")
  assert table.column_names == ["item_id", "raw_id", "train_count", "vector"]
  assert table.schema.field("item_id").type == pa.int32()
  assert table.schema.field("vector").type == pa.list_(pa.float32(), 4)
  assert table.column("raw_id").to_pylist() == ["a", "ü", ""]
  assert table.column("train_count").to_pylist() == [5, 0, 7]
  found = np.array(table.column("vector").to_pylist(), np.float32)
  np.testing.assert_array_equal(found, items.vectors)
  # Several interests are a list of lists.
  table = parquet.read_table(tmp_path / "out" / "users.parquet")
  inner = pa.list_(pa.float32(), 4)
  assert table.schema.field("vector").type == pa.list_(inner, 3)
  found = np.array(table.column("vector").to_pylist(), np.float32)
  np.testing.assert_array_equal(found, users.vectors)
  assert table.column("user_id").to_pylist() == [4, 9]


def test_npz_holds_no_pickles(items, users, tmp_path):
  export_vectors(tmp_path, (items, users), {})
  with np.load(tmp_path / "items.npz", allow_pickle=False) as arrays:
    np.testing.assert_array_equal(arrays["vector"], items.vectors)
    assert arrays["vector"].dtype == np.float32
    assert arrays["item_id"].dtype == np.int32
    assert arrays["raw_id"].tolist() == ["a", "ü", ""]
  with np.load(tmp_path / "users.npz", allow_pickle=False) as arrays:
    assert arrays["vector"].shape == (2, 3, 4)


def test_the_manifest(items, users, tmp_path):
  written = export_vectors(tmp_path, (items, users), {"checkpoint": "step 3"})
  assert [path.name for path in written] == [
    "items.parquet",
    "items.npz",
    "users.parquet",
    "users.npz",
    "manifest.json",
  ]
  manifest = json.loads(written[-1].read_text())
  assert manifest["checkpoint"] == "step 3"
  assert manifest["tables"]["users"]["vector"] == [3, 4]
  assert manifest["tables"]["items"]["rows"] == 3
  for path in written[:-1]:
    assert manifest["files"][path.name] == files.sha256_of_file(path)


def test_an_older_export_is_replaced_and_other_files_stay(
  items, users, tmp_path
):
  (tmp_path / "notes.txt").write_text("mine")
  export_vectors(tmp_path, (items, users), {})
  export_vectors(tmp_path, (items,), {})
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "items.npz",
    "items.parquet",
    "manifest.json",
    "notes.txt",
  ]


def test_a_broken_export_has_no_manifest(items, tmp_path, monkeypatch):
  export_vectors(tmp_path, (items,), {})

  def full_disk(*_, **__):
    raise OSError("no space left")

  monkeypatch.setattr(embedding_export.np, "savez", full_disk)
  with pytest.raises(OSError, match="no space"):
    export_vectors(tmp_path, (items,), {})
  # What was written is whole, and nothing claims that it is all.
  assert [path.name for path in tmp_path.iterdir()] == ["items.parquet"]


@pytest.mark.parametrize("text", ['{"format": 9}', "[1]", "no json"])
def test_a_manifest_of_something_else_is_left_alone(items, tmp_path, text):
  (tmp_path / "manifest.json").write_text(text)
  with pytest.raises(DataError, match="choose another folder"):
    export_vectors(tmp_path, (items,), {})
  assert (tmp_path / "manifest.json").read_text() == text


def test_vectors_that_are_no_numbers(items):
  vectors = items.vectors.copy()
  vectors[1, 2] = np.nan
  with pytest.raises(DataError, match="item_id 2 is not finite.*1 such"):
    dataclasses.replace(items, vectors=vectors)


def test_a_column_may_not_be_called_as_the_vectors_are(items):
  with pytest.raises(DataError, match="vector is there twice"):
    dataclasses.replace(items, columns={"vector": np.zeros(3)})


def test_the_folder_of_an_index_is_left_alone(items, tmp_path):
  manifest = {"format": 1, "kind": "exact", "files": {"vectors.npy": {}}}
  (tmp_path / "manifest.json").write_text(json.dumps(manifest))
  (tmp_path / "vectors.npy").write_bytes(b"vectors")
  with pytest.raises(DataError, match="not of an export"):
    export_vectors(tmp_path, (items,), {})
  assert (tmp_path / "vectors.npy").exists()
