"""The nearest items through ScaNN: a tree, short codes, a second look.

Guo, Sun, Lindgren, Geng, Simcha, Chern, Kumar, "Accelerating Large-Scale
Inference with Anisotropic Vector Quantization", ICML 2020,
https://arxiv.org/abs/1908.10396.

k-means cuts the items into leaves, of which a query visits those of the best
centroids. In a leaf an item is a code of 4 bits for each few dimensions. Codes
are learned by a loss that weighs the part of the error along the vector eta
times the part across it,

    h_par ||r_par||^2 + h_perp ||r_perp||^2,   h_par / h_perp = eta(T),

as only errors along the vector move high inner products; T is the threshold
from which a product counts as high. The best by code are scored again by
their vectors.

Deviations from the paper: this is the package of its authors, so none; leaves
may spill (SOAR, https://arxiv.org/abs/2404.00774) where `soar_lambda` is set.
"""

import dataclasses
import importlib
import importlib.metadata
import math
import pathlib
import warnings
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int, Int32

from recjax.errors import ConfigError, check_choice, check_range
from recjax.retrieval.index import Index

_UPSERT_ROWS = 4096
_NUM_CENTRES = 16  # Of a block of dimensions: codes of half a byte.
_REORDER_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
_MISSING = (
  "ScannConfig needs the package scann (Linux only), which is not installed:"
  " pip install 'recjax[scann]'. ExactIndexConfig() searches exactly without"
  " it."
)


@dataclasses.dataclass(frozen=True)
class ScannConfig:
  """Tree, anisotropic hashing and reordering.

  Attributes:
    num_leaves: leaves of the tree, near sqrt(items); 0 is no tree.
    num_leaves_to_search: leaves that a query visits.
    training_sample_size: items that centroids and codebooks are trained on.
    anisotropic_threshold: T above, for vectors of length 1; 0 weighs all
      errors alike.
    avq_eta: the same weighing for the centroids of the tree; 0 is plain.
    soar_lambda: puts an item into a second leaf; 0 puts it into one.
    dimensions_per_block: dimensions that share a code.
    reorder: items scored again by their vectors, at least k; 0 is none.
    reorder_dtype: how those vectors are kept: "float32", "bfloat16", "int8".
    quantize_centroids: compares queries to centroids of 8 bits.
    spherical: centroids of length 1.
    brute_force: scores all items by their vectors, for a small catalogue.
    parallel: searches the queries of a batch on all threads.
    training_threads: threads that build; 0 takes all.
  """

  num_leaves: int = 1000
  num_leaves_to_search: int = 50
  training_sample_size: int = 250_000
  anisotropic_threshold: float = 0.2
  avq_eta: float = 0.0
  soar_lambda: float = 0.0
  dimensions_per_block: int = 2
  reorder: int = 200
  reorder_dtype: str = "float32"
  quantize_centroids: bool = False
  spherical: bool = False
  brute_force: bool = False
  parallel: bool = False
  training_threads: int = 0

  kind: ClassVar[str] = "scann"
  search_fields: ClassVar[tuple[str, ...]] = (
    "num_leaves_to_search",
    "reorder",
    "parallel",
  )

  def __post_init__(self):
    name = type(self).__name__
    lowest = {"num_leaves": 0, "reorder": 0, "training_threads": 0}
    for field in dataclasses.fields(self):
      what, value = f"{name}.{field.name}", getattr(self, field.name)
      if field.type is int:
        check_range(what, value, lowest.get(field.name, 1), integer=True)
      elif field.type is float:
        check_range(what, value, 0)
    threshold = self.anisotropic_threshold
    check_range(f"{name}.anisotropic_threshold", threshold, 0, 1)
    check_choice(f"{name}.reorder_dtype", self.reorder_dtype, _REORDER_BYTES)
    if 0 < self.num_leaves < self.num_leaves_to_search:
      raise ConfigError(
        f"{name}.num_leaves_to_search must lie in [1, num_leaves="
        f"{self.num_leaves}]; got {self.num_leaves_to_search}."
      )

  def make_index(
    self, *, similarity: str = "dot", checkpoint: str = ""
  ) -> "ScannIndex":
    """An index without items; see `Index`."""
    return ScannIndex(self, similarity=similarity, checkpoint=checkpoint)


