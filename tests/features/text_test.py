import pyarrow as pa
import pytest

from recjax.errors import DataError
from recjax.features.fitted import fit_features
from recjax.features.text import Text, tokens, with_tokens


def test_tokens_are_lower_case_runs_of_letters_and_digits():
  titles = pa.array(["Toy Story (1995)", "L'Été  d'Eva!", None, "..."])
  assert tokens(titles, column="title").to_pylist() == [
    ["toy", "story", "1995"],
    ["l", "été", "d", "eva"],
    None,
    None,
  ]


def test_chunks_and_dictionaries_are_texts_too():
  chunks = pa.chunked_array([["A b"], ["c"]])
  assert tokens(chunks, column="x").to_pylist() == [["a", "b"], ["c"]]
  coded = pa.array(["A b", "A b"]).dictionary_encode()
  assert tokens(coded, column="x").to_pylist() == [["a", "b"], ["a", "b"]]


def test_numbers_are_no_text():
  with pytest.raises(DataError, match="column 'year' has the type int64"):
    tokens(pa.array([1, 2]), column="year")


def test_a_text_becomes_a_feature_of_its_tokens():
  table = pa.table({"title": ["A b a", "b", None], "year": [1, 2, 3]})
  specs, table = with_tokens([Text("title", max_len=2)], table)
  fitted = fit_features(specs, table)
  ids = fitted.encode(table)["title"]
  a, b = (fitted.raw_values("title").index(token) for token in "ab")
  assert ids.tolist() == [[a, b], [b, 0], [0, 0]]


def test_a_missing_column_of_text_is_told():
  with pytest.raises(DataError, match="'titel'.*title"):
    with_tokens([Text("x", "titel")], pa.table({"title": ["a"]}))
