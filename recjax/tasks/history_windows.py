"""The history that stands beside a training event, cut out on the device.

Where events have an order, it is what came before. Where they have none, as in
the sets of graph papers, it is what else the user touched, each item once: the
target itself is left out, or the model would only have to copy it.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from recjax.data.ragged import Ragged
from recjax.errors import ConfigError, check_choice, check_range
from recjax.types import ITEM

ORDERS = ("before", "others")


@dataclasses.dataclass(frozen=True)
class HistoryWindow:
  """What a user tower sees of the items that a user touched.

  Attributes:
    max_len: most items; the last ones before the target are taken.
    order: "before": the training events before the target; "others": all
      other training items of the user, of more than `max_len` those that
      follow the target in an order drawn once.
    features: of an item, one id each, whose embeddings stand side by side.
    seed: of the order of "others".
  """

  max_len: int = 50
  order: str = "before"
  features: tuple[str, ...] = (ITEM,)
  seed: int = 0

  def __post_init__(self):
    check_range("HistoryWindow.max_len", self.max_len, 1, integer=True)
    check_choice("HistoryWindow.order", self.order, ORDERS)
    check_range("HistoryWindow.seed", self.seed, 0, integer=True)
    if not isinstance(self.features, tuple) or not self.features:
      raise ConfigError(
        "HistoryWindow.features must be a tuple of features of items, such as"
        f" ('item_id',); got {self.features!r}."
      )

  def constants(self, train_items: Ragged) -> dict[str, np.ndarray]:
    """The training items of all users, for `windows`.

    Args:
      train_items: row u of user u, in the order of time; row 0 is empty.

    Returns:
      "history_items" and "history_offsets"; items of user u lie in
      items[offsets[u]:offsets[u + 1]].
    """
    if self.order == "others":
      train_items, _ = self._drawn(train_items)
    return {
      "history_items": np.asarray(train_items.values, np.int32),
      "history_offsets": np.asarray(train_items.offsets, np.int32),
    }

  def _drawn(
    self, train_items: Ragged
  ) -> tuple[Ragged, Int[np.ndarray, " row"]]:
    """The items of each user once, in a random order that is always the same.

    With them the place of each training event's item among all of them.
    """
    items = train_items.values.astype(np.int64)
    vocab = int(items.max(initial=0)) + 1
    pairs, number = np.unique(
      train_items.row_ids * vocab + items, return_inverse=True
    )
    rows, items = np.divmod(pairs, vocab)
    draw = np.random.default_rng(self.seed).random(len(rows))
    order = np.lexsort((draw, rows))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    drawn = Ragged.from_pairs(rows, items[order], len(train_items))
    return drawn, place[number]

  def places(self, train_items: Ragged) -> Int[np.ndarray, " row"]:
    """Where each training event, in the order of users, stands in its user's.

    Args:
      train_items: as for `constants`.

    Returns:
      For each value of `train_items` its place among "history_items" of its
      user, from 0.
    """
    offsets, place = train_items.offsets, np.arange(len(train_items.values))
    if self.order == "others":
      drawn, place = self._drawn(train_items)
      offsets = drawn.offsets
    begin = np.repeat(offsets[:-1], train_items.lengths)
    return (place - begin).astype(np.int32)

  def served(self, history: Ragged) -> Int[np.ndarray, "row max_len"]:
    """Histories as the tower reads them when nothing is the target.

    Args:
      history: item ids, oldest first.

    Returns:
      Item ids, left-aligned, 0 where there is none.
    """
    if self.order == "others":
      history, _ = self._drawn(history)
    ids = history.last(self.max_len).padded(self.max_len)
    return ids.astype(np.int32)

  def windows(
    self,
    user_id: Int[Array, " batch"],
    place: Int[Array, " batch"],
    constants: dict[str, Array],
  ) -> tuple[Int[Array, "batch len"], Bool[Array, "batch len"]]:
    """The items of each training event's history, oldest first.

    Args:
      user_id: whose event.
      place: of `places`.
      constants: of `constants`.

    Returns:
      Item ids, 0 where there is none, and where there are any.
    """
    offsets = constants["history_offsets"]
    begin = offsets[user_id][:, None]
    total = offsets[user_id + 1][:, None] - begin
    step = jnp.arange(self.max_len, dtype=jnp.int32)[None, :]
    place = place[:, None]
    if self.order == "before":
      first = jnp.maximum(place - self.max_len, 0)
      where = step < place - first
      index = first + step
    else:
      # Cyclic: what follows the target, up to the target again.
      where = step < total - 1
      index = (place + 1 + step) % jnp.maximum(total, 1)
    items = constants["history_items"]
    index = jnp.where(where, begin + index, 0)
    return jnp.where(where, items[index], 0), where
