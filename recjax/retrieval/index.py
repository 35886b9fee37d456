"""One interface for everything that finds the nearest items of a query.

    index = ScannConfig(num_leaves=1000).make_index(checkpoint="run 7, step 9")
    index.build(vectors, item_id)
    scores, item_id = index.search(queries, k=100, excluded=seen)
    index.save(folder)

The score of an item is the inner product, or with similarity "cosine" the one
of the normalized vectors. A query of several interests scores an item by the
maximum over them.

An index remembers what it was built from: the SHA-256 of its items and the
text that names their checkpoint. `recjax.retrieval.saved_index.load_index`
refuses another's.
"""

import abc
import copy
import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import ArrayLike, Bool, Float32, Int, Int32

from recjax.errors import ConfigError, check_choice, check_range, nearest
from recjax.retrieval import index_files, index_inputs

SIMILARITIES = ("dot", "cosine")

_IDS = "item_id.npy"
_FACTS = ("similarity", "dim", "fingerprint", "checkpoint", "build_secs")

Found = tuple[Float32[np.ndarray, "batch k"], Int32[np.ndarray, "batch k"]]
"""Scores in falling order, and what they belong to."""


class IndexConfig(Protocol):
  """The settings of one kind of index: a frozen dataclass."""

  kind: ClassVar[str]
  """The name of the kind in a saved index."""
  search_fields: ClassVar[tuple[str, ...]]
  """Fields that a built index can change; see `Index.retuned`."""

  def make_index(
    self, *, similarity: str = "dot", checkpoint: str = ""
  ) -> "Index":
    """An index without items."""
    ...


