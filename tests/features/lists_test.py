import numpy as np
import pyarrow as pa
import pytest

from recjax.errors import DataError
from recjax.features import lists
from recjax.features.encodings import GivenIds, Vocabulary
from recjax.features.raw_columns import Place
from recjax.features.specs import MultiHot, Sequence, Vector
from recjax.features.vocabulary import make_fit

PLACE = Place("f", "c", 10)
ROWS = [[3, 1, 4], [], None, [1, 5, 9, 2, 6], [5], [3, None, 5]]


def encoder(num_ids=10):
  return make_fit(GivenIds(num_ids), PLACE).finish()


def padded(rows, width):
  out = np.zeros((len(rows), width), np.int32)
  for row, values in enumerate(rows):
    out[row, : len(values)] = values
  return out


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_multi_hot_keeps_the_first(width):
  found = lists.encode_lists(
    MultiHot("f", max_len=width), encoder(), pa.array(ROWS), PLACE
  )
  clean = [[v for v in row or () if v] for row in ROWS]
  expected = padded([row[:width] for row in clean], width)
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == np.int32


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_a_sequence_keeps_the_last(width):
  found = lists.encode_lists(
    Sequence("f", max_len=width), encoder(), pa.array(ROWS), PLACE
  )
  clean = [[v for v in row or () if v] for row in ROWS]
  expected = padded([row[-width:] for row in clean], width)
  np.testing.assert_array_equal(found, expected)


def test_text_with_a_separator():
  spec = MultiHot("f", max_len=3, separator="|")
  text = pa.array(["Drama|Crime", "Crime", None, "", "Crime||War"])
  flat, lengths, _ = lists.list_values(spec, text, PLACE)
  assert lengths.tolist() == [2, 1, 0, 1, 3]
  fit = make_fit(Vocabulary(), PLACE)
  fit.add(flat)
  # Crime 3, then Drama and War by name.
  found = lists.encode_lists(spec, fit.finish(), text, PLACE)
  assert found.tolist() == [
    [3, 2, 0],
    [2, 0, 0],
    [0, 0, 0],
    [0, 0, 0],
    [2, 4, 0],
  ]


def test_a_bad_value_is_named_with_its_row():
  message = r"row 13 of column 'c' holds 9, and ids must lie in \[0, 8\]"
  with pytest.raises(DataError, match=message):
    lists.encode_lists(MultiHot("f"), encoder(9), pa.array(ROWS), PLACE)
  strings = pa.array([["1"], ["a", "b"]])
  fit = make_fit(Vocabulary(oov="error"), PLACE)
  fit.add(pa.array(["1", "a"]))
  with pytest.raises(DataError, match="row 11 of column 'c' holds 'b', which"):
    lists.encode_lists(MultiHot("f"), fit.finish(), strings, PLACE)


@pytest.mark.parametrize(
  "kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2)]
)
def test_vectors(kind):
  array = pa.array([[1.5, 2], None, [3, 4]], kind)
  spec = Vector("f", dim=2)
  found = lists.encode_vectors(spec, array, PLACE)
  assert found.tolist() == [[1.5, 2], [0, 0], [3, 4]]
  assert found.dtype == np.float32
  assert lists.encode_vectors(spec, array[1:], PLACE).tolist() == [
    [0, 0],
    [3, 4],
  ]


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    ([None, [1.0, 2.0], [1.0]], "row 12 of column 'c' has 1 values where dim"),
    ([None, [1.0, None]], "row 11 of column 'c' holds None, inside of a vec"),
    ([[1.0, 1.0], None, [1.0, np.inf]], "row 12 .* holds inf, which is no fin"),
  ],
)
def test_bad_vectors(rows, message):
  with pytest.raises(DataError, match=message):
    lists.encode_vectors(Vector("f", dim=2), pa.array(rows), PLACE)
