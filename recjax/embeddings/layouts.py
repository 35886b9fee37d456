"""Where tables lie in the arrays that hold them."""

import dataclasses

from recjax.embeddings.tables import MAX_ROWS, TableSpec, round_up
from recjax.errors import ConfigError

_SHARED = ("dim", "dtype", "optimizer", "sharding", "max_norm")


@dataclasses.dataclass(frozen=True)
class ArrayLayout:
  """An array that holds one table, or a stack of several.

  Attributes:
    name: of the stack, or of the only table.
    tables: in their order.
    starts: first row of each.
    num_rows: of the array, see `tables.round_up`.
  """

  name: str
  tables: tuple[TableSpec, ...]
  starts: tuple[int, ...]
  num_rows: int

  @property
  def spec(self) -> TableSpec:
    """What all tables of the array agree in."""
    return self.tables[0]


def make_layout(name: str, specs: list[TableSpec]) -> ArrayLayout:
  """Tables one after the other.

  Args:
    name: of the array.
    specs: of its tables.

  Raises:
    ConfigError: the tables can not lie in one array, or are too many rows.
  """
  for spec in specs[1:]:
    for field in _SHARED:
      ours, first = getattr(spec, field), getattr(specs[0], field)
      if ours != first:
        raise ConfigError(
          f"the tables of the stack {name!r} must agree in {field};"
          f" {specs[0].name!r} has {first!r} and {spec.name!r} has {ours!r}."
        )
  starts, start = [], 0
  for spec in specs:
    starts.append(start)
    start += spec.ids_rows
  if start > MAX_ROWS:
    raise ConfigError(
      f"the stack {name!r} must have at most {MAX_ROWS:,} rows; got {start:,}."
      " Give some of its tables another stack."
    )
  return ArrayLayout(name, tuple(specs), tuple(starts), round_up(start))
