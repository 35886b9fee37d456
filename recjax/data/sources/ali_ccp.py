r"""Ali-CCP: 84 million impressions of Taobao with clicks and conversions.

The files as published, https://tianchi.aliyun.com/dataset/408, plain or with
.gz. A line of sample_skeleton_{train,test}.csv is

  sample id, click, conversion, common id, number of features, features

and one of common_features_{train,test}.csv, to which many samples refer,

  common id, number of features, features

where features are joined by \x01 and each is FIELD \x02 id \x03 value.

  Xiao Ma et al. Entire Space Multi-Task Model: An Effective Approach for
  Estimating Post-Click Conversion Rate. SIGIR 2018.
  https://arxiv.org/abs/1804.07931
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging
from jaxtyping import Int64

from recjax.data.example_blocks import Block, read_blocks
from recjax.data.examples import ExampleSplit, check_examples
from recjax.data.sources import ali_ccp_features, text_blocks
from recjax.data.sources.ali_ccp_features import LIST_FIELDS, Lines
from recjax.data.sources.example_files import PartFiles
from recjax.errors import ConfigError, DataError, check_choice, check_range

USER_FIELDS = (
  "101",
  "121",
  "122",
  "124",
  "125",
  "126",
  "127",
  "128",
  "129",
  "109_14",
  "110_14",
  "127_14",
  "150_14",
)
SAMPLE_FIELDS = (
  "205",
  "206",
  "207",
  "210",
  "216",
  "508",
  "509",
  "702",
  "853",
  "301",
)
LABELS = ("click", "conversion")
ORPHANS = ("error", "drop")

_SKELETON = text_blocks.TextLayout(
  delimiter=",",
  types={
    "sample_id": pa.string(),
    "click": pa.int8(),
    "conversion": pa.int8(),
    "common_id": pa.string(),
    "num_features": pa.int32(),
    "features": pa.string(),
  },
  columns=("click", "conversion", "common_id", "features"),
)
_COMMON = text_blocks.TextLayout(
  delimiter=",",
  types={
    "common_id": pa.string(),
    "num_features": pa.int32(),
    "features": pa.string(),
  },
  columns=("common_id", "features"),
)


@dataclasses.dataclass(frozen=True)
class AliCcp:
  """The four files of Ali-CCP, joined block by block.

  Labels are `click` and `conversion`. Each field is a column with the name of
  its number: int32 ids, or lists of ids for those of LIST_FIELDS. A field that
  a row does not have is missing, or an empty list.

  Samples are read in blocks. The common features of the part at hand are held
  in memory: four bytes for each id, so some tens of megabytes, and some
  gigabytes with the lists of behaviour (109_14, 110_14, 127_14, 150_14), which
  are therefore left out unless they are asked for.

  Attributes:
    folder: that holds the files.
    fields: the wanted ones, of USER_FIELDS and SAMPLE_FIELDS.
    values: fields of LIST_FIELDS whose values (such as how often a user met
      the id) are wanted: the column FIELD_value, as long as that of the ids.
    orphan_conversions: what is done about a conversion without a click:
      "error", or "drop" the row and say how many there were.
    validation_fraction: share of the training file for validation.
    seed: deals the rows out.
    name: how reports call it.
    block_bytes: text that is read at a time.
  """

  folder: str = "ali-ccp"
  fields: Sequence[str] = (*USER_FIELDS[:9], *SAMPLE_FIELDS)
  values: Sequence[str] = ()
  orphan_conversions: str = "error"
  validation_fraction: float | int = 0.1
  seed: int = 0
  name: str = "ali_ccp"
  block_bytes: int = dataclasses.field(
    default=text_blocks.BLOCK_BYTES, metadata={"changes_data": False}
  )

  def __post_init__(self):
    object.__setattr__(self, "fields", tuple(self.fields))
    object.__setattr__(self, "values", tuple(self.values))
    for field in self.fields:
      check_choice("AliCcp.fields", field, (*USER_FIELDS, *SAMPLE_FIELDS))
    if not self.fields or len(set(self.fields)) < len(self.fields):
      raise ConfigError(
        "AliCcp.fields must name at least one field, and each once; got"
        f" {self.fields!r}."
      )
    lists = [field for field in self.fields if field in LIST_FIELDS]
    for field in self.values:
      check_choice("AliCcp.values, of the wanted lists,", field, lists)
    check_choice("AliCcp.orphan_conversions", self.orphan_conversions, ORPHANS)
    check_range("AliCcp.block_bytes", self.block_bytes, 1, integer=True)
    self._parts("")

  def _parts(self, ending: str) -> PartFiles:
    return PartFiles(
      f"{self.folder}/sample_skeleton_train.csv{ending}",
      test=f"{self.folder}/sample_skeleton_test.csv{ending}",
      validation_fraction=self.validation_fraction,
      seed=self.seed,
    )

  def _found_parts(self, data_dir: pathlib.Path) -> PartFiles:
    """Of the files that are there; all are packed or none."""
    packed = f"{self.folder}/sample_skeleton_train.csv.gz"
    is_packed = (pathlib.Path(data_dir) / packed).is_file()
    return self._parts(".gz" if is_packed else "")

  @property
  def label_column(self) -> str:
    """The column of the main label."""
    return LABELS[0]

  @property
  def label_columns(self) -> tuple[str, ...]:
    """`click` and `conversion`."""
    return LABELS

  @property
  def mask_columns(self) -> tuple[str, ...]:
    """There are none."""
    return ()

  @property
  def weight_column(self) -> str:
    """There is none."""
    return ""

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The four files.

    Raises:
      DataError: one is missing.
    """
    found = self._found_parts(data_dir).find(pathlib.Path(data_dir), self.name)
    skeletons = [path for _, path in found]
    return (*skeletons, *(_common_path(path) for path in skeletons))

  def blocks(
    self, data_dir: pathlib.Path, position: dict[str, int] | None = None
  ) -> Iterator[Block]:
    """Rows block by block.

    Raises:
      DataError: a file is missing or cut, a line has another number of values
        or a bad value, refers to common features that are not there, or has a
        conversion without a click; file and line are named.
    """
    return self._found_parts(data_dir).blocks(
      pathlib.Path(data_dir), self.name, self._read_file, position
    )

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """All rows in memory; see `blocks` for what it raises."""
    return read_blocks(self, pathlib.Path(data_dir))

  def _read_file(
    self, path: pathlib.Path, offset: int
  ) -> Iterator[tuple[pa.Table, int]]:
    common = self._read_common(_common_path(path))
    wanted = [field for field in self.fields if field in SAMPLE_FIELDS]
    num_dropped = 0
    for table, start, end in text_blocks.text_blocks(
      path, _SKELETON, offset, self.block_bytes
    ):
      lines = Lines(path, _SKELETON, start)
      places = _places(table, common, lines)
      own = ali_ccp_features.field_columns(
        table, wanted, SAMPLE_FIELDS, self.values, lines
      )
      shared = common.drop_columns(["common_id"]).take(pa.array(places))
      columns = {name: table.column(name) for name in LABELS}
      for field in self.fields:
        side = own if field in SAMPLE_FIELDS else shared
        names = (field, f"{field}_value")
        columns |= {n: side.column(n) for n in names if n in side.column_names}
      joined = pa.table(columns)
      for label in LABELS:
        joined = check_examples(
          self.name, joined, label=label, where=lines.named
        )
      kept = self._without_orphans(joined, lines)
      num_dropped += joined.num_rows - kept.num_rows
      yield kept, end
    if num_dropped:
      logging.warning(
        "%s: %d conversions without a click were dropped.", path, num_dropped
      )

  def _without_orphans(self, table: pa.Table, lines: Lines) -> pa.Table:
    click, conversion = (table.column(name).to_numpy() for name in LABELS)
    alone = np.flatnonzero(conversion > click)
    if not len(alone):
      return table
    if self.orphan_conversions == "error":
      raise DataError(
        f"{lines.named(int(alone[0]))}: a conversion without a click. Set"
        " AliCcp.orphan_conversions='drop' to leave such rows out."
      )
    return table.filter(pa.array(conversion <= click))

  def _read_common(self, path: pathlib.Path) -> pa.Table:
    """The wanted fields of all lines, and `common_id`."""
    wanted = [field for field in self.fields if field in USER_FIELDS]
    tables = []
    for table, start, _ in text_blocks.text_blocks(
      path, _COMMON, 0, self.block_bytes
    ):
      lines = Lines(path, _COMMON, start)
      columns = ali_ccp_features.field_columns(
        table, wanted, USER_FIELDS, self.values, lines
      )
      key = table.column("common_id")
      tables.append(columns.append_column("common_id", key))
    whole = pa.concat_tables(tables).combine_chunks()
    counts = pc.call_function("value_counts", [whole.column("common_id")])
    twice = np.flatnonzero(counts.field("counts").to_numpy() > 1)
    if len(twice):
      shown = counts.field("values")[int(twice[0])].as_py()
      raise DataError(f"{path}: {shown!r} has more than one line.")
    return whole


def _common_path(skeleton: pathlib.Path) -> pathlib.Path:
  """The file to which the samples of another refer.

  Raises:
    DataError: it is missing.
  """
  name = skeleton.name.replace("sample_skeleton", "common_features")
  path = skeleton.with_name(name)
  if not path.is_file():
    raise DataError(
      f"no such file: {path.absolute()}, to which {skeleton.name} refers."
    )
  return path


def _places(
  table: pa.Table, common: pa.Table, lines: Lines
) -> Int64[np.ndarray, " row"]:
  """The row of the common features of each sample."""
  known = common.column("common_id").combine_chunks()
  column = table.column("common_id")
  found = pc.call_function("index_in", [column], pc.SetLookupOptions(known))
  places = found.fill_null(-1).to_numpy().astype(np.int64)
  lost = np.flatnonzero(places < 0)
  if len(lost):
    row = int(lost[0])
    name = lines.path.name.replace("sample_skeleton", "common_features")
    raise DataError(
      f"{lines.named(row)}: the common features {column[row].as_py()!r} are not"
      f" in {name}."
    )
  return places
