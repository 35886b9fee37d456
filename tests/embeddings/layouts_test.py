"""Where tables lie in arrays; what they must agree in."""

import pytest

from recjax.embeddings.layouts import make_layout
from recjax.embeddings.tables import TableSpec
from recjax.errors import ConfigError


def test_tables_lie_one_after_the_other_and_the_array_is_rounded_up_once():
  specs = [TableSpec("a", 30, 4), TableSpec("b", 20, 4), TableSpec("c", 90, 4)]
  layout = make_layout("all", specs)
  assert layout.starts == (0, 30, 50) and layout.num_rows == 256
  assert layout.spec is specs[0] and layout.tables == tuple(specs)


@pytest.mark.parametrize(
  "first,second,message",
  [
    (
      TableSpec("a", 30, 4),
      TableSpec("b", 30, 8),
      "stack 'all' must agree in dim; 'a' has 4 and 'b' has 8",
    ),
    (
      TableSpec("a", 1_500_000_000, 4),
      TableSpec("b", 1_500_000_000, 4),
      "stack 'all' must have at most 2,000,000,000 rows; got 3,000,000,000",
    ),
  ],
)
def test_tables_that_can_not_lie_together_are_told(first, second, message):
  with pytest.raises(ConfigError, match=message):
    make_layout("all", [first, second])
