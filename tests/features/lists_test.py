import numpy as np
import pyarrow as pa
import pytest

from recjax.errors import DataError
from recjax.features import lists
from recjax.features.encodings import GivenIds, Vocabulary
from recjax.features.raw_columns import Place
from recjax.features.specs import ListWeights, MultiHot, Sequence, Vector
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


WEIGHTS = [[0.5, 1, 2], [], None, [1, 2, 3, 4, 5], [7], [1, 2, 3]]


@pytest.mark.parametrize("kind", [MultiHot, Sequence])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_weights_stand_beside_their_values(kind, width):
  block = pa.table({"c": ROWS, "w": WEIGHTS})
  of = kind("f", "c", max_len=width)
  spec = ListWeights("fw", "f", "w")
  found = lists.encode_weights(spec, of, encoder(), block, 0)
  ids = lists.encode_lists(of, encoder(), pa.array(ROWS), PLACE)
  expected = np.zeros(ids.shape, np.float32)
  for row, (values, weights) in enumerate(zip(ROWS, WEIGHTS)):
    pairs = [(v, w) for v, w in zip(values or (), weights or ()) if v]
    pairs = pairs[:width] if kind is MultiHot else pairs[-width:]
    assert ids[row, : len(pairs)].tolist() == [v for v, _ in pairs]
    expected[row, : len(pairs)] = [w for _, w in pairs]
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == np.float32


def test_weights_in_text_and_bad_weights():
  of = MultiHot("f", "c", max_len=2, separator="|")
  spec = ListWeights("fw", "f", "w", separator=" ")
  encode = lambda c, w: lists.encode_weights(
    spec, of, encoder(), pa.table({"c": c, "w": w}), 10
  ).tolist()
  assert encode(["1|2", "3"], ["0.5 2", "4"]) == [[0.5, 2], [4, 0]]
  for weights, message in (
    (
      ["1", "1"],
      "'fw': row 10 of column 'w' has 1 weights for 2 values of 'f'",
    ),
    (["1 2", "x"], "row 11 of column 'w' holds 'x', which is no number"),
    (["1 2", "inf"], "row 11 of column 'w' holds inf"),
  ):
    with pytest.raises(DataError, match=message):
      encode(["1|2", "3"], weights)
  block = pa.table({"c": ["1|2"], "w": [[1.0, None]]})
  listed = ListWeights("fw", "f", "w")
  with pytest.raises(DataError, match="row 10 .* holds None, where a weight"):
    lists.encode_weights(listed, of, encoder(), block, 10)


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
