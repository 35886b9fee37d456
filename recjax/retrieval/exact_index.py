"""The nearest items exactly: blocks of a matrix product, and two selections.

A full sort of every score, or `lax.top_k` of it, costs more than the matrix
product. So the scores of a block are only looked through for the maximum of
each chunk of c neighbours. Take the k chunks of the highest maxima, of equal
ones the first: every item outside of them stands behind k items, one in each
of those chunks, hence no item outside is among the k best. The k c scores
inside are computed once more and the best k taken, of equal ones the lower id.

    one pass over n items, top_k of n/c maxima, top_k of k c scores,

which is cheapest near c = sqrt(n/k). The blocks lie ready, rows in the order
of their ids; the last row is repeated where the last block is not full, so
that no maximum is higher than it should be.

Over a mesh each device holds some of the blocks and selects from them; then
k candidates of each device meet, never the vectors.

Both passes are float32 products of full precision, but summed in another
order: items whose scores differ by rounding alone may change places.
"""

import dataclasses
import functools
import math
import pathlib
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float32, Int, Int32

from recjax.errors import ConfigError, check_range
from recjax.retrieval.index import Index

_MAX_CHUNK = 128
_VECTORS = "vectors.npy"


@dataclasses.dataclass(frozen=True)
class ExactIndexConfig:
  """Exact search.

  Attributes:
    block: items whose scores are in memory at once; a multiple of 128.
    query_block: queries searched at once.
    axis: the axis of the mesh that the rows are cut over, if there is a mesh.
  """

  block: int = 2048
  query_block: int = 512
  axis: str = "model"

  kind: ClassVar[str] = "exact"
  search_fields: ClassVar[tuple[str, ...]] = ("query_block",)

  def __post_init__(self):
    name = type(self).__name__
    check_range(f"{name}.block", self.block, _MAX_CHUNK, integer=True)
    if self.block % _MAX_CHUNK:
      nearby = round(self.block / _MAX_CHUNK) * _MAX_CHUNK
      raise ConfigError(
        f"{name}.block must be a multiple of {_MAX_CHUNK}; got {self.block}."
        f" The nearest is {nearby}."
      )
    check_range(f"{name}.query_block", self.query_block, 1, integer=True)

  def make_index(
    self,
    *,
    similarity: str = "dot",
    checkpoint: str = "",
    mesh: Mesh | None = None,
  ) -> "ExactIndex":
    """An index without items; see `Index` and `ExactIndex`."""
    return ExactIndex(
      self, similarity=similarity, checkpoint=checkpoint, mesh=mesh
    )


