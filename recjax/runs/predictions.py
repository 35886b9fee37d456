"""The scores of test rows, to be compared row by row: predictions/NAME.parquet.

One row a test row, in the order of the part:

  score/TASK    float32; the logit of a binary task, the value of a real one
  label/TASK    float32; null where the row does not count for the task
  weight        float32, where rows have weights
  group/COLUMN  text, where the protocol groups by a column

A model of one task calls it "". The schema has a JSON text under the key
"recjax": the tasks with their kinds, and the fingerprint of the data.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int32
from pyarrow import parquet

from recjax import files
from recjax.errors import RunError

MAX_ROWS = 10_000_000
"""More rows are not written; a comparison over rows is then sure anyhow."""
FORMAT = 1
_KEY = b"recjax"


@dataclasses.dataclass(frozen=True, eq=False)
class TaskScores:
  """Scores and labels of one task.

  Attributes:
    kind: "binary" or "real".
    score: of each row.
    label: of each row; NaN where it does not count.
  """

  kind: str
  score: Float[np.ndarray, " row"]
  label: Float[np.ndarray, " row"]


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
  """A raw column: the code of each row, and the text of each code."""

  codes: Int32[np.ndarray, " row"]
  values: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
  """What a run says of its test rows.

  Attributes:
    tasks: by name.
    weight: of each row, or None.
    groups: by raw column.
    data_fingerprint: of the data.
  """

  tasks: Mapping[str, TaskScores]
  weight: Float[np.ndarray, " row"] | None
  groups: Mapping[str, Groups]
  data_fingerprint: str

  def __len__(self) -> int:
    return len(next(iter(self.tasks.values())).score)

  def too_many(self) -> str:
    """Why they are not written; "" if they are."""
    if len(self) <= MAX_ROWS:
      return ""
    return (
      f"predictions are not written: {len(self):,} test rows, at most"
      f" {MAX_ROWS:,}; `recjax compare` can not compare this run over rows."
    )


def save_predictions(
  workdir: files.PathLike, name: str, predictions: Predictions
) -> pathlib.Path | None:
  """Writes predictions/NAME.parquet, whole or not at all.

  Args:
    workdir: of the run.
    name: such as "test".
    predictions: at most MAX_ROWS rows.

  Returns:
    The file; None where there are too many rows.
  """
  if predictions.too_many():
    return None
  columns = {}
  for task, found in predictions.tasks.items():
    columns[f"score/{task}"] = pa.array(found.score.astype(np.float32))
    label = found.label.astype(np.float32)
    columns[f"label/{task}"] = pa.array(label, from_pandas=True)
  if predictions.weight is not None:
    columns["weight"] = pa.array(predictions.weight.astype(np.float32))
  for column, groups in predictions.groups.items():
    columns[f"group/{column}"] = pa.DictionaryArray.from_arrays(
      pa.array(groups.codes, pa.int32()), pa.array(groups.values, pa.string())
    )
  facts = {
    "format": FORMAT,
    "tasks": {task: found.kind for task, found in predictions.tasks.items()},
    "data_fingerprint": predictions.data_fingerprint,
  }
  table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(facts)})
  path = _path(workdir, name)
  files.write_atomically(
    path, lambda file: parquet.write_table(table, file, compression="zstd")
  )
  return path


def load_predictions(
  workdir: files.PathLike, names: Sequence[str] = ("test",)
) -> Predictions:
  """Reads the first of predictions/NAME.parquet that there is.

  Args:
    workdir: of the run.
    names: in the order of preference.

  Raises:
    RunError: there is none (says what to do), or it is corrupt.
  """
  paths = [_path(workdir, name) for name in names]
  for path in paths:
    if path.exists():
      try:
        return _read(path)
      except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{path} is corrupt: {error}.") from error
  raise RunError(
    f"{paths[0]} does not exist: the run is older than such files, or has more"
    f" than {MAX_ROWS:,} test rows. `recjax evaluate --workdir={workdir}`"
    " writes its predictions without training."
  )


def _path(workdir: files.PathLike, name: str) -> pathlib.Path:
  return pathlib.Path(workdir) / "predictions" / f"{name}.parquet"


def _read(path: pathlib.Path) -> Predictions:
  table = parquet.read_table(path)
  facts = json.loads((table.schema.metadata or {})[_KEY])
  if facts["format"] != FORMAT:
    raise ValueError(f"its format is {facts['format']}, not {FORMAT}")
  numbers = lambda name: table.column(name).fill_null(np.nan).to_numpy()
  groups = {}
  for name in table.column_names:
    if name.startswith("group/"):
      column = table.column(name).combine_chunks().dictionary_encode()
      codes = column.indices.to_numpy().astype(np.int32)
      values = tuple(column.dictionary.to_pylist())
      groups[name.removeprefix("group/")] = Groups(codes, values)
  return Predictions(
    {
      task: TaskScores(kind, numbers(f"score/{task}"), numbers(f"label/{task}"))
      for task, kind in facts["tasks"].items()
    },
    numbers("weight") if "weight" in table.column_names else None,
    groups,
    facts["data_fingerprint"],
  )
