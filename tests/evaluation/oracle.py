"""Evaluation data by hand, and rankings by brute force."""

import numpy as np

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged


def ragged(rows, dtype=np.int32) -> Ragged:
  """Rows of a list of lists."""
  lengths = [len(row) for row in rows]
  values = np.array([v for row in rows for v in row], dtype)
  return Ragged.from_pairs(
    np.repeat(np.arange(len(rows)), lengths), values, len(rows)
  )


def eval_set(histories, targets, train=None, user_id=None) -> EvalSet:
  """An evaluation set from lists of lists."""
  user_id = np.arange(1, len(targets) + 1) if user_id is None else user_id
  return EvalSet(
    np.asarray(user_id, np.int32),
    ragged(histories),
    ragged(targets),
    ragged(histories if train is None else train),
  )


def random_eval_set(seed, num_users, num_items, num_targets=1) -> EvalSet:
  """Histories with repeats; up to `num_targets` targets, some of them seen."""
  rng = np.random.default_rng(seed)
  draw = lambda n: rng.integers(1, num_items + 1, n).tolist()
  train = [draw(rng.integers(1, 12)) for _ in range(num_users)]
  histories = [row + draw(1) for row in train]
  targets = [
    rng.choice(
      np.arange(1, num_items + 1), rng.integers(1, num_targets + 1), False
    ).tolist()
    for _ in range(num_users)
  ]
  targets[0][0] = histories[0][0]
  return eval_set(histories, targets, train)


def places(scores, targets, candidates):
  """(higher, tied others) of each target among the distinct candidates."""
  out = []
  for target in targets:
    others = [c for c in candidates if c != target]
    above = sum(scores[c] > scores[target] for c in others)
    tied = sum(scores[c] == scores[target] for c in others)
    out.append((above, tied))
  return out
