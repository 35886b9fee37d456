"""Specs for the columns of a table about which nobody said anything."""

from collections.abc import Container

import pyarrow as pa

from recjax.errors import DataError
from recjax.features.encodings import Vocabulary
from recjax.features.specs import Categorical, Numeric, Spec


def infer_specs(
  schema: pa.Schema, *, leave_out: Container[str], min_count: int = 1
) -> tuple[Spec, ...]:
  """One feature a column: integers and text are categories, floats numbers.

  Args:
    schema: of the raw columns.
    leave_out: columns that are no features, such as the label.
    min_count: rarer categories share the id of unknown ones.

  Returns:
    Categorical with a fitted vocabulary, and Numeric with z-scores, in the
    order of the columns.

  Raises:
    DataError: a column has another type; describe it by a spec of its own.
  """
  found: list[Spec] = []
  for field in schema:
    kind = field.type
    if pa.types.is_dictionary(kind):
      kind = kind.value_type
    if field.name in leave_out:
      continue
    if pa.types.is_floating(kind):
      found.append(Numeric(field.name, transform="z_score"))
    elif (
      pa.types.is_integer(kind)
      or pa.types.is_string(kind)
      or pa.types.is_large_string(kind)
    ):
      encoding = Vocabulary(min_count=min_count)
      found.append(Categorical(field.name, encoding=encoding))
    else:
      raise DataError(
        f"column {field.name!r} has the type {field.type}, for which no feature"
        " is inferred; name the features, with a spec for this column or"
        " without it."
      )
  return tuple(found)
