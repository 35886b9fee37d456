"""Equal values give equal digests, whatever the layout; others do not."""

import hashlib
import struct

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.fingerprint import fingerprint


def _table(**columns):
  return pa.table(columns)


def _digest(table, **counts):
  return fingerprint({"rows": table}, counts)


BASE = {
  "id": pa.array([1, 2, 3, 4], pa.int32()),
  "text": pa.array(["a", None, "", "bcd"]),
  "tags": pa.array([["x"], [], None, ["y", "z"]]),
  "flag": pa.array([True, False, None, True]),
  "value": pa.array([0.5, None, 2.0, -1.0], pa.float32()),
}


def test_chunks_slices_and_column_order_have_no_effect():
  whole = pa.table(BASE)
  chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
  assert chunked.column("id").num_chunks == 2
  longer = pa.concat_tables([whole.slice(2), whole, whole]).combine_chunks()
  turned = whole.select(["value", "tags", "id", "flag", "text"])
  for same in (chunked, longer.slice(2, 4), turned):
    assert _digest(same) == _digest(whole)


def test_columns_of_nothing():
  empty = pa.array([None, None])
  lists = pa.array([[], [None]], pa.list_(pa.null()))
  one, other = (
    _table(x=empty, y=lists),
    _table(x=empty, y=lists.take(pa.array([1, 0]))),
  )
  assert _digest(one) == _digest(_table(x=empty, y=lists))
  assert _digest(one) != _digest(other)
  assert _digest(_table(x=empty)) != _digest(_table(x=empty[:1]))


def test_what_stands_under_a_null_has_no_effect():
  mask = np.array([False, True])
  left = pa.array(np.array([1.0, 7.0], np.float32), mask=mask)
  right = pa.array(np.array([1.0, 9.0], np.float32), mask=mask)
  assert _digest(_table(a=left)) == _digest(_table(a=right))


def test_a_dictionary_has_the_digest_of_its_order_alone():
  values = pa.array(["b", "a", "b"])
  first = pa.DictionaryArray.from_arrays([0, 1, 0], ["b", "a"])
  second = pa.DictionaryArray.from_arrays([1, 0, 1], ["a", "b"])
  assert _digest(_table(a=first)) == _digest(_table(a=second))
  assert _digest(_table(a=first)) != _digest(_table(a=values))


@pytest.mark.parametrize(
  "column, values",
  [
    ("id", pa.array([1, 2, 3, 5], pa.int32())),
    ("id", pa.array([1, 2, 3, 4], pa.int64())),
    ("text", pa.array(["a", "", "", "bcd"])),
    ("text", pa.array(["a", None, "b", "cd"])),
    ("tags", pa.array([["x"], [], [], ["y", "z"]])),
    ("tags", pa.array([["x"], ["y"], None, ["z"]])),
    ("flag", pa.array([True, False, False, True])),
    ("value", pa.array([0.5, 0.0, 2.0, -1.0], pa.float32())),
  ],
)
def test_every_change_of_a_value_or_type_is_seen(column, values):
  changed = pa.table({**BASE, column: values})
  assert _digest(changed) != _digest(pa.table(BASE))


def test_names_counts_and_missing_tables_are_seen():
  table = pa.table(BASE)
  digests = {
    _digest(table),
    _digest(table, users=3),
    _digest(table, users=4),
    _digest(table.rename_columns(["id2", "text", "tags", "flag", "value"])),
    fingerprint({"rows": table, "users": None}, {}),
    fingerprint({"rows": None, "users": table}, {}),
    fingerprint({}, {}),
  }
  assert len(digests) == 7


def test_the_digest_is_that_of_these_bytes():
  # Run records compare digests made by different versions of recjax.
  table = _table(id=pa.array([1, 2], pa.int32()), text=pa.array(["a", "bc"]))
  expected = hashlib.sha256(
    b"recjax-fingerprint-1"
    + b"\0count n=2"
    + b"\0table rows"
    + b"\0column id:int32:2"
    + struct.pack("<2i", 1, 2)
    + b"\0column text:string:2"
    + struct.pack("<2q", 1, 2)
    + b"abc"
  )
  assert _digest(table, n=2) == expected.hexdigest()
