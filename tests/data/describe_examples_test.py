import io
import json

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from recjax.data.describe_examples import describe_examples
from recjax.data.examples import Examples, ExampleSplit
from recjax.data.sources.frappe import Frappe

NAN = float("nan")
NO_ROWS = {"label": [], "id": [], "text": [], "number": [], "tags": []}
SCHEMA = pa.schema(
  {
    "label": pa.float32(),
    "id": pa.int32(),
    "text": pa.string(),
    "number": pa.float64(),
    "tags": pa.list_(pa.string()),
  }
)


def made(part, columns=None, **options):
  table = pa.table(columns or NO_ROWS, schema=SCHEMA)
  return Examples.from_table(f"toy {part}", table, **options)


@pytest.fixture
def toy():
  train = {
    "label": [1, 0, 0, 1, 0],
    "id": [7, 7, 9, 7, 7],
    "text": ["a", "b", None, "", "b"],
    "number": [1.0, 4.0, NAN, 2.0, 4.0],
    "tags": [["x", "y"], ["x"], [], None, ["x"]],
  }
  test = {
    "label": [1, 1, 0, 0],
    "id": [7, 7, 8, 9],
    "text": ["a", "b", "b", ""],
    "number": [1.0, 4.0, 3.0, None],
    "tags": [["x", "y"], ["x"], ["x", "z"], []],
  }
  return ExampleSplit(made("train", train), made("none"), made("test", test))


def printed(summary, width=100):
  console = Console(file=io.StringIO(), width=width)
  console.print(*summary.tables())
  return console.file.getvalue()  # pyright: ignore


def test_parts_counted_by_hand(toy):
  summary = describe_examples(toy)
  assert summary.name == "toy" and summary.has_binary_labels
  assert summary.fingerprint == toy.fingerprint
  train, validation, test = summary.parts
  assert (train.num_rows, validation.num_rows, test.num_rows) == (5, 0, 4)
  assert train.label_mean == pytest.approx(0.4)
  assert train.label_stddev == pytest.approx(np.sqrt(0.4 * 0.6))
  assert validation.label_mean is None and validation.label_stddev is None
  assert train.num_repeats == 1  # The last row is the second.
  assert train.num_in_train == train.num_in_train_with_label == 0
  # Rows 0 and 1 with the labels 1 and not 0; row 3 is the third of training,
  # with another way to write what is missing.
  assert (test.num_in_train, test.num_in_train_with_label) == (3, 2)
  assert test.num_repeats == 0


def test_columns_counted_by_hand(toy):
  columns = {column.name: column for column in describe_examples(toy).columns}
  assert list(columns) == ["id", "text", "number", "tags"]
  id_, text, number, tags = columns.values()
  assert (id_.type, text.type) == ("int32", "string")
  assert (number.type, tags.type) == ("double", "list of string")
  assert [c.num_distinct for c in columns.values()] == [2, 2, 3, 2]
  assert [c.missing_share for c in columns.values()] == pytest.approx(
    [0, 0.4, 0.2, 0.4]
  )
  assert [c.top_value for c in columns.values()] == ["7", "b", "4", "x"]
  assert [c.top_share for c in columns.values()] == pytest.approx(
    [4 / 5, 2 / 5, 2 / 5, 3 / 4]
  )
  # 8 is new, "z" is; 3.0 is within [1, 4].
  assert [c.unseen["test"] for c in columns.values()] == [0.25, 0, 0, 0.25]
  assert {c.unseen["validation"] for c in columns.values()} == {None}
  assert (id_.minimum, id_.median, id_.maximum) == (7, 7, 9)
  assert isinstance(id_.minimum, int)
  # Of 1, 2, 4, 4.
  assert (number.minimum, number.median, number.maximum) == (1.0, 3.0, 4.0)
  assert text.median is None and tags.median is None
  assert tags.mean_len == pytest.approx(4 / 5) and id_.mean_len is None


def test_floats_are_new_outside_of_the_range(toy):
  columns = NO_ROWS | {
    "label": [0, 0, 1, 1],
    "id": [7, 7, 7, 7],
    "text": ["a"] * 4,
    "number": [0.5, 1.0, 3.9, 4.5],
    "tags": [[]] * 4,
  }
  split = ExampleSplit(toy.train, made("validation", columns), toy.test)
  number = describe_examples(split).columns[2]
  assert number.unseen["validation"] == 0.5