class ExactIndex(Index):
  """All items in blocks, on one device or over an axis of a mesh."""

  def __init__(
    self,
    config: ExactIndexConfig,
    *,
    similarity: str = "dot",
    checkpoint: str = "",
    mesh: Mesh | None = None,
  ):
    """Makes an index without items.

    Args:
      config: the settings.
      similarity: "dot" or "cosine".
      checkpoint: any text that names the weights behind the vectors.
      mesh: cuts the rows over `config.axis`; None is one device.

    Raises:
      ConfigError: the mesh has no such axis.
    """
    super().__init__(config, similarity=similarity, checkpoint=checkpoint)
    if mesh is not None and config.axis not in mesh.shape:
      raise ConfigError(
        f"{type(config).__name__}.axis must be an axis of the mesh, one of"
        f" {list(mesh.shape)}; got {config.axis!r}."
      )
    self._mesh = mesh
    self._blocks: Float32[Array, "block row dim"] = jnp.zeros((0, 1, 1))

  @property
  def memory_bytes(self) -> int:
    """The bytes of the vectors, those that fill up the last block with them."""
    return self._blocks.nbytes

  def _build(self, vectors: Float32[np.ndarray, "item dim"]) -> None:
    num_items, dim = vectors.shape
    devices = 1 if self._mesh is None else self._mesh.shape[self.config.axis]
    share = -(-num_items // devices)
    block = min(self.config.block, -(-share // _MAX_CHUNK) * _MAX_CHUNK)
    num_blocks = -(-num_items // (block * devices)) * devices
    blocks = np.empty((num_blocks * block, dim), np.float32)
    blocks[:num_items], blocks[num_items:] = vectors, vectors[-1]
    blocks = blocks.reshape(num_blocks, block, dim)
    if self._mesh is None:
      self._blocks = jnp.asarray(blocks)
      return
    place = NamedSharding(self._mesh, PartitionSpec(self.config.axis))
    self._blocks = jax.device_put(blocks, place)

  def _add(
    self,
    vectors: Float32[np.ndarray, "item dim"],
    item_id: Int32[np.ndarray, " item"],
  ) -> Int32[np.ndarray, " vocab"]:
    ids = np.concatenate([self.item_id, item_id])
    order = np.argsort(ids)
    self._build(np.concatenate([self._vectors(), vectors])[order])
    return ids[order]

  def _vectors(self) -> Float32[np.ndarray, "item dim"]:
    return np.asarray(self._blocks).reshape(-1, self.dim)[: self.num_items]

  def _nearest(
    self, queries: Float32[np.ndarray, "batch dim"], k: int, *, widened: int
  ) -> tuple[Float32[np.ndarray, "batch k"], Int[np.ndarray, "batch k"]]:
    del widened
    size = self.config.query_block
    found = [
      self._search_block(queries[start : start + size], k)
      for start in range(0, len(queries), size)
    ]
    if not found:
      return np.zeros((0, k), np.float32), np.zeros((0, k), np.int32)
    scores, places = zip(*found, strict=True)
    return np.concatenate(scores), np.concatenate(places)

  def _search_block(
    self, queries: np.ndarray, k: int
  ) -> tuple[np.ndarray, np.ndarray]:
    # Powers of two: few batches, so that little is compiled anew.
    size = min(self.config.query_block, 1 << (len(queries) - 1).bit_length())
    full = np.zeros((size, self.dim), np.float32)
    full[: len(queries)] = queries
    num_rows = math.prod(self._blocks.shape[:2])
    chunk = chunk_size(num_rows // self._num_devices(), k)
    scores, places = _search(
      self._blocks,
      full,
      k=k,
      chunk=chunk,
      num_items=self.num_items,
      mesh=self._mesh,
      axis=self.config.axis,
    )
    scores, places = np.asarray(scores), np.asarray(places)
    return scores[: len(queries)], places[: len(queries)]

  def _num_devices(self) -> int:
    return 1 if self._mesh is None else self._mesh.shape[self.config.axis]

  def write_files(self, folder: pathlib.Path) -> None:
    """Writes the vectors."""
    np.save(folder / _VECTORS, self._vectors())

  def read_files(self, folder: pathlib.Path) -> None:
    """Reads the vectors."""
    self._build(np.load(folder / _VECTORS))

  def package_versions(self) -> dict[str, str]:
    """NumPy and JAX."""
    return {**super().package_versions(), "jax": jax.__version__}


def chunk_size(num_rows: int, k: int) -> int:
  """Neighbours that share a maximum: a power of two near sqrt(n/k).

  Args:
    num_rows: rows of one device, a multiple of 128.
    k: how many are sought.

  Returns:
    1 to 128; with 1 every score is its own maximum.
  """
  best = math.sqrt(num_rows / k)
  if best < 4:
    return 1
  return min(_MAX_CHUNK, 1 << round(math.log2(best)))


@functools.partial(
  jax.jit, static_argnames=("k", "chunk", "num_items", "mesh", "axis")
)
def _search(
  blocks: Float32[Array, "block row dim"],
  queries: Float32[Array, "batch dim"],
  *,
  k: int,
  chunk: int,
  num_items: int,
  mesh: Mesh | None,
  axis: str,
) -> tuple[Float32[Array, "batch k"], Int32[Array, "batch k"]]:
  """Scores and places of the best k."""
  if mesh is None:
    return _local_top_k(
      blocks, queries, jnp.int32(0), k=k, chunk=chunk, num_items=num_items
    )

  def on_device(blocks, queries):
    rows = math.prod(blocks.shape[:2])
    first = (jax.lax.axis_index(axis) * rows).astype(jnp.int32)
    scores, places = _local_top_k(
      blocks,
      queries,
      first,
      k=min(k, rows),
      chunk=chunk,
      num_items=num_items,
    )
    # Device after device: of equal scores the lower place stands first.
    scores = jax.lax.all_gather(scores, axis, axis=1, tiled=True)
    places = jax.lax.all_gather(places, axis, axis=1, tiled=True)
    scores, columns = jax.lax.top_k(scores, k)
    return scores, jnp.take_along_axis(places, columns, 1)

  whole = PartitionSpec()
  return jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=(PartitionSpec(axis), whole),
    out_specs=(whole, whole),
    check_vma=False,  # It can not see that all devices end with the same.
  )(blocks, queries)


def _local_top_k(
  blocks: Float[Array, "block row dim"],
  queries: Float[Array, "batch dim"],
  first: Int[Array, ""],
  *,
  k: int,
  chunk: int,
  num_items: int,
) -> tuple[Float[Array, "batch k"], Int[Array, "batch k"]]:
  """The best k of the rows of one device, the first at place `first`."""
  num_blocks, block, dim = blocks.shape
  maxima = _chunk_maxima(blocks, queries, chunk)
  starts = first + chunk * jnp.arange(maxima.shape[1])
  maxima = jnp.where((starts < num_items)[None, :], maxima, -jnp.inf)
  maxima, best = jax.lax.top_k(maxima, k)
  if chunk == 1:
    return maxima, jnp.where(maxima > -jnp.inf, first + best, -1)
  # In the order of ids, so that of equal scores the lower id stands first.
  best = jnp.sort(best, axis=1)
  chunks = blocks.reshape(num_blocks * block // chunk, chunk, dim)
  scores = _scores_inside(chunks, queries, best)
  places = best[:, :, None] * chunk + jnp.arange(chunk)[None, None, :]
  places = (first + places).reshape(len(queries), -1)
  scores = jnp.where(places < num_items, scores, -jnp.inf)
  scores, columns = jax.lax.top_k(scores, k)
  places = jnp.take_along_axis(places, columns, 1)
  return scores, jnp.where(scores > -jnp.inf, places, -1)


def _chunk_maxima(
  blocks: Float[Array, "block row dim"],
  queries: Float[Array, "batch dim"],
  chunk: int,
) -> Float[Array, "batch cand"]:
  """The highest score of every chunk."""
  batch, rows = queries.shape[0], blocks.shape[1]

  def step(_: None, block: Float[Array, "row dim"]):
    scores = jnp.matmul(queries, block.T, precision=jax.lax.Precision.HIGHEST)
    return None, scores.reshape(batch, rows // chunk, chunk).max(-1)

  _, maxima = jax.lax.scan(step, None, blocks)
  return jnp.moveaxis(maxima, 0, 1).reshape(batch, -1)


def _scores_inside(
  chunks: Float[Array, "block row dim"],
  queries: Float[Array, "batch dim"],
  best: Int[Array, "batch k"],
) -> Float[Array, "batch cand"]:
  """The scores of all items of the chunks chosen for each query."""
  # A few queries at once: what is gathered for them stays in the cache.
  width = best.shape[1] * chunks.shape[1] * chunks.shape[2] * 4
  at_once = max(1, min(len(queries), _gather_bytes() // width))
  at_once = 1 << (at_once.bit_length() - 1)
  if len(queries) % at_once:
    at_once = 1

  def score(pair: tuple[Float[Array, "few dim"], Int[Array, "few k"]]):
    few, picked = pair
    return jnp.einsum(
      "bkcd,bd->bkc",
      chunks[picked],
      few,
      precision=jax.lax.Precision.HIGHEST,
    )

  shape = len(queries) // at_once, at_once
  parts = queries.reshape(*shape, -1), best.reshape(*shape, -1)
  return jax.lax.map(score, parts).reshape(len(queries), -1)


def _gather_bytes() -> int:
  """16 MiB fit in the cache of a processor; an accelerator wants more work."""
  return (16 if jax.default_backend() == "cpu" else 1024) << 20
