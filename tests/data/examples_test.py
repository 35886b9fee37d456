import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.examples import Examples, ExampleSplit, check_examples
from recjax.errors import ConfigError, DataError

TABLE = pa.table(
  {
    "click": pa.array([0, 1, 1, 0], pa.int8()),
    "w": [1.0, 0.5, 0.0, 2.0],
    "c": ["a", None, "b", "a"],
  }
)


def make(table=TABLE, name="toy", **options):
  return Examples.from_table(name, table, label="click", **options)


def test_labels_and_weights_are_float32():
  examples = make(weight="w")
  assert len(examples) == 4
  assert examples.labels.tolist() == [0, 1, 1, 0]
  assert examples.weights.tolist() == [1, 0.5, 0, 2]
  assert examples.labels.dtype == examples.weights.dtype == np.float32
  assert make().weights is None
  assert examples.column("c").tolist() == ["a", None, "b", "a"]
  assert examples.table.column_names == ["click", "w", "c"]


def test_nothing_can_be_changed():
  examples = make()
  with pytest.raises(ValueError, match="read-only"):
    examples.labels[0] = 1
  with pytest.raises(dataclasses.FrozenInstanceError):
    examples.name = "x"


def replaced(column, values):
  place = TABLE.column_names.index(column)
  return TABLE.set_column(place, column, pa.array(values))


@pytest.mark.parametrize(
  ("table", "message"),
  [
    (
      replaced("click", [0, 1, 2, 0]),
      "toy, row 2: column 'click' holds 2; labels must be 0 or 1",
    ),
    (replaced("click", [0.0, 0.5, 1.0, 1.0]), "row 1: .* holds 0.5; labels"),
    (replaced("click", [0, 1, None, 0]), "row 2: .* holds None; labels"),
    (replaced("click", [1, np.nan, 1, 0]), "row 1: .* holds nan; labels"),
    (replaced("click", ["0", "1", "yes", "0"]), "row 2: .* 'yes', which is no"),
    (replaced("w", [1, -1, 1, 1]), "row 1: .*'w' holds -1; weights must be 0"),
    (replaced("w", [1, 1, np.inf, 1]), "row 2: column 'w' holds inf; weights"),
    (replaced("w", [1, 1, 1, None]), "row 3: column 'w' holds None; weights"),
    (TABLE.drop(["w"]), "no column 'w' for its weight; it has click, c"),
    (
      TABLE.rename_columns(["clicks", "w", "c"]),
      "no column 'click' for its label; .* Did you mean 'clicks'",
    ),
  ],
)
def test_bad_labels_and_weights(table, message):
  with pytest.raises(DataError, match=message):
    make(table, weight="w")


def test_labels_of_other_kinds():
  for values in ([False, True, True, False], ["0", "1", "1", "0"]):
    assert make(replaced("click", values)).labels.tolist() == [0, 1, 1, 0]
  ratings = replaced("click", [1.5, 4.0, -2.0, 0.0])
  assert make(ratings, label_kind="real").labels.tolist() == [1.5, 4, -2, 0]
  for bad in (np.nan, np.inf):
    with pytest.raises(DataError, match="labels must be finite numbers"):
      make(replaced("click", [1.0, bad, 1.0, 1.0]), label_kind="real")
  with pytest.raises(ConfigError, match="label_kind must be one of"):
    make(label_kind="binry")


def test_the_source_tells_where_a_row_stands():
  where = lambda row: f"file.csv, line {row + 2}"
  with pytest.raises(DataError, match="file.csv, line 4: column 'click'"):
    check_examples(
      "toy", replaced("click", [0, 1, 7, 0]), label="click", where=where
    )


def test_the_fingerprint_sees_values_and_roles_but_no_name():
  prints = {
    make().fingerprint,
    make(weight="w").fingerprint,
    make(TABLE.slice(0, 3)).fingerprint,
    make(replaced("c", ["a", None, "b", "b"])).fingerprint,
  }
  assert len(prints) == 4
  assert make(name="other").fingerprint == make().fingerprint
  chunked = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
  assert make(chunked).fingerprint == make().fingerprint


def test_saved_and_loaded(tmp_path):
  examples = make(weight="w")
  examples.save(tmp_path / "e")
  loaded = Examples.load(tmp_path / "e")
  assert loaded.table.equals(examples.table)
  assert (loaded.name, loaded.label, loaded.weight) == ("toy", "click", "w")
  assert loaded.fingerprint == examples.fingerprint
  before = pa.total_allocated_bytes()
  loaded.labels.sum()
  assert pa.total_allocated_bytes() == before  # It lies in the mapped file.


def test_no_rows():
  assert len(make(TABLE.slice(0, 0))) == 0


# -- Splits ------------------------------------------------------------------


def test_a_split_is_saved_whole(tmp_path):
  parts = [make(TABLE.slice(i, 2), f"toy {i}") for i in range(3)]
  split = ExampleSplit(*parts)
  split.save(tmp_path / "s")
  loaded = ExampleSplit.load(tmp_path / "s")
  for part in ("train", "validation", "test"):
    saved, found = getattr(split, part), getattr(loaded, part)
    assert found.table.equals(saved.table) and found.name == saved.name
  assert loaded.fingerprint == split.fingerprint
  assert ExampleSplit(*parts[::-1]).fingerprint != split.fingerprint
  (tmp_path / "s" / "test" / "examples.arrow").unlink()
  with pytest.raises(DataError, match=r"test/examples\.arrow is missing"):
    ExampleSplit.load(tmp_path / "s")


def test_splits_that_do_not_fit():
  empty = make(TABLE.slice(0, 0))
  with pytest.raises(DataError, match="there is no training row"):
    ExampleSplit(empty, make(), make())
  ExampleSplit(make(), empty, empty)
  other = make(replaced("c", [1, 2, 3, 4]), "test")
  message = "test has the columns .*c: int64.* but toy has .*c: string"
  with pytest.raises(DataError, match=message):
    ExampleSplit(make(), empty, other)
