"""Our own TFDS sets: prepared without TensorFlow, and read back by TFDS."""

import sys

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds

from recjax.data.interactions import Interactions
from recjax.data.tfds_builders import RecjaxInteractions


@pytest.fixture(autouse=True)
def _quiet():
  tfds.disable_progress_bar()
  yield
  tfds.enable_progress_bar()


def _data(**options):
  return Interactions.from_columns(
    "my set/1",
    {
      "user_id": np.array([2, 1, 2]),
      "item_id": np.array([3, 1, 1]),
      "timestamp": np.array([2**40, 7, 8]),
      "rating": np.array([0.5, 4.5, 3.0]),
      "place": np.array(["é", "", "b"]),
      "hour": np.array([3, 4, 5]),
    },
    **options,
  )


def _prepare(data, folder, **options):
  builder = RecjaxInteractions.from_interactions(data, folder, **options)
  builder.download_and_prepare()
  return builder


def test_records_are_the_rows_in_order(tmp_path):
  data = _data()
  _prepare(data, str(tmp_path))
  builder = tfds.builder("recjax_interactions/my-set-1", data_dir=str(tmp_path))
  records = builder.as_data_source("train")
  text = lambda value: value.decode() if isinstance(value, bytes) else value
  decoded = [
    {key: text(value) for key, value in record.items()} for record in records
  ]
  assert decoded == data.table.to_pylist()
  assert "tensorflow" not in sys.modules


def test_raw_ids_stand_in_the_records(tmp_path):
  users = pa.table({"raw_id": ["anna", "bob"]})
  items = pa.table({"raw_id": ["x", "y", "z"]})
  builder = _prepare(_data(users=users, items=items), str(tmp_path))
  records = builder.as_data_source("train")
  pairs = [(record["user_id"], record["item_id"]) for record in records]
  assert pairs == [(b"anna", b"x"), (b"bob", b"x"), (b"bob", b"z")]


def test_version_and_fingerprint_stand_in_the_metadata(tmp_path):
  data = _data()
  for version in ("1.0.0", "1.1.0"):
    _prepare(data, str(tmp_path), version=version, release_notes="a test")
  for wanted, found in (("", "1.1.0"), (":1.0.0", "1.0.0")):
    info = tfds.builder(
      f"recjax_interactions/my-set-1{wanted}", data_dir=str(tmp_path)
    ).info
    assert str(info.version) == found
    assert info.metadata["fingerprint"] == data.fingerprint
    assert (info.metadata["num_users"], info.metadata["num_items"]) == (2, 3)
    assert info.splits["train"].num_examples == 3
