"""Frappe: which app was used in which context, in the split of He and Chua.

96,203 uses of 4,082 apps by 957 users in 8 dimensions of context, each with
two apps that the user did not use, drawn at random; split 7:2:1 over rows.

  Linas Baltrunas et al. Frappe: Understanding the Usage and Perception of
  Mobile App Recommendations In-The-Wild. 2015. https://arxiv.org/abs/1505.03014
  Xiangnan He, Tat-Seng Chua. Neural Factorization Machines for Sparse
  Predictive Analytics. SIGIR 2017. https://arxiv.org/abs/1708.05027

A line of the files, which are in the format of libFM, is the label (1 or -1)
and an index with the value 1 for each field: "1 169:1 2145:1 ...". Indices
count over all fields. They are kept as they are.
"""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.examples import PARTS, Examples, ExampleSplit
from recjax.data.sources import text_blocks
from recjax.data.sources.example_files import find_files
from recjax.errors import DataError

FIELDS = (
  "user",
  "item",
  "daytime",
  "weekday",
  "isweekend",
  "homework",
  "cost",
  "weather",
  "country",
  "city",
)
LAYOUT = text_blocks.TextLayout(
  delimiter=" ",
  types={"label": pa.string(), **dict.fromkeys(FIELDS, pa.string())},
)


@dataclasses.dataclass(frozen=True)
class Frappe:
  """The files frappe.{train,validation,test}.libfm, plain or with .gz.

  Attributes:
    folder: that holds the files.
    name: how reports call it.
  """

  folder: str = "frappe"
  name: str = "frappe"

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The three files.

    Raises:
      DataError: one is missing.
    """
    found = []
    for part in PARTS:
      plain = f"{self.folder}/frappe.{part}.libfm"
      is_plain = (pathlib.Path(data_dir) / plain).is_file()
      path = plain if is_plain else f"{plain}.gz"
      found += find_files(data_dir, path, self.name)
    return tuple(found)

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """Reads the three files into int32 columns and labels 0 and 1.

    Raises:
      DataError: a file is missing or cut, or a line is not as it must be; file
        and line are named.
    """
    paths = self.files(data_dir)
    return ExampleSplit(
      *(
        Examples.from_table(f"{self.name} {part}", read_libfm(path, LAYOUT))
        for part, path in zip(PARTS, paths)
      )
    )


def read_libfm(path: pathlib.Path, layout: text_blocks.TextLayout) -> pa.Table:
  """Lines of a label and one "index:1" for each field.

  Raises:
    DataError: a label is not 1, 0 or -1, or a field is something else; the
      line is named.
  """
  tables = []
  for table, start, _ in text_blocks.text_blocks(path, layout):
    columns = {}
    for name in table.column_names:
      column = table.column(name).fill_null("")
      options = pc.MatchSubstringOptions(
        r"^(-1|0|1|\+1)$" if name == "label" else r"^\d{1,9}:1(\.0*)?$"
      )
      fits = pc.call_function("match_substring_regex", [column], options)
      bad = np.flatnonzero(~np.asarray(fits))
      if len(bad):
        row = int(bad[0])
        line = text_blocks.line_of(path, layout, start, row)
        rule = "1, 0 or -1" if name == "label" else "an index with the value 1"
        raise DataError(
          f"{path}, line {line}: {column[row].as_py()!r} in column {name!r} is"
          f" not {rule}."
        )
      columns[name] = _number(column, name)
    tables.append(pa.table(columns))
  return pa.concat_tables(tables)


def _number(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
  if name == "label":
    ones = pc.call_function(
      "is_in", [column], pc.SetLookupOptions(pa.array(["1", "+1"]))
    )
    return ones.cast(pa.float32())
  options = pc.ReplaceSubstringOptions(r":.*$", "")
  index = pc.call_function("replace_substring_regex", [column], options)
  return index.cast(pa.int32())
