"""What is asked of a model at evaluation: histories and their targets."""

import dataclasses

import numpy as np
from jaxtyping import Int

from recjax.data.interactions import Interactions
from recjax.data.ragged import Ragged
from recjax.data.split import Split
from recjax.errors import DataError, check_choice


@dataclasses.dataclass(frozen=True, eq=False)
class EvalSet:
  """Users with at least one target, and what may be known of them.

  Attributes:
    user_id: the users, in increasing order.
    history: the items a model may see, in time order: training items for
      validation, training and validation items for test, and the context
      rows of the split that precede the user's first target.
    targets: the items to be found, one or more a user.
    train_items: the user's training items alone; some protocols exclude
      these, and not the whole history, from the candidates.
  """

  user_id: Int[np.ndarray, " user"]
  history: Ragged
  targets: Ragged
  train_items: Ragged

  def __len__(self) -> int:
    return len(self.user_id)

  def take(self, rows: Int[np.ndarray, " taken"]) -> "EvalSet":
    """The users at the positions `rows`."""
    return EvalSet(
      self.user_id[rows],
      self.history.take(rows),
      self.targets.take(rows),
      self.train_items.take(rows),
    )


def make_eval_set(
  interactions: Interactions, split: Split, part: str
) -> EvalSet:
  """Gathers histories and targets of the validation or the test part.

  Args:
    interactions: the data.
    split: its split.
    part: "validation" or "test".

  Returns:
    The users that have a target in that part.

  Raises:
    ConfigError: `part` is neither.
    DataError: the part is empty.
  """
  check_choice("part", part, ("validation", "test"))
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
  users = np.unique(interactions.user_id[target_rows])
  return EvalSet(
    users,
    by_user(np.concatenate(known)).take(users),
    by_user(target_rows).take(users),
    by_user(split.train).take(users),
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
