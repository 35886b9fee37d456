import hashlib

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from recjax.errors import DataError
from recjax.retrieval import index_inputs

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)
IDS = np.array([3, 1, 9, 4])


def test_items_stand_in_the_order_of_their_ids():
  rows, ids = index_inputs.checked_items(VECTORS, IDS)
  assert ids.tolist() == [1, 3, 4, 9]
  np.testing.assert_array_equal(rows, VECTORS[[1, 0, 3, 2]])
  assert (rows.dtype, ids.dtype) == (np.float32, np.int32)


def test_other_float_types_are_taken():
  for made in (
    VECTORS.astype(np.float64),
    VECTORS.astype(ml_dtypes.bfloat16),
    jnp.asarray(VECTORS),
  ):
    rows, _ = index_inputs.checked_items(made, IDS)
    np.testing.assert_array_equal(rows[0], VECTORS[1])


@pytest.mark.parametrize(
  ("vectors", "ids", "message"),
  [
    (VECTORS[:0], IDS[:0], "one item or more"),
    (VECTORS[0], IDS, r"\[item, dim\]"),
    (VECTORS.astype(str), IDS, "the first is .*'0.0'.* text"),
    (VECTORS.astype(object), IDS, "got the dtype object"),
    (VECTORS.astype(np.int32), IDS, "dtype int32. Ids are no vectors"),
    (VECTORS, IDS[:3], r"each of the 4 item vectors; got the shape \[3\]"),
    (VECTORS, IDS.astype(float), "integer ids; got the dtype float64"),
    (VECTORS, np.array([3, 0, 9, 4]), "got 0 in row 1. Id 0 is padding"),
    (VECTORS, np.array([3, 2**31, 9, 4]), "got 2147483648 in row 1"),
    (VECTORS, np.array([3, 1, 3, 4]), "once; 3 comes twice"),
  ],
)
def test_bad_items_are_named(vectors, ids, message):
  with pytest.raises(DataError, match=message):
    index_inputs.checked_items(vectors, ids)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_item_of_a_nan_is_named(value):
  vectors = VECTORS.copy()
  vectors[2, 1] = value
  with pytest.raises(DataError, match=f"item_id 9 holds {value}"):
    index_inputs.checked_items(vectors, IDS)
  with pytest.raises(DataError, match=f"row 2 holds {value}"):
    index_inputs.checked_queries(vectors, 3)


def test_added_items_must_fit():
  with pytest.raises(DataError, match="width of the index, 4; got 3"):
    index_inputs.checked_items(VECTORS, IDS, dim=4)
  with pytest.raises(DataError, match="item_id 9 is in the index already"):
    index_inputs.checked_items(VECTORS, IDS, taken=np.int32([2, 9]))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 2, 2, 3), (2, 0, 3)])
def test_queries_of_another_shape_are_named(shape):
  with pytest.raises(DataError, match=r"\[batch, 3\]"):
    index_inputs.checked_queries(np.zeros(shape, np.float32), 3)


def test_excluded_ids():
  seen = np.array([[1, -1, 2**40], [0, 7, 7]])
  cleaned = index_inputs.checked_excluded(seen, 2)
  np.testing.assert_array_equal(cleaned, [[1, 0, 0], [0, 7, 7]])
  with pytest.raises(DataError, match="one row a query"):
    index_inputs.checked_excluded(seen, 3)
  with pytest.raises(DataError, match="integer ids"):
    index_inputs.checked_excluded(seen.astype(float), 2)


def test_the_fingerprint_is_of_ids_and_vectors():
  digest = hashlib.sha256()
  digest.update(np.array([4, 3], "<i8").tobytes())
  digest.update(np.array([1, 3, 4, 9], "<i4").tobytes())
  digest.update(VECTORS[[1, 0, 3, 2]].astype("<f4").tobytes())
  found = index_inputs.items_fingerprint(VECTORS, IDS)
  assert found == digest.hexdigest()
  # The order that they are given in does not matter; all else does.
  order = [2, 0, 3, 1]
  assert found == index_inputs.items_fingerprint(VECTORS[order], IDS[order])
  others = [
    index_inputs.items_fingerprint(VECTORS[order], IDS),
    index_inputs.items_fingerprint(VECTORS + 1e-6, IDS),
    index_inputs.items_fingerprint(VECTORS, IDS + 1),
    index_inputs.items_fingerprint(VECTORS, IDS, after=found),
  ]
  assert len({found, *others}) == 5


def test_ids_are_sought_in_their_own_row():
  ids = np.array([[1, 2, 3], [1, 2, 3]])
  listed = np.array([[2, 9], [3, 1]])
  np.testing.assert_array_equal(
    index_inputs.is_in_row(ids, listed),
    [[False, True, False], [True, False, True]],
  )
