"""Text as lists of tokens: lower-case runs of letters and digits."""

import dataclasses
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from recjax.errors import DataError, check_range, nearest
from recjax.features.encodings import Vocabulary
from recjax.features.specs import MultiHot, Spec


@dataclasses.dataclass(frozen=True)
class Text:
  """A column of text, whose tokens a tower encodes.

  Attributes:
    name: of the feature.
    column: where it stands; by default the name.
    max_len: tokens that are read; of a longer text the end is lost.
    min_count: rarer tokens share one id.
    max_size: at most so many tokens, the most frequent; 0 is no limit.
  """

  name: str
  column: str = ""
  max_len: int = 20
  min_count: int = 1
  max_size: int = 0

  def __post_init__(self):
    if not self.column:
      object.__setattr__(self, "column", self.name)
    check_range(f"Text {self.name!r}: max_len", self.max_len, 1, integer=True)
    _ = self.spec

  @property
  def spec(self) -> MultiHot:
    """The same as a feature of the column that `with_tokens` makes."""
    return MultiHot(
      self.name,
      f"{self.column}:tokens",
      self.max_len,
      Vocabulary(self.min_count, self.max_size),
    )


def with_tokens(
  features: Sequence[Spec | Text], table: pa.Table
) -> tuple[tuple[Spec, ...], pa.Table]:
  """The features without `Text`, and the table with the tokens they read.

  Raises:
    DataError: a column of text is not there, or holds something else.
  """
  for feature in features:
    if not isinstance(feature, Text):
      continue
    names = table.column_names
    if feature.column not in names:
      raise DataError(
        f"feature {feature.name!r} reads the column {feature.column!r}, which"
        f" is not there; there are {', '.join(names)}."
        f"{nearest(feature.column, names)}"
      )
    if feature.spec.column not in names:
      found = tokens(table.column(feature.column), column=feature.column)
      table = table.append_column(feature.spec.column, found)
  specs = (f.spec if isinstance(f, Text) else f for f in features)
  return tuple(specs), table


def tokens(array: pa.Array | pa.ChunkedArray, *, column: str) -> pa.Array:
  """The tokens of each text, in order; null where there is no text.

  "Toy Story (1995)" has the tokens "toy", "story" and "1995".

  Args:
    array: text.
    column: its name, for messages.

  Returns:
    Lists of text.

  Raises:
    DataError: the column holds no text.
  """
  if isinstance(array, pa.ChunkedArray):
    array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([])
  if isinstance(array, pa.DictionaryArray):
    array = array.dictionary_decode()
  kinds = pa.types.is_string, pa.types.is_large_string
  if not any(is_kind(array.type) for is_kind in kinds):
    raise DataError(
      f"tokens need a column of text; column {column!r} has the type"
      f" {array.type}."
    )
  call = pc.call_function
  lower = call("utf8_lower", [array])
  options = pc.ReplaceSubstringOptions(r"[^\p{L}\p{N}]+", " ")
  spaced = call("replace_substring_regex", [lower], options)
  trimmed = call("utf8_trim_whitespace", [spaced])
  # An empty text would have one token, which is empty.
  trimmed = call("if_else", [call("equal", [trimmed, ""]), None, trimmed])
  return call("utf8_split_whitespace", [trimmed])
