"""Draws the candidates that a protocol asks for, without a loop over users."""

import numpy as np
from jaxtyping import Int

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.errors import DataError
from recjax.evaluation.candidates import (
  GivenLists,
  PopularityNegatives,
  UniformNegatives,
)


def draw_candidates(
  spec: UniformNegatives | PopularityNegatives | GivenLists,
  eval_set: EvalSet,
  num_items: int,
  counts: Int[np.ndarray, " vocab"] | None = None,
) -> Int[np.ndarray, "user cand"]:
  """The candidates of every user beside the targets.

  Args:
    spec: what to draw.
    eval_set: the users.
    num_items: the size of the catalogue.
    counts: how often each item was seen, for `PopularityNegatives`.

  Returns:
    int32 item ids; 0 is padding.

  Raises:
    DataError: a user leaves too few items to draw from, or a given list is
      missing or does not fit the data.
  """
  if isinstance(spec, GivenLists):
    return _given(spec, eval_set, num_items)
  weights = np.ones(num_items + 1, np.int64)
  if isinstance(spec, PopularityNegatives):
    if counts is None:
      raise DataError(
        f"popularity negatives need item counts from {spec.counts_from!r} data;"
        " got none."
      )
    weights = np.array(counts, np.int64)
  weights[0] = 0
  draw = _Draw(weights, _excluded(spec.exclude, eval_set, num_items))
  needed = 1 if spec.with_replacement else spec.num
  short = draw.num_available() < needed
  if short.any():
    row = int(np.argmax(short))
    raise DataError(
      f"user {eval_set.user_id[row]} leaves {draw.num_available()[row]} items"
      f" to draw {spec.num} negatives from"
      f" ({int(short.sum())} such users); draw fewer, with replacement, or rank"
      " the full catalogue."
    )
  rng = np.random.default_rng(spec.seed)
  if spec.with_replacement:
    return draw.items(rng, np.arange(len(eval_set)), spec.num)
  return _draw_distinct(draw, rng, len(eval_set), spec.num)


def pool_sizes(
  spec: UniformNegatives, eval_set: EvalSet, num_items: int
) -> Int[np.ndarray, " user"]:
  """Among how many items each user's negatives are drawn.

  Args:
    spec: what is drawn.
    eval_set: the users.
    num_items: the size of the catalogue.
  """
  return num_items - _excluded(spec.exclude, eval_set, num_items).lengths


def _excluded(exclude: str, eval_set: EvalSet, num_items: int) -> Ragged:
  """The distinct items of each user that are never drawn."""
  parts = {
    "none": (),
    "train": (eval_set.train_items,),
    "history": (eval_set.train_items, eval_set.history),
    "history_and_targets": (
      eval_set.train_items,
      eval_set.history,
      eval_set.targets,
    ),
  }[exclude]
  return unique_rows(parts, len(eval_set), num_items)


