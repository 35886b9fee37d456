"""The nearest items through FAISS: flat, a graph, or inverted lists.

Douze, Guzhva, Deng, Johnson, Szilvasy, Mazaré, Lomeli, Hosseini, Jégou, "The
Faiss Library", 2024, https://arxiv.org/abs/2401.08281. The kinds are

- flat: every item, exactly;
- hnsw: a graph of neighbours, walked greedily (Malkov and Yashunin, "Efficient
  and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable
  Small World Graphs", 2016, https://arxiv.org/abs/1603.09320);
- ivf_flat: k-means cuts the items into lists, a query visits the nearest;
- ivf_pq: the same with items as codes of `pq_m` parts (Jégou, Douze, Schmid,
  "Product Quantization for Nearest Neighbor Search", 2011,
  https://doi.org/10.1109/TPAMI.2010.57), and the best by code scored again by
  their vectors where `reorder` is set.

FAISS takes the threads that OpenMP has; `faiss.omp_set_num_threads` or
OMP_NUM_THREADS say how many.
"""

import dataclasses
import importlib
import importlib.metadata
import pathlib
import warnings
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int, Int32

from recjax.errors import ConfigError, check_choice, check_range
from recjax.retrieval.index import Index

METHODS = ("flat", "hnsw", "ivf_flat", "ivf_pq")
_FILE = "faiss.index"
_MISSING = (
  "FaissConfig needs the package faiss, which is not installed: pip install"
  " 'recjax[faiss]'. ExactIndexConfig() searches exactly without it."
)


@dataclasses.dataclass(frozen=True)
class FaissConfig:
  """One of the methods and its settings; others' settings are not looked at.

  Attributes:
    method: "flat", "hnsw", "ivf_flat" or "ivf_pq".
    num_links: hnsw: links of an item, M in the paper.
    ef_construction: hnsw: candidates looked at when an item is linked.
    ef_search: hnsw: candidates looked at by a query.
    num_lists: ivf: lists, near sqrt(items) or a few times that.
    num_probes: ivf: lists that a query visits.
    pq_m: ivf_pq: parts of a code; must divide the width of the vectors.
    pq_bits: ivf_pq: bits of a part; 4 is FAISS's FastScan.
    reorder: ivf_pq: items scored again by their vectors, at least k; 0 is
      none.
  """

  method: str = "hnsw"
  num_links: int = 32
  ef_construction: int = 200
  ef_search: int = 64
  num_lists: int = 1024
  num_probes: int = 16
  pq_m: int = 32
  pq_bits: int = 8
  reorder: int = 400

  kind: ClassVar[str] = "faiss"
  search_fields: ClassVar[tuple[str, ...]] = (
    "ef_search",
    "num_probes",
    "reorder",
  )

  def __post_init__(self):
    name = type(self).__name__
    check_choice(f"{name}.method", self.method, METHODS)
    for field in dataclasses.fields(self):
      if field.type is int:
        low = {"reorder": 0, "num_links": 2}.get(field.name, 1)
        value = getattr(self, field.name)
        check_range(f"{name}.{field.name}", value, low, integer=True)
    if self.pq_bits not in (4, 8):
      raise ConfigError(f"{name}.pq_bits must be 4 or 8; got {self.pq_bits}.")
    if self._has_lists() and self.num_probes > self.num_lists:
      raise ConfigError(
        f"{name}.num_probes must lie in [1, num_lists={self.num_lists}]; got"
        f" {self.num_probes}."
      )

  def _has_lists(self) -> bool:
    return self.method.startswith("ivf")

  def num_trained(self) -> int:
    """Items without which centroids or codebooks can not be trained."""
    if not self._has_lists():
      return 1
    codes = 2**self.pq_bits if self.method == "ivf_pq" else 1
    return max(self.num_lists, codes)

  def factory_text(self) -> str:
    """The index in the words of `faiss.index_factory`."""
    if self.method == "flat":
      return "Flat"
    if self.method == "hnsw":
      return f"HNSW{self.num_links},Flat"
    if self.method == "ivf_flat":
      return f"IVF{self.num_lists},Flat"
    bits = "x4fs" if self.pq_bits == 4 else f"x{self.pq_bits}"
    refined = ",RFlat" if self.reorder else ""
    return f"IVF{self.num_lists},PQ{self.pq_m}{bits}{refined}"

  def make_index(
    self, *, similarity: str = "dot", checkpoint: str = ""
  ) -> "FaissIndex":
    """An index without items; see `Index`."""
    return FaissIndex(self, similarity=similarity, checkpoint=checkpoint)


