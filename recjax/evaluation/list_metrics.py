"""Metrics of lists of items, such as an index returns.

The rank of a target is its place in the list, and what is not in the list is
not found: a metric at a cut-off up to the length of the lists is the one of a
full ranking, while "mrr" is 0 beyond. Items with equal scores stand in the
order of the list; the tie rule of a protocol has no say.
"""

import numpy as np
from jaxtyping import Float, Int

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.evaluation.judging import judge
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.ranking import RankedTargets
from recjax.evaluation.sampling import unique_rows
from recjax.metrics.ranks import Ranks

_NOT_FOUND = 1 << 30


def list_recall(
  found: Int[np.ndarray, "query k"], right: Int[np.ndarray, "query k"]
) -> float:
  r"""The mean of |found \cap right| / |right|; ids of 0 do not count.

  Args:
    found: item ids, each at most once in a row.
    right: the same of exact search. Rows without an item are left out.

  Returns:
    A share in [0, 1]; 0 where no row has an item.
  """
  width = max(int(found.max(initial=0)), int(right.max(initial=0))) + 1
  rows = np.arange(len(right), dtype=np.int64)[:, None] * width
  both = np.isin(right + rows, found + rows) & (right > 0)
  num = (right > 0).sum(1)
  shares = both.sum(1)[num > 0] / num[num > 0]
  return float(shares.mean()) if len(shares) else 0.0


def list_metrics(
  lists: Int[np.ndarray, "query k"], eval_set: EvalSet, protocol: Protocol
) -> dict[str, Float[np.ndarray, " query"]]:
  """The metrics of a protocol, read off lists of items.

  Args:
    lists: item ids, the best first, each at most once in a row; 0 is no item.
    eval_set: the targets, one row a list.
    protocol: metrics and cut-offs, none above the length of the lists.

  Returns:
    One value a query. What is not in a list counts as not found.
  """
  most = max(int(lists.max(initial=0)), int(eval_set.targets.values.max()))
  targets = unique_rows((eval_set.targets,), len(eval_set), most)
  places = _places(lists, targets)
  is_target = np.arange(places.shape[1])[None, :] < targets.lengths[:, None]
  found = is_target & (places < _NOT_FOUND)
  # Found targets stand at different places; the others come after them all.
  order = np.argsort(np.argsort(places, 1), 1).astype(np.int32)
  before = np.minimum(order, found.sum(1, dtype=np.int32)[:, None])
  groups = []
  # Users with similar numbers of targets, so that few are padded to many.
  slots = 4 ** np.ceil(np.log2(targets.lengths) / 2).astype(np.int64)
  for width in map(int, np.unique(slots)):
    (rows,) = np.nonzero(slots == width)
    cut = lambda x, rows=rows, width=width: _as_wide(x[rows], width)
    none = np.zeros((len(rows), width), np.int32)
    ranks = Ranks(cut(places), none, cut(before), none, none)  # pyright: ignore
    no_nan = np.zeros(len(rows), bool)
    groups.append(RankedTargets(rows, ranks, cut(is_target), no_nan))
  values = judge(groups, eval_set, protocol)
  for key, _, k in protocol.values():
    if k is None:
      values[key] = np.where(found.any(1), values[key], 0)
  return values


def _as_wide(rows: np.ndarray, width: int) -> np.ndarray:
  """The first columns, or zeros after the last."""
  return np.pad(rows, ((0, 0), (0, max(0, width - rows.shape[1]))))[:, :width]


def _places(
  lists: Int[np.ndarray, "query k"], targets: Ragged
) -> Int[np.ndarray, "query item"]:
  """How many items stand before each target; rows are padded at the end."""
  out = np.full((len(targets), int(targets.lengths.max())), _NOT_FOUND)
  width = max(int(lists.max(initial=0)), int(targets.values.max())) + 1
  row, column = np.nonzero(lists)
  listed = row * width + lists[row, column]
  wanted = targets.row_ids * width + targets.values
  _, at, which = np.intersect1d(
    listed, wanted, assume_unique=True, return_indices=True
  )
  slot = which - targets.offsets[targets.row_ids[which]]
  out[targets.row_ids[which], slot] = column[at]
  return out.astype(np.int32)
