"""The values of a feature of users or items: who has which, by id.

A column of text, of whole numbers or of lists of these gives a group for each
distinct value; ids whose lists hold several are in several groups. Many numbers
are cut into parts of about equal size, and of many texts the most frequent are
kept.
"""

import dataclasses

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int, Num

from recjax.data.column_values import ColumnValues, is_list
from recjax.errors import ConfigError, nearest

MISSING = "(missing)"
"""What ids without a value are called."""
# Bytes of a table of members.
_MAX_MEMBERS = 1 << 28


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureValues:
  """Which values each id has.

  Attributes:
    name: of the feature.
    values: their names.
    member: whether an id has a value; row 0 is padding and has none.
  """

  name: str
  values: tuple[str, ...]
  member: Bool[np.ndarray, "vocab value"]

  def with_missing(self) -> "FeatureValues":
    """With a value more for the ids that have none, if there are any."""
    none = np.count_nonzero(self.member, axis=1) == 0
    none[0] = False
    if not none.any():
      return self
    member = np.concatenate([self.member, none[:, None]], axis=1)
    return FeatureValues(self.name, (*self.values, MISSING), member)


def check_feature(table: pa.Table | None, name: str, what: str) -> None:
  """Raises ConfigError unless a table has a feature that can be grouped by.

  Args:
    table: of users or items; None where nothing is known.
    name: of its column.
    what: "user" or "item".
  """
  if table is None:
    raise ConfigError(
      f"the {what} feature {name!r} is asked for, but the source knows nothing"
      f" of its {what}s; take a source with a table of {what}s, see"
      " docs/slices.md."
    )
  known = [column for column in table.column_names if column != "raw_id"]
  if name not in known:
    raise ConfigError(
      f"there is no {what} feature {name!r}; there are"
      f" {', '.join(known) or 'none'}.{nearest(name, known)}"
    )
  kind = table.schema.field(name).type
  if is_list(kind) and pa.types.is_floating(kind.value_type):
    raise ConfigError(
      f"the {what} feature {name!r} holds vectors, which are no values to group"
      " by."
    )


def feature_values(table: pa.Table, name: str) -> FeatureValues:
  """All values of a feature, numbers in their order, texts by frequency.

  Args:
    table: row i describes the id i + 1.
    name: of a column that passes `check_feature`.

  Raises:
    ConfigError: there are too many values to keep who has which.
  """
  column = ColumnValues.of_column(table.column(name))
  num = len(column.distinct)
  if (column.num_rows + 1) * num > _MAX_MEMBERS:
    raise ConfigError(
      f"the feature {name!r} has {num:,} values for {column.num_rows:,} ids,"
      f" more than are kept; at most {_MAX_MEMBERS // (column.num_rows + 1):,}."
    )
  order = _order(column)
  return _grouped(name, column, order, _texts(column, order))


def sliced_values(
  table: pa.Table, name: str, *, most: int, parts: int
) -> FeatureValues:
  """Few values of a feature, to cut a table of results by.

  Args:
    table: row i describes the id i + 1.
    name: of a column that passes `check_feature`.
    most: how many values are kept. Of more texts the most frequent ones are,
      and one for all others.
    parts: into how many more numbers than that are cut, at quantiles.
  """
  column = ColumnValues.of_column(table.column(name))
  order = _order(column)
  if len(order) <= most:
    return _grouped(name, column, order, _texts(column, order))
  kind = column.distinct.type
  if pa.types.is_integer(kind) or pa.types.is_floating(kind):
    numbers = column.distinct.to_numpy(zero_copy_only=False)
    return _parts(name, column, numbers, parts)
  kept = order[:most]
  names = _texts(column, kept)
  left = len(order) - most
  names.append(f"other ({left:,} value{'' if left == 1 else 's'})")
  place = np.full(len(column.distinct) + 1, most)
  place[kept], place[-1] = np.arange(most), -1
  return _placed(name, column, names, place[column.codes])


def equal_ends(
  values: Num[np.ndarray, " value"], num: int
) -> tuple[int | float, ...]:
  """The largest value of each of `num` parts of about equal size but the last.

  Equal values are never parted, so there are fewer parts where many are.

  Args:
    values: at least one.
    num: how many parts.
  """
  shares = np.arange(1, num) / num
  ends = np.quantile(values, shares, method="inverted_cdf")
  kept = set(ends.tolist()) - {values.max().item()}
  return tuple(sorted(kept))


def _order(column: ColumnValues) -> Int[np.ndarray, " value"]:
  """Distinct values that someone has: numbers sorted, texts by frequency."""
  counts = column.counts()
  some = np.flatnonzero(counts)
  kind = column.distinct.type
  if pa.types.is_integer(kind) or pa.types.is_floating(kind):
    numbers = column.distinct.to_numpy(zero_copy_only=False)
    return some[np.argsort(numbers[some], kind="stable")]
  return some[np.argsort(-counts[some], kind="stable")]


def _texts(column: ColumnValues, order: Int[np.ndarray, " value"]) -> list[str]:
  return [str(column.distinct[int(code)].as_py()) for code in order]


def _grouped(
  name: str,
  column: ColumnValues,
  order: Int[np.ndarray, " value"],
  names: list[str],
) -> FeatureValues:
  place = np.full(len(column.distinct) + 1, -1)
  place[order] = np.arange(len(order))
  return _placed(name, column, names, place[column.codes])


def _parts(
  name: str, column: ColumnValues, numbers: np.ndarray, parts: int
) -> FeatureValues:
  """Parts of numbers, named by the least and the largest in each."""
  values = numbers[column.codes]
  known = column.codes >= 0
  ends = np.array(equal_ends(values[known], parts))
  part = np.where(known, np.searchsorted(ends, values, side="left"), -1)
  names = []
  for number in range(len(ends) + 1):
    inside = values[part == number]
    low, high = (_number(end) for end in (inside.min(), inside.max()))
    names.append(low if low == high else f"{low}-{high}")
  return _placed(name, column, names, part)


def _number(value: np.number) -> str:
  """Whole numbers in full, others to six digits."""
  return str(value) if isinstance(value, np.integer) else f"{value:g}"


def _placed(
  name: str,
  column: ColumnValues,
  names: list[str],
  place: Int[np.ndarray, " value"],
) -> FeatureValues:
  member = np.zeros((column.num_rows + 1, len(names)), bool)
  some = place >= 0
  member[column.rows[some] + 1, place[some]] = True
  return FeatureValues(name, tuple(names), member)
