"""Who is meant by an id on a command line, and what is asked for them."""

import dataclasses
import difflib
import re
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int, Shaped

from recjax.data.eval_set import EvalSet
from recjax.data.interactions import Interactions
from recjax.data.ragged import Ragged
from recjax.errors import ConfigError

_NUM_NEAREST = 3
_INTEGER = re.compile(r"-?[0-9]{1,17}")
# Comparing letter by letter takes a second for so many names.
_MAX_COMPARED = 50_000


@dataclasses.dataclass(frozen=True, eq=False)
class Names:
  """How users or items are called.

  Attributes:
    kind: "user" or "item".
    data_name: the data set, for messages.
    raw_id: of id i at place i - 1, as the source has it.
    name: what is shown, likewise: the title where there is one.
  """

  kind: str
  data_name: str
  raw_id: Shaped[np.ndarray, " row"]
  name: Shaped[np.ndarray, " row"]

  @classmethod
  def of_items(cls, interactions: Interactions) -> "Names":
    """The names of the items of a data set."""
    table, num = interactions.items, interactions.num_items
    return cls("item", interactions.name, *_names(table, num))

  @classmethod
  def of_users(cls, interactions: Interactions) -> "Names":
    """The names of its users."""
    table, num = interactions.users, interactions.num_users
    return cls("user", interactions.name, *_names(table, num))

  def find(self, text: str) -> int | None:
    """The id of a raw id, or else of a name; None where nobody is called so.

    Raises:
      ConfigError: several are.
    """
    for column in (self.raw_id, self.name):
      (rows,) = np.nonzero(column == text)
      if len(rows) > 1:
        found = ", ".join(map(repr, self.raw_id[rows[:5]]))
        raise ConfigError(
          f"--{self.kind}={text} may be any of {len(rows)} {self.kind}s of"
          f" {self.data_name}; give the id: {found}."
        )
      if len(rows):
        return int(rows[0]) + 1
    return None

  def nearest(self, text: str) -> list[str]:
    """Raw ids nearest to a text: by value if both are whole numbers."""
    raw = self.raw_id
    if _INTEGER.fullmatch(text):
      numbers = [i for i, x in enumerate(raw) if _INTEGER.fullmatch(x)]
      if numbers:
        distance = np.abs(raw[numbers].astype(np.int64) - int(text))
        rows = np.argsort(distance, kind="stable")[:_NUM_NEAREST]
        return [str(raw[numbers[row]]) for row in rows]
    names = dict.fromkeys([*raw[:_MAX_COMPARED], *self.name[:_MAX_COMPARED]])
    return difflib.get_close_matches(
      text, list(names), n=_NUM_NEAREST, cutoff=0.3
    )

  def unknown(self, text: str) -> str:
    """A sentence that says so, and names the nearest."""
    close = self.nearest(text)
    start = "The nearest known" if close else "Known are, for instance"
    close = close or [str(raw) for raw in self.raw_id[:_NUM_NEAREST]]
    return (
      f"{self.data_name} has no {self.kind} {text!r}. {start}:"
      f" {', '.join(map(repr, close))}."
    )


def _names(
  table: pa.Table | None, num: int
) -> tuple[Shaped[np.ndarray, " row"], Shaped[np.ndarray, " row"]]:
  if table is None:
    ids = np.arange(1, num + 1).astype(str).astype(object)
    return ids, ids
  raw = _texts(table, "raw_id")
  if "title" not in table.column_names:
    return raw, raw
  title = _texts(table, "title")
  return raw, np.where(title == "", raw, title)


def _texts(table: pa.Table, column: str) -> Shaped[np.ndarray, " row"]:
  texts = [
    "" if x is None else str(x) for x in table.column(column).to_pylist()
  ]
  return np.array(texts, object)


def item_values(interactions: Interactions, name: str) -> Any:
  """A column of the table of items, to colour a plot by.

  Args:
    interactions: the data.
    name: of the column. Of a list, such as genres, the first entry counts;
      what is missing is "unknown", or NaN among numbers.

  Returns:
    One value an item, texts or numbers.

  Raises:
    ConfigError: there is no such column.
  """
  table = interactions.items
  known = [] if table is None else table.column_names
  if table is None or name not in known:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(
      f"the items of {interactions.name} have no column {name!r}; they have"
      f" {', '.join(known) or 'none'}.{hint}"
    )
  values = table.column(name).to_pylist()
  values = [(x or [None])[0] if isinstance(x, list) else x for x in values]
  if all(x is None or isinstance(x, (int, float)) for x in values):
    return np.array([np.nan if x is None else x for x in values], np.float64)
  return np.array(["unknown" if x is None else str(x) for x in values])


def request_set(
  interactions: Interactions, user_id: Int[np.ndarray, " user"]
) -> EvalSet:
  """What users may be asked about after all that is known of them.

  Args:
    interactions: the data.
    user_id: users with at least one row.

  Returns:
    Their whole histories, no targets; the context of a request is the one of
    the user's last row.
  """
  offsets = interactions.user_offsets
  whole = Ragged(interactions.item_id, offsets)
  history = whole.take(user_id)
  none = Ragged(np.zeros(0, np.int32), np.zeros(len(user_id) + 1, np.int64))
  return EvalSet(user_id, history, none, history, offsets[user_id + 1] - 1)


def known_users(interactions: Interactions) -> Int[np.ndarray, " user"]:
  """The users with at least one row."""
  return np.flatnonzero(np.diff(interactions.user_offsets)).astype(np.int32)
