import numpy as np

from recjax.evaluation import item_blocks


def rows_of(ragged):
  return [ragged[row].tolist() for row in range(len(ragged))]


def test_candidates_are_counted(oracle):
  targets = oracle.ragged([[1], [2, 5], [4]])
  seen = oracle.ragged([[2, 3], [2, 4], []])
  count = lambda among: item_blocks.count_candidates(
    targets, seen, num_items=6, among=among
  ).tolist()
  # {1, 4, 5, 6}; {1, 2, 3, 5, 6}; all.
  assert count(None) == [4, 5, 6]
  # {1} and {3, 4} less {3}; {2, 5} and {3}; {3, 4}.
  assert count(np.array([3, 4])) == [2, 3, 2]


def test_without(oracle):
  rows = oracle.ragged([[1, 2, 3], [2], [4, 5]])
  gone = oracle.ragged([[2], [1], [4, 5]])
  assert rows_of(item_blocks.without(rows, gone, 5)) == [[1, 3], [2], []]


def test_layout():
  place, laid = item_blocks.lay_out(np.array([2, 3, 7]), 8, 2)
  assert place.tolist() == [-1, -1, 0, 1, -1, -1, -1, 2, -1]
  assert np.asarray(laid).tolist() == [[2, 3], [7, 0]]
  place, laid = item_blocks.lay_out(None, 3, 2)
  assert place.tolist() == [-1, 0, 1, 2] and laid is None


def test_a_plan_by_hand(oracle):
  own = np.array([[4, 1], [2, 0]], np.int32)
  seen = oracle.ragged([[5], [1, 3]])
  place, _ = item_blocks.lay_out(None, 5, 2)
  plan = item_blocks.make_plan(own, seen, place, 2, 6)
  # Distinct targets and padding: 0 1 2 4 in two blocks; then 12, 34 and 5.
  assert np.asarray(plan.target_ids).tolist() == [[0, 1], [2, 4]]
  assert np.asarray(plan.position).tolist() == [[3, 1], [2, 0]]
  offsets = np.asarray(plan.skip_offsets)
  assert offsets.tolist() == [0, 0, 0, 3, 5, 6]
  blocks = [
    {tuple(map(int, skip)) for skip in np.asarray(plan.skips)[:, a:b].T}
    for a, b in zip(offsets[2:-1], offsets[3:])
  ]
  # (user, column, target): item 1 is user 0's target 1 and seen by user 1.
  assert blocks[0] == {(0, 0, 1), (1, 0, -1), (1, 1, 0)}
  assert blocks[1] == {(0, 1, 0), (1, 0, -1)}
  assert blocks[2] == {(0, 0, -1)}


def test_powers_of_two():
  found = [item_blocks.power_of_two(number) for number in (0, 1, 2, 3, 64, 65)]
  assert found == [1, 1, 2, 4, 64, 128]