class ScannIndex(Index):
  """A ScaNN searcher; items are added to the leaves that are there."""

  config: ScannConfig
  _searcher: Any = None

  @property
  def memory_bytes(self) -> int:
    """Vectors, codes, leaves of items and centroids: counted, not measured."""
    config, n, dim = self.config, self.num_items, self.dim
    if config.brute_force:
      return 4 * n * dim
    copies = 2 if config.soar_lambda and config.num_leaves else 1
    code = math.ceil(math.ceil(dim / config.dimensions_per_block) / 2)
    vectors = _REORDER_BYTES[config.reorder_dtype] if config.reorder else 0
    leaf = 4 if config.num_leaves else 0
    tree = 4 * config.num_leaves * dim
    return n * (copies * (code + leaf) + vectors * dim) + tree

  def retuned(self, **changes: Any) -> Index:
    """See `Index.retuned`; reordering itself is fixed at the build."""
    reorder = changes.get("reorder", self.config.reorder)
    if bool(reorder) != bool(self.config.reorder):
      raise ConfigError(
        "ScannConfig.reorder can not change between 0 and more in a built"
        f" index: it was built with {self.config.reorder}; got {reorder}."
      )
    return super().retuned(**changes)

  def _check_fit(self, num_items: int, dim: int) -> None:
    config = self.config
    rows = min(num_items, config.training_sample_size)
    if not config.brute_force and rows < _NUM_CENTRES:
      raise ConfigError(
        f"ScaNN's codes need {_NUM_CENTRES} items at least to be trained on;"
        f" got num_items={num_items} and ScannConfig.training_sample_size="
        f"{config.training_sample_size}. Take ScannConfig.brute_force=True, or"
        " the exact index."
      )
    if not config.brute_force and config.num_leaves > num_items:
      raise ConfigError(
        "ScannConfig.num_leaves must lie in [0, num_items="
        f"{num_items}]; got {config.num_leaves}. Near sqrt(items) is usual;"
        " brute_force=True is enough for a small catalogue."
      )
    if not config.brute_force and config.dimensions_per_block > dim:
      raise ConfigError(
        f"ScannConfig.dimensions_per_block must lie in [1, dim={dim}]; got"
        f" {config.dimensions_per_block}."
      )

  def _build(self, vectors: Float32[np.ndarray, "item dim"]) -> None:
    config = self.config
    builder = _import_scann().builder(vectors, 10, "dot_product")
    builder.set_n_training_threads(config.training_threads)
    if config.brute_force:
      self._searcher = builder.score_brute_force().build()
      return
    sample = min(config.training_sample_size, len(vectors))
    if config.num_leaves:
      builder = builder.tree(
        num_leaves=config.num_leaves,
        num_leaves_to_search=config.num_leaves_to_search,
        training_sample_size=max(sample, config.num_leaves),
        quantize_centroids=config.quantize_centroids,
        spherical=config.spherical,
        avq=config.avq_eta or None,
        soar_lambda=config.soar_lambda or None,
      )
    builder = builder.score_ah(
      config.dimensions_per_block,
      anisotropic_quantization_threshold=(
        config.anisotropic_threshold or float("nan")
      ),
      training_sample_size=sample,
    )
    if config.reorder:
      # The package names the type by an enum that it does not export.
      types = importlib.import_module("scann.scann_ops.py.scann_builder")
      quantize = types.ReorderType[config.reorder_dtype.upper()]
      builder = builder.reorder(config.reorder, quantize=quantize)
    self._searcher = builder.build()

  def _add(
    self,
    vectors: Float32[np.ndarray, "item dim"],
    item_id: Int32[np.ndarray, " item"],
  ) -> Int32[np.ndarray, " vocab"]:
    # The searcher of the wrapper: with ids of its own each search would
    # translate them in Python, one by one.
    rows = list(vectors)
    self._searcher.searcher.upsert([None] * len(rows), rows, _UPSERT_ROWS)
    return np.concatenate([self.item_id, item_id])

  def _nearest(
    self, queries: Float32[np.ndarray, "batch dim"], k: int, *, widened: int
  ) -> tuple[Float32[np.ndarray, "batch k"], Int[np.ndarray, "batch k"]]:
    config = self.config
    settings: dict[str, int] = {"final_num_neighbors": k}
    if not config.brute_force and config.reorder:
      reorder = min(self.num_items, config.reorder * widened)
      settings["pre_reorder_num_neighbors"] = max(k, reorder)
    if not config.brute_force and config.num_leaves:
      leaves = config.num_leaves_to_search * widened
      settings["leaves_to_search"] = min(config.num_leaves, leaves)
    search = self._searcher.search_batched
    if config.parallel:
      search = self._searcher.search_batched_parallel
    if not len(queries):
      return np.zeros((0, k), np.float32), np.zeros((0, k), np.int64)
    places, scores = search(queries, **settings)
    missing = np.isnan(scores)
    if not missing.any():
      return scores, places.astype(np.int64)
    return (
      np.where(missing, np.float32(-np.inf), scores),
      np.where(missing, -1, places.astype(np.int64)),
    )

  def _most_widened(self) -> int:
    config = self.config
    if config.brute_force or not config.num_leaves:
      return 1
    return -(-config.num_leaves // config.num_leaves_to_search)

  def write_files(self, folder: pathlib.Path) -> None:
    """Writes what ScaNN writes, with paths that do not name the folder."""
    self._searcher.serialize(str(folder), relative_path=True)

  def read_files(self, folder: pathlib.Path) -> None:
    """Reads what ScaNN wrote."""
    self._searcher = _import_scann().load_searcher(
      str(folder), assets_backcompat_shim=False
    )

  def package_versions(self) -> dict[str, str]:
    """NumPy and ScaNN."""
    scann = {"scann": importlib.metadata.version("scann")}
    return {**super().package_versions(), **scann}


def _import_scann() -> Any:
  """ScaNN without TensorFlow.

  Raises:
    ConfigError: it is not installed.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", DeprecationWarning)
      return importlib.import_module("scann.scann_ops.py.scann_ops_pybind")
  except ImportError as error:
    raise ConfigError(_MISSING) from error
