"""UCI census-income (KDD): income, education and marriage from two surveys.

199,523 rows for training and 99,762 for test, of 1994 and 1995, CC BY 4.0:
Census-Income (KDD). UCI Machine Learning Repository, 2000.
https://doi.org/10.24432/C5N30T

The pairs of tasks are those of
Jiaqi Ma et al. Modeling Task Relationships in Multi-task Learning with
Multi-gate Mixture-of-Experts. KDD 2018.
https://doi.org/10.1145/3219819.3220007

The paper does not say which levels of education are "at least college". Here
it is any degree of a college: an associate's, bachelor's, master's or doctor's
degree, or one of a professional school. "Some college but no degree" is not.
The paper tells a correlation of .2373 between the labels of its second pair,
over 10,000 rows; this choice has .2400 over all, and .1978 without associate's
degrees, .2878 with "some college". The first pair has .1782 (paper: .1768).
"""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.examples import Examples, ExampleSplit
from recjax.data.sources import text_blocks
from recjax.data.sources.example_files import find_files
from recjax.errors import DataError, check_choice, check_range, nearest

COLUMNS = (
  "age",
  "class_of_worker",
  "detailed_industry_recode",
  "detailed_occupation_recode",
  "education",
  "wage_per_hour",
  "enroll_in_edu_inst_last_wk",
  "marital_stat",
  "major_industry_code",
  "major_occupation_code",
  "race",
  "hispanic_origin",
  "sex",
  "member_of_a_labor_union",
  "reason_for_unemployment",
  "full_or_part_time_employment_stat",
  "capital_gains",
  "capital_losses",
  "dividends_from_stocks",
  "tax_filer_stat",
  "region_of_previous_residence",
  "state_of_previous_residence",
  "detailed_household_and_family_stat",
  "detailed_household_summary_in_household",
  "instance_weight",
  "migration_code_change_in_msa",
  "migration_code_change_in_reg",
  "migration_code_move_within_reg",
  "live_in_this_house_1_year_ago",
  "migration_prev_res_in_sunbelt",
  "num_persons_worked_for_employer",
  "family_members_under_18",
  "country_of_birth_father",
  "country_of_birth_mother",
  "country_of_birth_self",
  "citizenship",
  "own_business_or_self_employed",
  "fill_inc_questionnaire_for_veterans_admin",
  "veterans_benefits",
  "weeks_worked_in_year",
  "year",
  "income",
)
NUMBERS = (
  "age",
  "wage_per_hour",
  "capital_gains",
  "capital_losses",
  "dividends_from_stocks",
  "instance_weight",
  "num_persons_worked_for_employer",
  "weeks_worked_in_year",
)
COLLEGE = (
  "Associates degree-occup /vocational",
  "Associates degree-academic program",
  "Bachelors degree(BA AB BS)",
  "Masters degree(MA MS MEng MEd MSW MBA)",
  "Prof school degree (MD DDS DVM LLB JD)",
  "Doctorate degree(PhD EdD)",
)
_NO_COLLEGE = (
  "Children",
  "Less than 1st grade",
  "1st 2nd 3rd or 4th grade",
  "5th or 6th grade",
  "7th and 8th grade",
  "9th grade",
  "10th grade",
  "11th grade",
  "12th grade no diploma",
  "High school graduate",
  "Some college but no degree",
)
_WERE_MARRIED = (
  "Married-civilian spouse present",
  "Married-spouse absent",
  "Married-A F spouse present",
  "Divorced",
  "Separated",
  "Widowed",
)
PAIRS = {
  "income_marital": ("income", "never_married"),
  "education_marital": ("education_college", "never_married"),
}
LAYOUT = text_blocks.TextLayout(
  delimiter=",",
  types={
    name: pa.float32() if name in NUMBERS else pa.string() for name in COLUMNS
  },
  null_values=("?", " ?"),
)
# Label: the column that it is made of, texts that mean 1, texts that mean 0.
_MADE_OF = {
  "income": ("income", ("50000+.",), ("- 50000.",)),
  "never_married": ("marital_stat", ("Never married",), _WERE_MARRIED),
  "education_college": ("education", COLLEGE, _NO_COLLEGE),
}


