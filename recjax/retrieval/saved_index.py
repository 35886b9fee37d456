"""Opens a saved index of any kind, and refuses the wrong one."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from recjax import files
from recjax.errors import ConfigError, DataError
from recjax.retrieval import index_files
from recjax.retrieval.exact_index import ExactIndex, ExactIndexConfig
from recjax.retrieval.faiss_index import FaissConfig
from recjax.retrieval.index import Index
from recjax.retrieval.scann_index import ScannConfig

KINDS = (ExactIndexConfig, ScannConfig, FaissConfig)


def load_index(
  folder: files.PathLike,
  *,
  expected_checkpoint: str | None = None,
  expected_items: str | None = None,
  mesh: Mesh | None = None,
) -> Index:
  """Reads an index that `Index.save` wrote.

  Args:
    folder: where it was saved.
    expected_checkpoint: the text that must name its weights; None takes any.
    expected_items: the `items_fingerprint` that its items must have.
    mesh: lays the rows of an exact index out over its devices.

  Returns:
    An index that finds what the saved one found.

  Raises:
    ConfigError: it belongs to another checkpoint or to other items.
    DataError: a file is missing, broken or written by another version.
  """
  folder = pathlib.Path(folder)
  manifest = index_files.check_folder(folder)
  _check_owner(
    folder, "checkpoint", manifest["checkpoint"], expected_checkpoint
  )
  _check_owner(folder, "items", manifest["fingerprint"], expected_items)
  index = _empty(folder, manifest, mesh)
  try:
    return index.read(folder, manifest)
  except (ConfigError, DataError):
    raise
  except Exception as error:  # ScaNN and FAISS raise RuntimeError and more.
    now, then = index.package_versions(), manifest["versions"]
    raise DataError(
      f"{folder} can not be read: {error}. It was written with {then}; here"
      f" is {now}. Build the index again."
    ) from error


def _empty(
  folder: pathlib.Path, manifest: Mapping[str, Any], mesh: Mesh | None
) -> Index:
  kinds = {kind.kind: kind for kind in KINDS}
  kind, settings = manifest["kind"], manifest["settings"]
  if kind not in kinds:
    raise DataError(
      f"{folder} holds an index of the kind {kind!r}; this version of recjax"
      f" reads {', '.join(map(repr, kinds))}."
    )
  try:
    config = kinds[kind](**settings)
  except TypeError as error:
    raise DataError(
      f"{folder} has settings that {kinds[kind].__name__} does not know:"
      f" {error}. Build the index again."
    ) from error
  if isinstance(config, ExactIndexConfig):
    return ExactIndex(config, mesh=mesh)
  return config.make_index()


def _check_owner(
  folder: pathlib.Path, what: str, found: str, expected: str | None
) -> None:
  if expected is None or found == expected:
    return
  raise ConfigError(
    f"{folder} was built from another {what}: from {found!r}, not from"
    f" {expected!r}. Its answers would belong to another model: build the"
    " index again from this one, or give the folder of its own index."
  )
