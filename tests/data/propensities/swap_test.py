"""Swaps: the ratio by hand, its error over many draws, and bad tables."""

import pathlib

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.examples import Examples
from recjax.data.propensities.positions import shown_rows
from recjax.data.propensities.swap import SwapIntervention
from recjax.data.sources.planted_positions import PlantedPositions
from recjax.errors import DataError


def estimate(examples, num_positions):
  rows = shown_rows(
    examples, label="click", column="position", num_positions=num_positions
  )
  return SwapIntervention().estimate(rows)


def lists_of(first, second, swapped, swap=2):
  """Lists of two positions with given clicks."""
  num = len(first)
  return Examples.from_table(
    "lists",
    pa.table(
      {
        # Rows of a list need not follow each other.
        "position": np.repeat([2, 1], num),
        "click": np.concatenate([second, first]).astype(np.float32),
        "swap": np.full(2 * num, swap, np.int32),
        "swapped": np.tile(np.asarray(swapped, np.int32), 2),
        "list": np.tile([f"l{i}" for i in range(num)], 2),
      }
    ),
    label="click",
  )


def test_by_hand():
  first = np.array([1, 1, 0, 1, 1, 0, 1])
  second = np.array([1, 0, 0, 1, 0, 0, 1])
  swapped = np.array([0, 0, 0, 1, 1, 1, 1])
  found = estimate(lists_of(first, second, swapped), 2)
  # Each kind counts one half, though one has 3 lists and the other 4.
  ratio = (1 / 3 + 2 / 4) / (2 / 3 + 3 / 4)
  np.testing.assert_allclose(found.values, [1, ratio])
  rest = second - ratio * first
  variance = np.var(rest[:3], ddof=1) / 3 + np.var(rest[3:], ddof=1) / 4
  stderr = np.sqrt(variance) / (2 / 3 + 3 / 4)
  np.testing.assert_allclose(found.stderr, [0, stderr])


def test_planted_propensities_and_their_errors():
  """z-scores over draws have mean 0 and deviation 1."""
  scores = []
  for seed in range(20):
    source = PlantedPositions(
      1_500, 0, 0, list_len=4, swap_share=1.0, seed=seed, correlation=0.9
    )
    train = source.read(pathlib.Path()).train
    found = estimate(train, 4)
    truth = np.arange(1, 5) ** -1.0
    scores.append((found.values[1:] - truth[1:]) / found.stderr[1:])
  scores = np.array(scores)
  assert abs(scores.mean()) < 4 / np.sqrt(scores.size)
  assert 0.75 < scores.std() < 1.3


def test_click_rates_alone_mislead():
  source = PlantedPositions(
    20_000, 0, 0, list_len=5, swap_share=0.8, correlation=0.9
  )
  train = source.read(pathlib.Path()).train
  truth = np.arange(1, 6) ** -1.0
  position = train.column("position")
  rates = np.array([train.labels[position == k].mean() for k in range(1, 6)])
  found = estimate(train, 5)
  error = np.abs(found.values - truth)[1:]
  assert np.all(error < 4 * found.stderr[1:]) and error.max() < 0.06
  assert np.abs(rates / rates[0] - truth).max() > 0.09


@pytest.mark.parametrize(
  "change,message",
  [
    ({"swapped": np.zeros(14, np.int32)}, "has 0 lists with 'swap' = 2"),
    ({"swap": np.zeros(14, np.int32)}, "has 0 lists with 'swap' = 2"),
    ({"list": ["a"] * 14}, "one row at position 1 and one at 2"),
    ({"list": None}, "has no column 'list'"),
  ],
)
def test_bad_tables_are_told(change, message):
  first, second = np.ones(7), np.ones(7)
  examples = lists_of(first, second, [0, 0, 0, 1, 1, 1, 1])
  table = examples.table
  for name, values in change.items():
    table = table.drop_columns([name])
    if values is not None:
      table = table.append_column(name, pa.array(values))
  with pytest.raises(DataError, match=message):
    estimate(Examples.from_table("lists", table, label="click"), 2)


def test_swapped_lists_without_a_click_are_told():
  examples = lists_of(np.ones(7), np.zeros(7), [0, 0, 0, 1, 1, 1, 1])
  other = lists_of(np.ones(1), np.ones(1), [0], swap=0)
  table = pa.concat_tables([examples.table, other.table])
  with pytest.raises(DataError, match="position 2 has no click in lists"):
    estimate(Examples.from_table("lists", table, label="click"), 2)