@dataclasses.dataclass(frozen=True)
class CensusIncome:
  """The files census-income.data and census-income.test, plain or with .gz.

  Labels of the pair "income_marital" are `income` (over 50,000 dollars) and
  `never_married`; of "education_marital" `education_college` (see the top of
  this file) and `never_married`. The first of a pair is its main task.

  What a label of the chosen pair is made of is no feature: `marital_stat` in
  both, and `education` in the second. So the first pair has 39 features and
  the second 38. Income, which the files give as their label, is no feature of
  the second pair either. The weight of a row is left out, as the files'
  documentation asks. The columns of NUMBERS are numbers; all others, codes
  included, are text. A "?" is a missing value.

  As in the paper, all rows of the training file are for training, and those of
  the test file are parted at random into validation and test.

  Attributes:
    folder: that holds the files.
    tasks: "income_marital" or "education_marital".
    validation_fraction: share of the test file that is for validation.
    seed: parts the test file.
    name: how reports call it.
  """

  folder: str = "census-income"
  tasks: str = "income_marital"
  validation_fraction: float | int = 0.5
  seed: int = 0
  name: str = "census_income"

  def __post_init__(self):
    check_choice("CensusIncome.tasks", self.tasks, PAIRS)
    fraction = self.validation_fraction
    check_range("CensusIncome.validation_fraction", fraction, 0, 1)
    check_range("CensusIncome.seed", self.seed, 0, integer=True)

  @property
  def label_columns(self) -> tuple[str, ...]:
    """The labels of the pair, the main one first."""
    return PAIRS[self.tasks]

  @property
  def mask_columns(self) -> tuple[str, ...]:
    """There are none: every label is known."""
    return ()

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The two files.

    Raises:
      DataError: one is missing.
    """
    found = []
    for ending in ("data", "test"):
      plain = f"{self.folder}/census-income.{ending}"
      packed = pathlib.Path(data_dir) / f"{plain}.gz"
      path = f"{plain}.gz" if packed.is_file() else plain
      found += find_files(data_dir, path, self.name)
    return tuple(found)

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """Reads both files.

    Raises:
      DataError: a file is missing, or a line has another number of values or
        a bad value; file and line are named.
    """
    train, held_out = (
      _read(path, self.label_columns) for path in self.files(data_dir)
    )
    num_rows = held_out.num_rows
    order = np.random.default_rng(self.seed).permutation(num_rows)
    cut = round(self.validation_fraction * num_rows)
    # Rows keep the order of the file.
    rows = np.sort(order[:cut]), np.sort(order[cut:])
    validation, test = (held_out.take(pa.array(part)) for part in rows)
    parts = {"train": train, "validation": validation, "test": test}
    return ExampleSplit(
      *(
        Examples.from_table(
          f"{self.name} {part}", table, label=self.label_columns[0]
        )
        for part, table in parts.items()
      )
    )


def _read(path: pathlib.Path, labels: tuple[str, ...]) -> pa.Table:
  no_features = {_MADE_OF[label][0] for label in labels}
  no_features |= {"instance_weight", "income"}
  tables = []
  for table, start, _ in text_blocks.text_blocks(path, LAYOUT):
    # Some values of the test file end with a space.
    for place, name in enumerate(COLUMNS):
      if name not in NUMBERS:
        text = pc.call_function("utf8_trim_whitespace", [table.column(name)])
        table = table.set_column(place, name, text)
    made = {label: _label(path, start, table, label) for label in labels}
    table = table.drop_columns(sorted(no_features))
    for label, values in made.items():
      table = table.append_column(label, pa.array(values, pa.float32()))
    tables.append(table)
  return pa.concat_tables(tables)


def _label(
  path: pathlib.Path, start: int, table: pa.Table, label: str
) -> np.ndarray:
  name, ones, zeros = _MADE_OF[label]
  texts = table.column(name).fill_null("").to_numpy()
  bad = np.flatnonzero(~np.isin(texts, [*ones, *zeros]))
  if len(bad):
    row = int(bad[0])
    line = text_blocks.line_of(path, LAYOUT, start, row)
    shown = table.column(name)[row].as_py()
    raise DataError(
      f"{path}, line {line}: {shown!r} in column {name!r}, of which a label is"
      f" made, is none of {', '.join(map(repr, [*ones, *zeros]))}."
      f"{nearest(str(shown), [*ones, *zeros])}"
    )
  return np.isin(texts, ones)