class Index(abc.ABC):
  """Finds the k items of the highest scores.

  Attributes:
    config: the settings.
    similarity: "dot" or "cosine".
    checkpoint: names the weights that the vectors come from.
    fingerprint: the SHA-256 of the items, see `items_fingerprint`.
    build_secs: what building and adding took.
    dim: the width of the vectors; 0 before there are any.
  """

  def __init__(
    self, config: Any, *, similarity: str = "dot", checkpoint: str = ""
  ):
    """Makes an index without items.

    Args:
      config: the settings.
      similarity: "dot" or "cosine".
      checkpoint: any text that names the weights behind the vectors.

    Raises:
      ConfigError: the similarity is unknown.
    """
    check_choice("similarity", similarity, SIMILARITIES)
    self.config: Any = config
    self.similarity = similarity
    self.checkpoint = checkpoint
    self.fingerprint = ""
    self.build_secs = 0.0
    self.dim = 0
    self.item_id: Int32[np.ndarray, " item"] = np.zeros(0, np.int32)

  @property
  def num_items(self) -> int:
    """How many items there are to find."""
    return len(self.item_id)

  @property
  @abc.abstractmethod
  def memory_bytes(self) -> int:
    """What vectors, codes and centroids or links take, in bytes."""

  def build(self, vectors: ArrayLike, item_id: ArrayLike) -> "Index":
    """Takes these items in place of any it had.

    Args:
      vectors: one row an item, [item, dim].
      item_id: their ids, [item], from 1, each once, in any order.

    Returns:
      The index itself.

    Raises:
      ConfigError: a setting does not fit the number of items.
      DataError: no items, no numbers, NaN, or an id twice.
    """
    start = time.perf_counter()
    rows, ids = index_inputs.checked_items(vectors, item_id)
    self._check_fit(*rows.shape)
    self.fingerprint = index_inputs.items_fingerprint(rows, ids)
    self._build(self._normalized(rows))
    self.item_id, self.dim = ids, rows.shape[1]
    self.build_secs = time.perf_counter() - start
    return self

  def add(self, vectors: ArrayLike, item_id: ArrayLike) -> "Index":
    """Takes more items.

    ScaNN and FAISS put them where their trained centroids and codebooks say,
    so that many items unlike the first ones cost recall: build anew then. The
    exact index lays all its items out anew.

    Args:
      vectors: one row an item, [item, dim].
      item_id: their ids, [item], none of which is there yet.

    Returns:
      The index itself. Its fingerprint is the one of a chain:
      `items_fingerprint(vectors, item_id, after=fingerprint)`.

    Raises:
      DataError: as for `build`, or the index is empty.
    """
    self._check_filled()
    start = time.perf_counter()
    rows, ids = index_inputs.checked_items(
      vectors, item_id, dim=self.dim, taken=self.item_id
    )
    self.fingerprint = index_inputs.items_fingerprint(
      rows, ids, after=self.fingerprint
    )
    self.item_id = self._add(self._normalized(rows), ids)
    self.build_secs += time.perf_counter() - start
    return self

  def search(
    self, queries: ArrayLike, *, k: int, excluded: ArrayLike | None = None
  ) -> Found:
    """The k items of the highest scores; of equal ones the lower ids.

    Excluded items are left out of a longer list of found ones, for which so
    many times more of the catalogue is looked at.

    Args:
      queries: [batch, dim], or [batch, interest, dim] of which each item takes
        the highest score.
      k: how many items.
      excluded: ids never returned, [batch, len]; 0 is padding.

    Returns:
      Scores and item ids [batch, k]. Where fewer than k items are found the
      rest has score -inf and id 0.

    Raises:
      ConfigError: k is not in [1, num_items].
      DataError: the index is empty, or queries are of another width, NaN or
        no numbers.
    """
    self._check_filled()
    check_range("k", k, 1, self.num_items, integer=True)
    rows = self._normalized(index_inputs.checked_queries(queries, self.dim))
    if excluded is None:
      return self._search(rows, k, k, None)
    seen = index_inputs.checked_excluded(excluded, len(rows))
    lengths = (seen > 0).sum(1)
    # Powers of two: few lengths, so that little is compiled anew.
    longer = np.where(lengths > 0, 1 << np.int64(np.ceil(np.log2(
      np.maximum(lengths, 8)))), 0)  # fmt: skip
    fetch = np.minimum(k + longer, self.num_items)
    scores = np.empty((len(rows), k), np.float32)
    found = np.empty((len(rows), k), np.int32)
    for length in np.unique(fetch):
      (of,) = np.nonzero(fetch == length)
      scores[of], found[of] = self._search(rows[of], k, int(length), seen[of])
    return scores, found

  def retuned(self, **changes: Any) -> "Index":
    """The same items under other settings of the search, nothing rebuilt.

    Args:
      **changes: values of fields in the config's `search_fields`.

    Returns:
      An index that shares all memory with this one: add items to neither, for
      the other would not know their ids.

    Raises:
      ConfigError: a field can not change once the index is built.
    """
    allowed = self.config.search_fields
    for name in changes:
      if name not in allowed:
        names = ", ".join(allowed) or "nothing"
        raise ConfigError(
          f"{type(self.config).__name__}.{name} can not change in a built"
          f" index; {names} can.{nearest(name, allowed)}"
        )
    other = copy.copy(self)
    other.config = dataclasses.replace(self.config, **changes)
    return other

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes the index into a folder, whole or not at all.

    Raises:
      DataError: the index is empty.
    """
    self._check_filled()

    def write(inside: pathlib.Path) -> None:
      np.save(inside / _IDS, self.item_id)
      self.write_files(inside)

    facts = {
      "kind": self.config.kind,
      "settings": dataclasses.asdict(self.config),
      **{name: getattr(self, name) for name in _FACTS},
      "num_items": self.num_items,
      "versions": self.package_versions(),
    }
    index_files.save_folder(folder, write, facts)

  def read(self, folder: pathlib.Path, manifest: Mapping[str, Any]) -> "Index":
    """Takes what was saved, once `index_files.check_folder` found it whole."""
    for name in _FACTS:
      setattr(self, name, manifest[name])
    self.item_id = np.load(folder / _IDS)
    self.read_files(folder)
    return self

  # --- What a kind of index gives ------------------------------------------

  @abc.abstractmethod
  def _build(self, vectors: Float32[np.ndarray, "item dim"]) -> None:
    """Takes these vectors; their places are the rows."""

  @abc.abstractmethod
  def _add(
    self,
    vectors: Float32[np.ndarray, "item dim"],
    item_id: Int32[np.ndarray, " item"],
  ) -> Int32[np.ndarray, " vocab"]:
    """Takes more vectors; returns the ids of all places."""

  @abc.abstractmethod
  def _nearest(
    self, queries: Float32[np.ndarray, "batch dim"], k: int, *, widened: int
  ) -> tuple[Float32[np.ndarray, "batch k"], Int[np.ndarray, "batch k"]]:
    """Scores in falling order and places; -inf and -1 where none is found.

    `widened` times as much of the catalogue is looked at as the settings say.
    """

  @abc.abstractmethod
  def write_files(self, folder: pathlib.Path) -> None:
    """Writes everything but ids and manifest into an empty folder."""

  @abc.abstractmethod
  def read_files(self, folder: pathlib.Path) -> None:
    """Reads what `write_files` wrote; `item_id` and `dim` are known."""

  def package_versions(self) -> dict[str, str]:
    """The packages that a saved index depends on."""
    return {"numpy": np.__version__}

  def _check_fit(self, num_items: int, dim: int) -> None:
    """Raises ConfigError where the settings do not fit the vectors."""
    del num_items, dim

  def _most_widened(self) -> int:
    """The factor at which the whole catalogue is looked at."""
    return 1

  # --- One search ----------------------------------------------------------

  def _check_filled(self) -> None:
    index_inputs.check_filled(self.num_items, type(self).__name__)

  def _normalized(self, rows: np.ndarray) -> np.ndarray:
    if self.similarity == "dot":
      return rows
    # By the largest number first: squares of very small or large ones are lost.
    largest = np.abs(rows).max(axis=-1, keepdims=True)
    rows = rows / np.where(largest > 0, largest, 1)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)

  def _search(
    self,
    queries: np.ndarray,
    k: int,
    fetch: int,
    excluded: Int[np.ndarray, "batch len"] | None,
  ) -> Found:
    """The k best of the `fetch` best of each interest."""
    interests = queries.shape[1] if queries.ndim == 3 else 1
    # A longer list needs as much more of the catalogue for the same recall.
    widened = min(-(-fetch // k), self._most_widened())
    rows = queries.reshape(-1, self.dim)
    scores, places = self._filled(rows, fetch, widened)
    missing = places < 0
    ids = np.where(missing, 0, self.item_id[places]).astype(np.int32)
    scores = np.where(missing, -np.inf, scores).astype(np.float32)
    unordered = interests > 1
    if interests > 1:
      shape = len(queries), interests * fetch
      scores, ids = _once(scores.reshape(shape), ids.reshape(shape))
    if excluded is not None:
      out = index_inputs.is_in_row(ids, excluded)
      scores, ids = np.where(out, -np.inf, scores), np.where(out, 0, ids)
      unordered = True
    scores, ids = _in_order(scores.astype(np.float32), ids, unordered)
    return scores[:, :k], ids[:, :k]

  def _filled(
    self, queries: Float32[np.ndarray, "batch dim"], k: int, widened: int
  ) -> tuple[Float32[np.ndarray, "batch k"], Int[np.ndarray, "batch k"]]:
    """Looks further where fewer than k were found."""
    scores, places = self._nearest(queries, k, widened=widened)
    most = self._most_widened()
    while widened < most:
      (short,) = np.nonzero(places[:, -1] < 0)
      if not len(short):
        break
      widened = min(4 * widened, most)
      more = self._nearest(queries[short], k, widened=widened)
      scores, places = scores.copy(), places.copy()
      scores[short], places[short] = more
    return scores, places


def _once(scores: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Leaves each id of a row only where its score is highest."""
  order = np.lexsort((-scores, ids), axis=-1)
  scores = np.take_along_axis(scores, order, 1)
  ids = np.take_along_axis(ids, order, 1)
  again: Bool[np.ndarray, "batch cand"] = np.zeros(ids.shape, bool)
  again[:, 1:] = ids[:, 1:] == ids[:, :-1]
  return np.where(again, -np.inf, scores), np.where(again, 0, ids)


def _in_order(
  scores: np.ndarray, ids: np.ndarray, unordered: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Falling scores, of equal ones the lower id first."""
  rows = slice(None)
  if not unordered:
    # Most rows of a single search stand in order: only others are sorted.
    late = scores[:, 1:] >= scores[:, :-1]
    (rows,) = np.nonzero(late.any(1))
    if not len(rows):
      return scores, ids
  order = np.lexsort((ids[rows], -scores[rows]), axis=-1)
  scores, ids = scores.copy(), ids.copy()
  scores[rows] = np.take_along_axis(scores[rows], order, 1)
  ids[rows] = np.take_along_axis(ids[rows], order, 1)
  return scores, ids