def test_brute_force_on_random_rows():
  random = np.random.default_rng(0)
  parts = []
  for part, num in (("train", 300), ("validation", 90), ("test", 110)):
    table = pa.table(
      {
        "label": random.integers(0, 2, num).astype(np.float32),
        "a": random.zipf(1.5, num),
        "b": random.integers(0, 4, num),
        "c": [
          random.integers(0, 3, n).tolist() for n in random.poisson(1, num)
        ],
      }
    )
    parts.append(Examples.from_table(f"random {part}", table))
  summary = describe_examples(ExampleSplit(*parts))
  rows = [
    [(tuple(r["c"]), r["a"], r["b"], r["label"]) for r in p.table.to_pylist()]
    for p in parts
  ]
  train = {row[:3] for row in rows[0]}
  for part, mine in zip(summary.parts, rows):
    assert part.num_repeats == len(mine) - len(set(mine))
    if part.part != "train":
      assert part.num_in_train == sum(row[:3] in train for row in mine)
      assert part.num_in_train_with_label == sum(r in rows[0] for r in mine)
      for place, name in ((1, "a"), (2, "b")):
        seen = {row[place] for row in rows[0]}
        (column,) = [c for c in summary.columns if c.name == name]
        expected = np.mean([row[place] not in seen for row in mine])
        assert column.unseen[part.part] == pytest.approx(expected)
  a = np.array([row[1] for row in rows[0]])
  assert summary.columns[0].median == np.median(a)
  assert summary.columns[0].maximum == a.max()
  assert summary.parts[2].num_in_train > summary.parts[2].num_repeats > 0


def test_tables_and_json(toy):
  summary = describe_examples(toy)
  assert json.loads(json.dumps(summary.to_dict()))["parts"][2]["num_rows"] == 4
  text = printed(summary)
  for line in (
    "train 5 40.00% 1",
    "validation 0 0 0 0",
    "test 4 50.00% 0 3 2",
    "id int32 2 0% 7 80.0% 25.0%",
    "tags list of string 2 40.0% x 75.0% 25.0% 0.8",
    "number 1 3 4",
  ):
    assert line in [" ".join(found.split()) for found in text.splitlines()]


def test_tables_without_numbers_and_with_markup():
  value = "[bold]a very long value"
  columns = {"label": [1.0, 0.0], "[red]x": [value, None]}
  part = Examples.from_table("odd train", pa.table(columns))
  empty = Examples.from_table("odd test", part.table[:0])
  summary = describe_examples(ExampleSplit(part, empty, empty))
  assert len(summary.tables()) == 3
  text = printed(summary)
  assert "[red]x" in text and "[bold]a very …" in text


def test_labels_that_are_numbers_and_weights():
  table = pa.table(
    {"stars": [1.0, 2.0, 4.5], "w": [0.5, 1.0, 3.0], "x": [1, 1, 2]}
  )
  part = Examples.from_table(
    "stars train", table, label="stars", weight="w", label_kind="real"
  )
  summary = describe_examples(ExampleSplit(part, part, part))
  assert not summary.has_binary_labels
  assert [column.name for column in summary.columns] == ["x"]
  assert summary.parts[0].weight_range == pytest.approx((0.5, 1.5, 3.0))
  assert summary.parts[2].num_in_train_with_label == 3
  facts = dict(summary.facts())
  assert facts["label"] == "stars (numbers)"
  assert facts["weight"] == "w (in train from 0.5 to 3, mean 1.5)"
  lines = [" ".join(line.split()) for line in printed(summary).splitlines()]
  assert "train 3 2.5 1.472 0" in lines


def test_a_share_that_is_not_zero_is_not_shown_as_zero():
  ids = np.arange(4000, dtype=np.int32)
  train = Examples.from_table(
    "t train", pa.table({"label": np.zeros(3999), "x": ids[:-1]})
  )
  test = Examples.from_table(
    "t test", pa.table({"label": np.zeros(4000), "x": ids})
  )
  text = printed(describe_examples(ExampleSplit(train, test, test)))
  assert text.count("<0.1%") == 3  # Of the most common value, and new ones.


def test_frappe(data_dir):
  summary = describe_examples(Frappe().read(data_dir))
  # The set of He and Chua: 288,609 rows less 22 that the files lack; a third
  # of them positive, 957 users and 4,082 apps in all.
  assert [p.num_rows for p in summary.parts] == [202_005, 57_722, 28_860]
  assert summary.parts[0].label_mean == pytest.approx(1 / 3, abs=2e-3)
  columns = {column.name: column for column in summary.columns}
  assert columns["item"].num_distinct == 4082
  assert 950 < columns["user"].num_distinct <= 957
  # Lines compared as text by another program.
  assert [p.num_repeats for p in summary.parts] == [0, 2, 0]
  assert [p.num_in_train for p in summary.parts] == [0, 0, 0]
  assert columns["user"].unseen == pytest.approx(
    {"validation": 6 / 57_722, "test": 3 / 28_860}
  )
