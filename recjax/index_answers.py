"""What `recjax query` prints: items for users, and neighbours of items."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from rich import console, markup, table

from recjax.data.interactions import Interactions
from recjax.errors import ConfigError
from recjax.index_queries import Names, known_users, request_set
from recjax.retrieval.index import Index
from recjax.types import Params

_SHOWN_HISTORY = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
  """Who is asked, and for how many items.

  Attributes:
    bench: data and task of a run.
    weights: of the run.
    index: of its items.
    k: how many items.
  """

  bench: Any
  weights: Params
  index: Index
  k: int

  def __post_init__(self):
    if not 1 <= self.k <= self.index.num_items:
      raise ConfigError(
        f"--k must lie in [1, {self.index.num_items}], for"
        f" {self.bench.data_name} has so many items; got {self.k}."
      )

  @property
  def interactions(self) -> Interactions:
    """The data."""
    return self.bench.interactions

  @functools.cached_property
  def items(self) -> Names:
    """The names of the items."""
    return Names.of_items(self.interactions)

  def found_table(
    self,
    title: str,
    ids: Int[np.ndarray, " k"],
    scores: Float[np.ndarray, " k"] | None,
  ) -> table.Table:
    """Items with names, scores and training counts; ids of 0 are left out."""
    shown = table.Table(title=markup.escape(title), title_justify="left")
    for header in ("", "item", "name", "score", "training events"):
      right = header not in ("item", "name")
      shown.add_column(header, justify="right" if right else "left")
    for place, item in enumerate(ids[ids > 0]):
      score = "" if scores is None else f"{scores[place]:.4f}"
      shown.add_row(
        str(place + 1),
        markup.escape(str(self.items.raw_id[item - 1])),
        markup.escape(str(self.items.name[item - 1])),
        score,
        f"{int(self.bench.counts[item]):,}",
      )
    return shown


def answer(asked: Asked, users: Sequence[str], items: Sequence[str]) -> None:
  """Prints what the index finds.

  Args:
    asked: the index and how many items.
    users: raw ids; unknown ones get the most popular items.
    items: raw ids or names.

  Raises:
    ConfigError: an item is unknown (names the nearest), or several are meant.
  """
  found = [asked.items.find(item) for item in items]
  for text, item in zip(items, found):
    if item is None:
      raise ConfigError(asked.items.unknown(text))
  out = console.Console()
  if users:
    _answer_users(asked, users, out)
  if items:
    _answer_items(asked, np.array(found, np.int32), out)


def _answer_users(
  asked: Asked, users: Sequence[str], out: console.Console
) -> None:
  names = Names.of_users(asked.interactions)
  found = [names.find(user) or 0 for user in users]
  known = np.isin(found, known_users(asked.interactions))
  ids = np.array(found, np.int32)
  lists = _recommend(asked, ids[known])
  row = 0
  for user, user_id, is_known in zip(users, ids, known):
    if not is_known:
      reason = names.unknown(user)
      if user_id:
        reason = f"user {user!r} has no event in {asked.bench.data_name}."
      print(f"{reason} These are the most popular items instead.")
      popular = _most_popular(asked)
      out.print(asked.found_table(f"user {user}: popularity", popular, None))
      continue
    _print_history(asked, user, int(user_id), out)
    scores, items = lists[0][row], lists[1][row]
    row += 1
    out.print(
      asked.found_table(
        f"user {user}: {asked.index.config.kind}", items, scores
      )
    )
    if (items == 0).any():
      print(f"Only {int((items > 0).sum())} items are left for user {user}.")


def _recommend(asked: Asked, user_id: Int[np.ndarray, " user"]) -> tuple:
  """Scores and items of users, without those of their histories."""
  if not len(user_id):
    return (), ()
  requests = request_set(asked.interactions, user_id)
  queries = asked.bench.user_vectors(asked.weights, requests)
  excluded = None
  if asked.bench.protocol.exclude_seen != "none":
    history = requests.history
    excluded = history.padded(int(history.lengths.max()))
  return asked.index.search(queries, k=asked.k, excluded=excluded)


def _most_popular(asked: Asked) -> Int[np.ndarray, " k"]:
  counts = np.asarray(asked.bench.counts)[1 : asked.index.num_items + 1]
  return np.argsort(-counts, kind="stable")[: asked.k] + 1


def _print_history(
  asked: Asked, user: str, user_id: int, out: console.Console
) -> None:
  offsets = asked.interactions.user_offsets
  history = asked.interactions.item_id[offsets[user_id] : offsets[user_id + 1]]
  in_training = np.isin(
    asked.bench.split.train, np.arange(offsets[user_id], offsets[user_id + 1])
  ).sum()
  last = history[-_SHOWN_HISTORY:][::-1]
  names = ", ".join(str(asked.items.name[item - 1]) for item in last)
  note = "" if in_training else "; none of training, so little is known"
  kept = asked.bench.protocol.exclude_seen == "none"
  seen = "may come again" if kept else "are left out"
  out.print(
    f"user {user}: {len(history):,} events{note}; they {seen}. The last:"
    f" {names}",
    markup=False,
    highlight=False,
  )


def _answer_items(
  asked: Asked, item_id: Int[np.ndarray, " item"], out: console.Console
) -> None:
  vectors = asked.bench.item_vectors(asked.weights)
  k = min(asked.k, asked.index.num_items - 1)
  if not k:
    raise ConfigError(f"{asked.bench.data_name} has one item: no neighbours.")
  scores, found = asked.index.search(
    vectors[item_id], k=k, excluded=item_id[:, None]
  )
  for row, item in enumerate(item_id):
    name = asked.items.name[item - 1]
    out.print(asked.found_table(f"nearest to {name}", found[row], scores[row]))