def unique_rows(
  parts: tuple[Ragged, ...], num_rows: int, num_items: int
) -> Ragged:
  """The distinct items of each row over all parts, in increasing order."""
  width = num_items + 1
  keys = [part.row_ids * width + part.values for part in parts]
  keys = np.unique(np.concatenate([np.zeros(0, np.int64), *keys]))
  return Ragged.from_pairs(keys // width, keys % width, num_rows)


class _Draw:
  """Draws items of a row in proportion to weights, excluded ones left out.

  The weights that a row leaves are laid on a line; a uniform integer on that
  line is an item, found by skipping the excluded stretches: no rejection.
  """

  def __init__(
    self, weights: Int[np.ndarray, " vocab"], excluded: Ragged
  ) -> None:
    self.weights, self.excluded = weights, excluded
    self.ends = np.cumsum(weights)
    skipped = weights[excluded.values]
    self.skipped = np.concatenate([[0], np.cumsum(skipped)])
    before = self.skipped[:-1] - self.skipped[excluded.offsets[:-1]].repeat(
      excluded.lengths
    )
    starts = self.ends[excluded.values] - skipped
    # Where each excluded stretch begins on the row's own line.
    self.keys = excluded.row_ids * (self.ends[-1] + 1) + starts - before
    self.totals = self.ends[-1] - np.diff(self.skipped[excluded.offsets])

  def num_available(self) -> Int[np.ndarray, " user"]:
    """How many items of positive weight each row leaves."""
    positive = np.concatenate(
      [[0], np.cumsum(self.weights[self.excluded.values] > 0)]
    )
    gone = np.diff(positive[self.excluded.offsets])
    return np.count_nonzero(self.weights) - gone

  def items(
    self,
    rng: np.random.Generator,
    rows: Int[np.ndarray, " user"],
    num: int,
  ) -> Int[np.ndarray, "user cand"]:
    """`num` independent draws for each of the rows."""
    point = rng.integers(0, self.totals[rows][:, None], (len(rows), num))
    key = rows[:, None] * (self.ends[-1] + 1) + point
    passed = np.searchsorted(self.keys, key, side="right")
    first = self.excluded.offsets[rows][:, None]
    point = point + self.skipped[passed] - self.skipped[first]
    return np.searchsorted(self.ends, point, side="right").astype(np.int32)


def _draw_distinct(
  draw: _Draw, rng: np.random.Generator, num_rows: int, num: int
) -> Int[np.ndarray, "user cand"]:
  """Successive sampling: the first `num` distinct items of a stream."""
  out = np.zeros((num_rows, num), np.int32)
  rows = np.arange(num_rows)
  for _ in range(16):
    stream = np.concatenate(
      [out[rows], draw.items(rng, rows, num + num // 2)], axis=1
    )
    order = np.argsort(stream, axis=1, kind="stable")
    ranked = np.take_along_axis(stream, order, axis=1)
    new = np.ones_like(ranked, bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    new &= ranked > 0
    first = np.zeros_like(new)
    np.put_along_axis(first, order, new, axis=1)
    place = np.cumsum(first, axis=1) - 1
    keep = first & (place < num)
    row = np.broadcast_to(rows[:, None], keep.shape)
    out[row[keep], place[keep]] = stream[keep]
    rows = rows[out[rows, -1] == 0]
    if not len(rows):
      return out
  _race(draw, rng, out, rows)
  return out


def _race(
  draw: _Draw,
  rng: np.random.Generator,
  out: Int[np.ndarray, "user cand"],
  rows: Int[np.ndarray, " short"],
) -> None:
  """Fills rows that a few items dominate: exponential times, the first win."""
  for block in np.array_split(rows, -(-len(rows) // 256)):
    rate = np.tile(draw.weights.astype(float), (len(block), 1))
    gone = draw.excluded.take(block)
    rate[gone.row_ids, gone.values] = 0
    rate[np.arange(len(block))[:, None], out[block]] = 0
    with np.errstate(divide="ignore"):
      times = rng.exponential(size=rate.shape) / rate
    num = out.shape[1]
    best = np.argpartition(times, num - 1, axis=1)[:, :num]
    by_time = np.argsort(np.take_along_axis(times, best, axis=1), axis=1)
    best = np.take_along_axis(best, by_time, axis=1)
    filled = np.count_nonzero(out[block], axis=1)[:, None]
    place = np.arange(num)[None, :]
    wins = np.take_along_axis(best, np.maximum(place - filled, 0), axis=1)
    out[block] = np.where(place < filled, out[block], wins)


def _given(
  spec: GivenLists, eval_set: EvalSet, num_items: int
) -> Int[np.ndarray, "user cand"]:
  lists, positives = spec.content
  users = eval_set.user_id
  known = users < len(lists)
  known[known] = lists.lengths[users[known]] > 0
  if not known.all():
    raise DataError(
      f"no given list for user {users[~known][0]}"
      f" ({int((~known).sum())} such users)."
    )
  rows = lists.take(users)
  if rows.values.min() < 1 or rows.values.max() > num_items:
    raise DataError(
      f"given lists hold item ids {rows.values.min()} to {rows.values.max()};"
      f" the catalogue has 1 to {num_items}. Files that count from 0 need"
      " id_offset=1."
    )
  width = num_items + 1
  targets = eval_set.targets.row_ids * width + eval_set.targets.values
  positive = np.arange(len(users)) * width + positives[users]
  wrong = (positives[users] > 0) & ~np.isin(positive, targets)
  if wrong.any():
    row = int(np.argmax(wrong))
    raise DataError(
      f"the given list of user {users[row]} is for item"
      f" {positives[users[row]]}, which is not a target of that user."
    )
  keys = np.unique(rows.row_ids * width + rows.values)
  keys = keys[~np.isin(keys, targets)]
  merged = Ragged.from_pairs(keys // width, keys % width, len(users))
  return merged.padded(int(merged.lengths.max())).astype(np.int32)