class FaissIndex(Index):
  """A FAISS index under the inner product; items are added as they come."""

  config: FaissConfig
  _index: Any = None

  @property
  def memory_bytes(self) -> int:
    """The bytes that FAISS would write."""
    faiss, sizes = _import_faiss(), [0]

    def count(part: bytes) -> int:
      sizes[0] += len(part)
      return len(part)

    if self._index is not None:
      faiss.write_index(self._index, faiss.PyCallbackIOWriter(count))
    return sizes[0]

  def retuned(self, **changes: Any) -> Index:
    """See `Index.retuned`; reordering itself is fixed at the build."""
    reorder = changes.get("reorder", self.config.reorder)
    if bool(reorder) != bool(self.config.reorder):
      raise ConfigError(
        "FaissConfig.reorder can not change between 0 and more in a built"
        f" index: it was built with {self.config.reorder}; got {reorder}."
      )
    return super().retuned(**changes)

  def _check_fit(self, num_items: int, dim: int) -> None:
    config = self.config
    if config.num_trained() > num_items:
      raise ConfigError(
        f"FaissConfig of the method {config.method!r} needs"
        f" {config.num_trained()} items to train on (num_lists, and 2^pq_bits"
        f" for codes); got num_items={num_items}. Take fewer lists, or the"
        " method 'flat'."
      )
    if config.method == "ivf_pq" and dim % config.pq_m:
      fits = [m for m in range(1, dim + 1) if dim % m == 0]
      close = min(fits, key=lambda m: abs(m - config.pq_m))
      raise ConfigError(
        f"FaissConfig.pq_m must divide the width of the vectors, {dim}; got"
        f" {config.pq_m}. The nearest that does is {close}."
      )

  def _build(self, vectors: Float32[np.ndarray, "item dim"]) -> None:
    faiss, config = _import_faiss(), self.config
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(vectors.shape[1], config.factory_text(), metric)
    if config.method == "hnsw":
      index.hnsw.efConstruction = config.ef_construction
    index.train(vectors)
    index.add(vectors)
    self._index = index

  def _add(
    self,
    vectors: Float32[np.ndarray, "item dim"],
    item_id: Int32[np.ndarray, " item"],
  ) -> Int32[np.ndarray, " vocab"]:
    self._index.add(vectors)
    return np.concatenate([self.item_id, item_id])

  def _nearest(
    self, queries: Float32[np.ndarray, "batch dim"], k: int, *, widened: int
  ) -> tuple[Float32[np.ndarray, "batch k"], Int[np.ndarray, "batch k"]]:
    settings = self._search_settings(k, widened)
    scores, places = self._index.search(queries, k, params=settings)
    missing = places < 0
    if missing.any():
      scores = np.where(missing, np.float32(-np.inf), scores)
    return scores, places

  def _search_settings(self, k: int, widened: int) -> Any:
    faiss, config = _import_faiss(), self.config
    if config.method == "flat":
      return None
    if config.method == "hnsw":
      return faiss.SearchParametersHNSW(efSearch=config.ef_search * widened)
    probes = min(config.num_lists, config.num_probes * widened)
    visited = faiss.SearchParametersIVF(nprobe=probes)
    if config.method == "ivf_flat" or not config.reorder:
      return visited
    return faiss.IndexRefineSearchParameters(
      k_factor=max(1.0, config.reorder * widened / k), base_index_params=visited
    )

  def _most_widened(self) -> int:
    config = self.config
    if config.method == "hnsw":
      return max(1, -(-self.num_items // config.ef_search))
    if config.method == "flat":
      return 1
    return -(-config.num_lists // config.num_probes)

  def write_files(self, folder: pathlib.Path) -> None:
    """Writes FAISS's own file."""
    _import_faiss().write_index(self._index, str(folder / _FILE))

  def read_files(self, folder: pathlib.Path) -> None:
    """Reads FAISS's own file."""
    self._index = _import_faiss().read_index(str(folder / _FILE))

  def package_versions(self) -> dict[str, str]:
    """NumPy and FAISS."""
    return {**super().package_versions(), "faiss": _import_faiss().__version__}


def _import_faiss() -> Any:
  """FAISS.

  Raises:
    ConfigError: it is not installed.
  """
  try:
    with warnings.catch_warnings():
      # What SWIG made warns under newer Pythons.
      warnings.simplefilter("ignore", DeprecationWarning)
      return importlib.import_module("faiss")
  except ImportError as error:
    raise ConfigError(_MISSING) from error
