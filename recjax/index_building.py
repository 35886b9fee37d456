"""From the vectors of a run to an index with the settings that pay."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from recjax import gin_config
from recjax.data.eval_set import EvalSet
from recjax.errors import ConfigError, DataError
from recjax.evaluation.search_speed import Frontier, fastest_rate
from recjax.opened_run import OpenedRun
from recjax.retrieval import scann_tuner
from recjax.retrieval.exact_index import ExactIndexConfig
from recjax.retrieval.faiss_index import FaissConfig
from recjax.retrieval.index import Index
from recjax.retrieval.scann_index import ScannConfig

KINDS = {
  "scann": ScannConfig,
  "faiss": FaissConfig,
  "exact": ExactIndexConfig,
}
"""What --kind may be; `query` takes the first of them that was built."""
_MAX_K = 100
_TUNE_QUERIES = 1000


def parse_config(
  kind: str, gin_files: Sequence[str] = (), bindings: Sequence[str] = ()
) -> Callable[[int], Any]:
  """A function from the number of items to the settings of an index.

  To be called before a run is opened: gin holds one config, and that of the
  run may be asked for values later.

  Args:
    kind: one of KINDS.
    gin_files: read after that of the kind; the last wins.
    bindings: NAME=VALUE of flags, which win over all files.

  Returns:
    Settings for so many items; a tree of ScaNN without a number of leaves
    gets sqrt(items).

  Raises:
    ConfigError: a setting is unknown or refused.
  """
  text = gin_config.parse([f"indexes/{kind}.gin", *gin_files], bindings)
  config = gin_config.construct(KINDS[kind])
  given = re.findall(r"^\s*(?:\w+\.)*ScannConfig\.(\w+)\s*=", text, re.M)

  def fit(num_items: int) -> Any:
    if kind != "scann" or config.brute_force or "num_leaves" in given:
      return config
    leaves = max(1, round(math.sqrt(num_items)))
    changes = {"num_leaves": leaves}
    if "num_leaves_to_search" not in given:
      changes["num_leaves_to_search"] = max(1, leaves // 10)
    return dataclasses.replace(config, **changes)

  return fit


def build_index(
  config: Any, run: OpenedRun, vectors: Float[np.ndarray, "item dim"]
) -> Index:
  """An index of all items of a run that remembers its checkpoint.

  Args:
    config: the settings.
    run: whose items.
    vectors: of these.

  Raises:
    ConfigError: a setting does not fit, or a package is missing (says what
      to install, and how to search exactly without it).
  """
  try:
    empty = config.make_index(checkpoint=run.checkpoint)
    return empty.build(vectors, run.item_ids)
  except ConfigError as error:
    if "not installed" not in str(error):
      raise
    raise ConfigError(
      f"{error} On the command line that is `recjax index --kind=exact"
      f" --workdir={run.workdir}`."
    ) from error


def judged_k(num_items: int) -> int:
  """For how many items an index is tuned and timed: 100, or fewer of few.

  A tenth of a small catalogue, but ten at least: when nearly all items are
  asked for, any index has to look at nearly all.
  """
  return min(num_items, _MAX_K, max(10, num_items // 10))


def tune_index(
  built: Index, exact: Index, run: OpenedRun, wanted: float
) -> tuple[Index, Frontier | None]:
  """The index under the fastest settings, where it has any to choose from.

  Args:
    built: the index.
    exact: exact search of the same items.
    run: whose validation queries tune, or those of the test if it has none;
      no label is looked at.
    wanted: recall of exact search.

  Returns:
    The index, and what was tried; None where there is nothing to try.
  """
  grid = search_grid(built.config, k := judged_k(exact.num_items))
  if not grid:
    return built, None
  queries = run.bench.user_vectors(run.weights, _tuning_set(run.bench))
  _, truth = exact.search(queries, k=k)
  tuned = scann_tuner.sweep(
    built, queries, truth, wanted_recall=wanted, grid=grid
  )
  frontier = Frontier.of_tuned(
    tuned,
    k=k,
    wanted_recall=wanted,
    exact_queries_per_sec=fastest_rate(exact, queries[::2], k=k),
  )
  return tuned.index, frontier


def search_grid(config: Any, k: int) -> Mapping[str, Sequence[int]]:
  """What is tried of the settings that a built index can change."""
  doubled = scann_tuner.doubled
  if isinstance(config, ScannConfig) and not config.brute_force:
    grid = {"num_leaves_to_search": doubled(config.num_leaves)}
    again = {"reorder": tuple(math.ceil(k * t) for t in (1, 1.5, 2, 3, 5, 10))}
    return (grid if config.num_leaves else {}) | (
      again if config.reorder else {}
    )
  if isinstance(config, FaissConfig) and config.method == "hnsw":
    return {"ef_search": tuple(k << e for e in range(5))}
  if isinstance(config, FaissConfig) and config.method != "flat":
    return {"num_probes": doubled(config.num_lists)}
  return {}


def _tuning_set(bench: Any) -> EvalSet:
  """Validation queries; those of the test where there is no validation."""
  try:
    queries = bench.eval_set("validation")
  except DataError:
    queries = bench.eval_set("test")
  at_most = min(len(queries), _TUNE_QUERIES)
  return queries.take(np.linspace(0, len(queries) - 1, at_most).astype(int))
