import numpy as np
import pytest

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.costs import (
  Workload,
  array_cost,
  distinct_counts,
  expected_counts,
)
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.row_optimizers import Adagrad, RowWiseAdagrad
from recjax.embeddings.strategies import STRATEGIES, make_partition
from recjax.embeddings.tables import TableSpec

SHAPE = {"data": 4, "model": 2}
BATCH, DIM = 64, 16


def make_layout(optimizer=None, dtype="float32", sizes=(500, 1500)):
  specs = tuple(
    TableSpec(f"t{i}", n, DIM, optimizer=optimizer, dtype=dtype, stack="s")
    for i, n in enumerate(sizes)
  )
  lookups = tuple(Lookup(spec.name, spec.name) for spec in specs)
  return EmbeddingCollection(specs, lookups).arrays["s"]


def cost_of(strategy, layout, rows=None, columns=(0, 1, 1)):
  part = make_partition(layout, strategy, SHAPE)
  work = Workload(BATCH, 8, columns, rows)
  return array_cost(layout, part, work, dense_copies=3)


@pytest.mark.parametrize(
  ("strategy", "pieces", "slot_pieces"),
  [
    ("data_parallel", 1, 1),
    ("row_wise", 8, 8),
    ("row_wise_replicated", 2, 2),
    ("column_wise", 2, 1),
    ("table_wise", 8, 8),
    ("two_dimensional", 8, 4),
  ],
)
def test_memory_is_that_of_the_pieces(strategy, pieces, slot_pieces):
  table = 2048 * DIM * 4
  wide = cost_of(strategy, make_layout(Adagrad()))
  assert wide.table_bytes == wide.slot_bytes == table // pieces
  # One number a row is not cut along the columns.
  narrow = cost_of(strategy, make_layout(RowWiseAdagrad()))
  assert narrow.slot_bytes == 2048 * 4 // slot_pieces
  dense = cost_of(strategy, make_layout())
  assert dense.slot_bytes == 3 * table // pieces
  half = cost_of(strategy, make_layout(Adagrad(), "bfloat16"))
  assert half.table_bytes == table // pieces // 2
  assert half.slot_bytes == table // pieces


def test_exchanged_bytes_follow_the_formulas():
  # A device has n = 64 * 3 / 8 lookups. Of the 8 of the first table's 500
  # rows, 256 / 500 fall into the first block: 4 and a quarter more are 8.
  n, capacity = 24, 8
  layout = make_layout(Adagrad())
  row_wise = cost_of("row_wise", layout)
  assert row_wise.capacity == capacity
  # Ids and rows, ids and gradients; then how many rounds, and where they end.
  assert row_wise.exchanged_bytes == (
    2 * 8 * capacity * (4 + 4 * DIM) + 4 + 4 * 8
  )
  assert row_wise.collectives == 6
  replicated = cost_of("data_parallel", layout)
  assert replicated.exchanged_bytes == 8 * n * (4 + 4 * DIM)
  assert replicated.collectives == 2
  # Two devices hold the halves of a row, four replicas exchange gradients.
  halves = cost_of("column_wise", layout)
  assert halves.exchanged_bytes == (
    4 * 2 * n + n * DIM * (4 + 4) + 4 * 2 * n * (4 + 4 * DIM // 2)
  )
  assert halves.collectives == 5
  summed = cost_of("column_wise", make_layout(RowWiseAdagrad()))
  assert summed.exchanged_bytes - halves.exchanged_bytes == 4 * 4 * 2 * n
  # Both tables lie on the second device: it is asked for all three.
  by_table = cost_of("table_wise", layout)
  assert by_table.exchanged_bytes == 8 * 3 * (BATCH // 8) * (4 + 8 * DIM)
  # Of 2 + 3 + 6 x 2 columns it has 3.
  assert by_table.imbalance == pytest.approx(3 / (16 / 8))


def test_counts_of_a_batch_are_numpys():
  layout = make_layout()
  part = make_partition(layout, "row_wise", SHAPE)
  rng = np.random.default_rng(0)
  rows = rng.integers(0, 600, BATCH * 3)
  rows[::7] = 2**31 - 1
  found = distinct_counts(part, Workload(BATCH, 8, (0, 1, 1), rows))
  expected = np.zeros((8, 8), int)
  for asker, own in enumerate(rows.reshape(8, -1)):
    for row in set(own[own < 2048].tolist()):
      expected[asker, row // 256] += 1
  np.testing.assert_array_equal(found, expected)
  cost = cost_of("row_wise", layout, rows)
  served = expected.sum(axis=0)
  assert cost.imbalance == pytest.approx(served.max() / served.mean())
  assert expected.max() <= cost.capacity <= expected.max() * 1.1 + 8


def test_expected_counts_are_those_of_many_even_draws():
  layout = make_layout(sizes=(50, 200, 774))
  part = make_partition(layout, "row_wise", SHAPE)
  columns = (0, 0, 1, 2)
  expected = expected_counts(layout, part, Workload(BATCH, 8, columns))
  rng = np.random.default_rng(0)
  starts, sizes = np.array(layout.starts), np.array([50, 200, 774])
  place = np.tile(np.array(columns), BATCH // 8 * 8)
  total = np.zeros(8)
  for _ in range(600):
    rows = starts[place] + rng.integers(0, sizes[place])
    work = Workload(BATCH, 8, columns, rows)
    total += distinct_counts(part, work).mean(axis=0)
  np.testing.assert_allclose(expected, total / 600, rtol=0.04)


def test_every_strategy_has_a_cost_for_what_is_never_read():
  layout = make_layout(Adagrad())
  rows = np.full(BATCH * 3, 2**31 - 1)
  for strategy in STRATEGIES:
    assert cost_of(strategy, layout, rows).imbalance >= 1.0
