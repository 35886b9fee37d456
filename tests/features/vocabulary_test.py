import numpy as np
import pyarrow as pa
import pytest

from recjax.errors import DataError
from recjax.features import hashing
from recjax.features import vocabulary as lib
from recjax.features.encodings import GivenIds, Hashed, Vocabulary
from recjax.features.raw_columns import Place

PLACE = Place("city", "town", 10)
# Counts: b 3, a 2, d 2, c 1.
TRAIN = pa.array(["b", "a", "d", None, "b", "c", "", "a", "d", "b"])


def fitted(spec, values=TRAIN):
  fit = lib.make_fit(spec, PLACE)
  fit.add(values)
  return fit.finish()


def test_ids_follow_counts_then_values():
  encoder = fitted(Vocabulary())
  asked = pa.array(["a", "b", "c", "d", "e", "", None])
  assert encoder.encode(asked, PLACE).tolist() == [3, 2, 5, 4, 1, 0, 0]
  assert encoder.num_ids == 6 and encoder.collision_rate == 0.0
  assert encoder.encode(asked, PLACE).dtype == np.int32
  coded = asked.dictionary_encode()
  assert encoder.encode(coded, PLACE).tolist() == [3, 2, 5, 4, 1, 0, 0]


@pytest.mark.parametrize(
  ("spec", "expected"),
  [
    (Vocabulary(min_count=2), [3, 2, 1, 4]),
    (Vocabulary(min_count=3), [1, 2, 1, 1]),
    (Vocabulary(min_count=4), [1, 1, 1, 1]),
    (Vocabulary(max_size=2), [3, 2, 1, 1]),
  ],
)
def test_cut_off(spec, expected):
  encoder = fitted(spec)
  assert encoder.encode(pa.array(list("abcd")), PLACE).tolist() == expected
  assert encoder.num_ids == max(2, max(expected) + 1)


def test_an_unseen_category_can_be_refused():
  encoder = fitted(Vocabulary(oov="error"))
  encoder.encode(TRAIN, PLACE)
  message = (
    "feature 'city': row 12 of column 'town' holds 'zürich', which no"
    r" training row held \(4 categories are known\)"
  )
  with pytest.raises(DataError, match=message):
    encoder.encode(pa.array(["a", None, "zürich"]), PLACE)


def test_integers_are_not_texts():
  encoder = fitted(Vocabulary(), pa.array([7, 7, -1, None]))
  assert encoder.encode(pa.array([-1, 7, 5]), PLACE).tolist() == [3, 2, 1]
  with pytest.raises(DataError, match="holds text from row 10 on, but integer"):
    encoder.encode(pa.array(["7"]), PLACE)


def test_a_column_without_any_value():
  encoder = fitted(Vocabulary(), pa.nulls(3, pa.string()))
  assert encoder.num_ids == 2
  assert encoder.encode(pa.array(["a", None]), PLACE).tolist() == [1, 0]


def test_hashed():
  encoder = fitted(Hashed(5, seed=2))
  hashes = hashing.seeded(hashing.hash_array(TRAIN), 2)
  expected = [
    0 if text in (None, "") else 1 + int(value) % 5
    for text, value in zip(TRAIN.to_pylist(), hashes)
  ]
  assert encoder.encode(TRAIN, PLACE).tolist() == expected
  assert encoder.num_ids == 6
  of = dict(zip(TRAIN.to_pylist(), expected))
  buckets = [of[text] for text in "abcd"]
  shared = sum(buckets.count(bucket) > 1 for bucket in buckets)
  assert encoder.collision_rate == shared / 4


def test_given_ids():
  encoder = fitted(GivenIds(5), pa.array([1]))
  assert encoder.num_ids == 5 and encoder.collision_rate == 0
  assert encoder.encode(pa.array([4, 0, None]), PLACE).tolist() == [4, 0, 0]
  coded = pa.array([4, 4]).dictionary_encode()
  assert encoder.encode(coded, PLACE).tolist() == [4, 4]
  assert encoder.encode(pa.nulls(2, pa.string()), PLACE).tolist() == [0, 0]
  for bad in (5, -1):
    message = (
      f"feature 'city': row 11 of column 'town' holds {bad}, and ids must lie"
      r" in \[0, 4\] \(0 is padding\); 1 of 2 values do not"
    )
    with pytest.raises(DataError, match=message):
      encoder.encode(pa.array([1, bad]), PLACE)
  texts = pa.array(["1", None, "4", ""])
  assert encoder.encode(texts, PLACE).tolist() == [1, 0, 4, 0]
  with pytest.raises(DataError, match="row 12 .* holds 'x4', which is no int"):
    encoder.encode(pa.array(["1", "", "x4"]), PLACE)
  with pytest.raises(DataError, match="'town' holds integers beyond 64 bits"):
    encoder.encode(pa.array(["9" * 30]), PLACE)


@pytest.mark.parametrize(
  ("spec", "values"),
  [
    (Vocabulary(), TRAIN),
    (Vocabulary(oov="error"), pa.array([5, 5, -3])),
    (Vocabulary(), pa.nulls(1, pa.string())),
    (Hashed(7, seed=1), TRAIN),
    (GivenIds(9), pa.array([1, 8])),
  ],
)
def test_saved_and_made_again(spec, values):
  encoder = fitted(spec, values)
  facts, arrays = encoder.state()
  again = lib.encoder_from_state(facts, arrays)
  assert again.encode(values, PLACE).tolist() == (
    encoder.encode(values, PLACE).tolist()
  )
  assert again.num_ids == encoder.num_ids
  assert again.collision_rate == encoder.collision_rate
  assert again.state()[0] == facts
