"""What is asked of a model at evaluation: histories and their targets."""

import dataclasses

import numpy as np
from jaxtyping import Int

from recjax.data.interactions import Interactions
from recjax.data.ragged import Ragged
from recjax.data.split import Split
from recjax.errors import DataError, check_choice

PER = ("user", "event")


@dataclasses.dataclass(frozen=True, eq=False)
class EvalSet:
  """Queries with at least one target, and what may be known of their users.

  Attributes:
    user_id: the user of each query, in increasing order; a user may have
      several queries.
    history: the items a model may see, in time order: training items for
      validation, training and validation items for test, and the context
      rows of the split that precede the user's first target.
    targets: the items to be found, one or more a query.
    train_items: the user's training items alone; some protocols exclude
      these, and not the whole history, from the candidates.
    rows: the row in Interactions of the first target of each query, where
      the context of the request stands; empty where nobody told.
  """

  user_id: Int[np.ndarray, " query"]
  history: Ragged
  targets: Ragged
  train_items: Ragged
  rows: Int[np.ndarray, " _"] = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )

  def __len__(self) -> int:
    return len(self.user_id)

  def take(self, rows: Int[np.ndarray, " taken"]) -> "EvalSet":
    """The queries at the positions `rows`."""
    return EvalSet(
      self.user_id[rows],
      self.history.take(rows),
      self.targets.take(rows),
      self.train_items.take(rows),
      self.rows[rows] if len(self.rows) else self.rows,
    )


def make_eval_set(
  interactions: Interactions, split: Split, part: str, per: str = "user"
) -> EvalSet:
  """Gathers histories and targets of the validation or the test part.

  Args:
    interactions: the data.
    split: its split.
    part: "validation" or "test".
    per: "user" makes one query of each user, with all of the user's targets;
      "event" one query of each target row, with that target alone. What a
      model may see is the same.

  Returns:
    The queries of the users that have a target in that part.

  Raises:
    ConfigError: `part` or `per` is unknown.
    DataError: the part is empty.
  """
  check_choice("part", part, ("validation", "test"))
  check_choice("per", per, PER)
  target_rows = getattr(split, part)
  if not len(target_rows):
    raise DataError(
      f"the {part} set of {interactions.name!r} is empty under the split"
      f" {split.name}: every user may have too few interactions. See"
      " `recjax data` for the history lengths."
    )
  known = [split.train, _context_before(interactions, split, target_rows)]
  if part == "test":
    known.append(split.validation)
  by_user = lambda rows: _group(interactions, np.sort(rows))
  rows = np.sort(target_rows)
  users = interactions.user_id[rows]
  if per == "event":
    targets = Ragged(interactions.item_id[rows], np.arange(len(rows) + 1))
  else:
    users, first = np.unique(users, return_index=True)
    targets = by_user(rows).take(users)
    rows = rows[first]
  return EvalSet(
    users,
    by_user(np.concatenate(known)).take(users),
    targets,
    by_user(split.train).take(users),
    rows,
  )


def _context_before(
  interactions: Interactions,
  split: Split,
  target_rows: Int[np.ndarray, " target"],
) -> Int[np.ndarray, " row"]:
  """The context rows of each user that precede the user's first target."""
  first = np.full(interactions.num_users + 1, len(interactions))
  np.minimum.at(first, interactions.user_id[target_rows], target_rows)
  rows = split.context
  return rows[rows < first[interactions.user_id[rows]]]


def _group(interactions: Interactions, rows: np.ndarray) -> Ragged:
  return Ragged.from_pairs(
    interactions.user_id[rows],
    interactions.item_id[rows],
    interactions.num_users + 1,
  )
