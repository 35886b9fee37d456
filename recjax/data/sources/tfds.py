"""Any data set of the TensorFlow Datasets catalogue, without TensorFlow.

TFDS fetches, checks and versions a set; what training reads are columns. The
records are read once, in bulk, straight from their serialized form, which is
about ten times as fast as decoding examples one by one.
"""

import contextlib
import dataclasses
import importlib
import pathlib
import pkgutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recjax import progress
from recjax.data.interactions import Interactions
from recjax.data.k_core import k_core
from recjax.data.sources.columns import (
  ColumnSpec,
  as_names,
  make_interactions,
)
from recjax.errors import (
  ConfigError,
  DataError,
  check_column,
  check_range,
)

_CHUNK = 20_000


@dataclasses.dataclass(frozen=True)
class TfdsSource:
  """A split of a TFDS data set, its columns named.

  The set is downloaded and prepared (as ArrayRecord) where it is not yet.
  TFDS shuffles most sets while preparing them: without a timestamp column the
  order of a user's rows means nothing then.

  Attributes:
    builder: the name in the catalogue, such as "movielens/1m-ratings", or
      "movielens/1m-ratings:0.1.1" for a fixed version.
    user_column: the feature of user ids; "a/b" is feature b inside a.
    item_column: the feature of item ids.
    split: "train", or any split that TFDS understands, as "train[:10%]".
    timestamp_column: times: numbers in `timestamp_unit`, or ISO times.
    rating_column: ratings.
    context_columns: further scalar features to keep.
    tfds_dir: where TFDS keeps its data, within the data folder or absolute;
      "" is the default of TFDS ($TFDS_DATA_DIR or ~/tensorflow_datasets).
    download: whether a set that is not there may be fetched.
    name: how reports call it; by default the name in the catalogue.
    min_rating: rows rated lower are dropped.
    duplicates: rows of equal user, item (and timestamp, where there is one)
      are an "error", or all kept ("keep"), or only the "first" or "last".
    timestamp_unit: "s", "ms", "us" or "ns".
    min_user_count: users with fewer rows are dropped (see `k_core`).
    min_item_count: items with fewer rows are dropped.
  """

  builder: str
  user_column: str
  item_column: str
  split: str = "train"
  timestamp_column: str = ""
  rating_column: str = ""
  context_columns: Sequence[str] = ()
  tfds_dir: str = ""
  download: bool = dataclasses.field(
    default=True, metadata={"changes_data": False}
  )
  name: str = ""
  min_rating: int | float | None = None
  duplicates: str = "error"
  timestamp_unit: str = "s"
  min_user_count: int = 0
  min_item_count: int = 0

  def __post_init__(self):
    if not self.builder:
      raise ConfigError("TfdsSource needs the name of a builder; got ''.")
    check_range("min_user_count", self.min_user_count, 0, integer=True)
    check_range("min_item_count", self.min_item_count, 0, integer=True)
    context = as_names("context_columns", self.context_columns)
    object.__setattr__(self, "context_columns", context)
    self._spec()
    if not self.name:
      object.__setattr__(self, "name", self.builder.split(":")[0])

  def _spec(self) -> ColumnSpec:
    return ColumnSpec(
      user=self.user_column,
      item=self.item_column,
      timestamp=self.timestamp_column,
      rating=self.rating_column,
      context=tuple(self.context_columns),
      timestamp_unit=self.timestamp_unit,
      min_rating=self.min_rating,
      duplicates=self.duplicates,
    )

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The files of the prepared set; it is prepared if need be.

    Raises:
      DataError: TFDS is not installed, does not know the set, or can not
        fetch it.
    """
    folder = pathlib.Path(str(self._prepared(data_dir).data_path))
    return tuple(sorted(path for path in folder.iterdir() if path.is_file()))

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """Reads the split.

    Raises:
      DataError: as `files`; or a column is missing or no scalar, or holds a
        bad value or duplicate rows.
    """
    builder = self._prepared(data_dir)
    spec = self._spec()
    _check_columns(builder.info, spec.names)
    table = _read_columns(builder, self.split, spec.names)
    interactions = make_interactions(
      self.name, table, spec, lambda row: f"{self.builder}, record {row}"
    )
    return k_core(interactions, self.min_user_count, self.min_item_count)

  def _prepared(self, data_dir: pathlib.Path) -> Any:
    tfds = _import_tfds()
    folder = (
      str(pathlib.Path(data_dir, self.tfds_dir).absolute())
      if self.tfds_dir
      else None
    )
    looked = f"looked in {folder or tfds.core.constants.DATA_DIR}"
    make = lambda: tfds.builder(
      self.builder, data_dir=folder, file_format="array_record"
    )
    try:
      try:
        builder = make()
      except tfds.core.DatasetNotFoundError:
        _import_catalogue(tfds)
        builder = make()
    except tfds.core.DatasetNotFoundError as error:
      raise DataError(
        f"TFDS knows no data set {self.builder!r}; {looked} and in the"
        " catalogue, https://www.tensorflow.org/datasets/catalog."
      ) from error
    except (ValueError, RuntimeError) as error:
      raise DataError(
        f"TFDS can not open {self.builder!r} ({looked}): {error}"
      ) from error
    if builder.is_prepared():
      return builder
    if not self.download:
      raise DataError(
        f"the TFDS set {self.builder!r} is not prepared ({looked}) and"
        " download=False."
      )
    try:
      builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its network layer does.
      raise DataError(
        f"TFDS could not fetch or prepare {self.builder!r} ({looked}):"
        f" {type(error).__name__}: {error}"
      ) from error
    return builder


def _import_tfds() -> Any:
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise DataError(
      "this source needs tensorflow-datasets (TensorFlow is not needed):"
      " pip install 'recjax[tfds]'"
    ) from error
  return tfds


def _import_catalogue(tfds: Any) -> None:
  """Makes the older sets known, which TFDS imports with TensorFlow alone.

  Their categories ("structured" has MovieLens) need no TensorFlow; a category
  that does is left out.
  """
  for module in pkgutil.iter_modules(tfds.__path__):
    if module.ispkg and module.name not in ("core", "scripts", "testing"):
      with contextlib.suppress(ImportError):
        importlib.import_module(f"{tfds.__name__}.{module.name}")


def _check_columns(info: Any, columns: tuple[str, ...]) -> None:
  specs = _flat(info.features.get_serialized_info())
  for column in columns:
    check_column(f"the TFDS set {info.full_name}", column, sorted(specs))
    if specs[column].shape != ():
      raise DataError(
        f"column {column!r} of {info.full_name} has shape"
        f" {specs[column].shape}; only scalars can be read."
      )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
  if not isinstance(tree, dict):
    return {prefix.removesuffix("/"): tree}
  leaves: dict[str, Any] = {}
  for key, value in tree.items():
    leaves |= _flat(value, f"{prefix}{key}/")
  return leaves


def _read_columns(
  builder: Any, split: str, columns: tuple[str, ...]
) -> pa.Table:
  import tensorflow_datasets as tfds
  from tensorflow_datasets.proto import tf_example_pb2

  name = builder.info.full_name
  try:
    records = builder.as_data_source(
      split,
      deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
      file_format="array_record",
    )
  except (NotImplementedError, ValueError, KeyError) as error:
    raise DataError(
      f"can not read the split {split!r} of {name}: {error}. It has"
      f" {', '.join(builder.info.splits)}."
    ) from error
  parse = tf_example_pb2.Example.FromString  # pyright: ignore
  chunks = []
  with progress.progress_bar(f"reading {name}", len(records)) as bar:
    for start in range(0, len(records), _CHUNK):
      rows = range(start, min(start + _CHUNK, len(records)))
      # One example at a time, so that only the wanted values stay in memory.
      examples = [
        parse(record).features.feature for record in records.__getitems__(rows)
      ]
      chunks.append(
        pa.table({key: _column(examples, key, start, name) for key in columns})
      )
      bar.advance(len(rows))
  if not chunks:
    raise DataError(f"the split {split!r} of {name} is empty.")
  try:
    return pa.concat_tables(chunks)
  except pa.ArrowInvalid as error:
    raise DataError(f"{name} changes the type of a column: {error}") from error


def _column(examples: list[Any], key: str, start: int, name: str) -> pa.Array:
  try:
    kind = examples[0][key].WhichOneof("kind")
    if kind == "int64_list":
      values = [example[key].int64_list.value[0] for example in examples]
      return pa.array(np.array(values, np.int64))
    if kind == "float_list":
      values = [example[key].float_list.value[0] for example in examples]
      return pa.array(np.array(values, np.float32))
    values = [example[key].bytes_list.value[0] for example in examples]
    return pa.array(values, pa.binary()).cast(pa.string())
  except IndexError:
    row = next(
      row
      for row, example in enumerate(examples)
      if not any(
        len(getattr(example[key], f"{kind}_list").value)
        for kind in ("int64", "float", "bytes")
      )
    )
    raise DataError(
      f"{name}, record {start + row}: column {key!r} has no value."
    ) from None
  except pa.ArrowInvalid as error:
    raise DataError(f"column {key!r} of {name} is no text: {error}") from error
