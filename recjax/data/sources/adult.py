"""UCI Adult: who earns more than 50,000 dollars, from the census of 1994.

32,561 rows for training and 16,281 for test, CC BY 4.0:
Barry Becker, Ronny Kohavi. Adult. UCI Machine Learning Repository, 1996.
https://doi.org/10.24432/C5XW20
"""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.example_blocks import RandomParts
from recjax.data.examples import Examples, ExampleSplit
from recjax.data.sources import text_blocks
from recjax.data.sources.example_files import find_files
from recjax.errors import DataError, check_choice

NUMBERS = (
  "age",
  "fnlwgt",
  "education_num",
  "capital_gain",
  "capital_loss",
  "hours_per_week",
)
COLUMNS = (
  "age",
  "workclass",
  "fnlwgt",
  "education",
  "education_num",
  "marital_status",
  "occupation",
  "relationship",
  "race",
  "sex",
  "capital_gain",
  "capital_loss",
  "hours_per_week",
  "native_country",
  "label",
)
TASKS = {
  "income": ("label",),
  "income_marital": ("label", "never_married"),
}
LAYOUT = text_blocks.TextLayout(
  delimiter=",",
  types={
    name: pa.int32() if name in NUMBERS else pa.string() for name in COLUMNS
  },
  null_values=("?", " ?"),
)


@dataclasses.dataclass(frozen=True)
class Adult:
  """The files adult.data and adult.test.

  The label is 1 for ">50K". A "?" is a missing value. Rows of validation are
  dealt out of the training file.

  As two tasks, "income_marital", there is another label: `never_married`,
  which takes the place of the column `marital_status`.

  Attributes:
    folder: that holds the files.
    tasks: "income" or "income_marital".
    validation_fraction: share of the training file for validation.
    seed: deals the rows out.
    name: how reports call it.
  """

  folder: str = "adult"
  tasks: str = "income"
  validation_fraction: float | int = 0.1
  seed: int = 0
  name: str = "adult"

  def __post_init__(self):
    check_choice("Adult.tasks", self.tasks, tuple(TASKS))
    RandomParts(self.validation_fraction, 0.0, self.seed)

  @property
  def label_columns(self) -> tuple[str, ...]:
    """The labels, the main one first."""
    return TASKS[self.tasks]

  @property
  def mask_columns(self) -> tuple[str, ...]:
    """There are none: every label is known."""
    return ()

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The two files.

    Raises:
      DataError: one is missing.
    """
    names = (f"{self.folder}/adult.data", f"{self.folder}/adult.test")
    return tuple(
      path for name in names for path in find_files(data_dir, name, self.name)
    )

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """Reads both files.

    Raises:
      DataError: a file is missing, or a line has another number of values or
        a bad value; file and line are named.
    """
    train, test = (_read(path) for path in self.files(data_dir))
    if "never_married" in self.label_columns:
      train, test = _married_or_not(train), _married_or_not(test)
    parts = RandomParts(self.validation_fraction, 0.0, self.seed).split(
      train, 0
    )
    parts.setdefault("validation", train.slice(0, 0))
    return ExampleSplit(
      *(
        Examples.from_table(f"{self.name} {part}", table)
        for part, table in {**parts, "test": test}.items()
      )
    )


def _married_or_not(table: pa.Table) -> pa.Table:
  """With `never_married` instead of `marital_status`; unknown where missing."""
  status = table.column("marital_status")
  label = pc.call_function("equal", [status, pa.scalar("Never-married")])
  table = table.drop_columns(["marital_status"])
  return table.append_column("never_married", label.cast(pa.float32()))


def _read(path: pathlib.Path) -> pa.Table:
  with open(path, "rb") as file:
    # The test file of UCI starts with the line "|1x3 Cross validator".
    layout = dataclasses.replace(LAYOUT, header=file.read(1) == b"|")
  tables = []
  for table, start, _ in text_blocks.text_blocks(path, layout):
    for place, name in enumerate(COLUMNS):
      if name not in NUMBERS:
        text = pc.call_function("utf8_trim_whitespace", [table.column(name)])
        table = table.set_column(place, name, text)
    answers = pc.call_function(
      "utf8_rtrim", [table.column("label")], pc.TrimOptions(characters=".")
    )
    answers = answers.fill_null("").to_numpy()
    bad = np.flatnonzero((answers != "<=50K") & (answers != ">50K"))
    if len(bad):
      row = int(bad[0])
      line = text_blocks.line_of(path, layout, start, row)
      raise DataError(
        f"{path}, line {line}: the label must be '<=50K' or '>50K'; got"
        f" {table.column('label')[row].as_py()!r}."
      )
    label = pa.array((answers == ">50K").astype(np.float32))
    tables.append(table.set_column(len(COLUMNS) - 1, "label", label))
  return pa.concat_tables(tables)
