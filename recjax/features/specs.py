"""What a column is: frozen descriptions, to be fitted on training rows.

Ids of a feature are int32. 0 is a missing value or padding. Where a
vocabulary is fitted, 1 is any value outside of it and its values follow from
2; buckets, intervals and given ids count from 1.

| kind | encoded as | of a column of |
| --- | --- | --- |
| Categorical | ids [batch] | integers or text |
| Bucketized | ids [batch] | numbers |
| Cross | ids [batch] | several columns |
| MultiHot | ids [batch, max_len] | lists, or text with a separator |
| Sequence | ids [batch, max_len] | lists in time order, or text |
| Numeric | float32 [batch] | numbers |
| Vector | float32 [batch, dim] | lists of numbers |
| ListWeights | float32 [batch, max_len] | lists of numbers, beside values |
"""

import dataclasses
import math
from collections.abc import Sequence as Names
from typing import Any

from recjax.errors import ConfigError, check_choice, check_range, nearest
from recjax.features.encodings import (
  ENCODINGS,
  Encoding,
  SharedWith,
  Vocabulary,
)

TRANSFORMS = ("none", "min_max", "z_score", "log", "quantile")
RESERVED = ("label", "weight", "where")


@dataclasses.dataclass(frozen=True)
class Categorical:
  """One value a row.

  Attributes:
    name: of the feature.
    column: where it stands; by default the name.
    encoding: Vocabulary, Hashed, GivenIds or SharedWith.
    discretize: "log_square" turns a number x into floor(ln(x)^2) where x > 2
      and into its whole part elsewhere, the rule of the winners of the Criteo
      contest, before the encoding; "" takes values as they are.
  """

  name: str
  column: str = ""
  encoding: Encoding = Vocabulary()
  discretize: str = ""

  def __post_init__(self):
    _check_name_and_column(self)
    check_choice(
      f"feature {self.name!r}: discretize",
      self.discretize,
      ("", "log_square"),
    )


@dataclasses.dataclass(frozen=True)
class MultiHot:
  """A set of values a row, padded with 0; a longer one loses its end.

  Attributes:
    name: of the feature.
    column: where it stands; by default the name.
    max_len: the width.
    encoding: of the values.
    separator: between the values of a text column; "" for a list column.
  """

  name: str
  column: str = ""
  max_len: int = 10
  encoding: Encoding = Vocabulary()
  separator: str = ""

  def __post_init__(self):
    _check_name_and_column(self)
    what = f"feature {self.name!r}: max_len"
    check_range(what, self.max_len, 1, integer=True)


@dataclasses.dataclass(frozen=True)
class Sequence:
  """Values in time order, left-aligned; of a longer one the last are taken.

  Attributes:
    name: of the feature.
    column: where it stands; by default the name.
    max_len: the width.
    encoding: of the values.
    separator: between the values of a text column; "" for a list column.
  """

  name: str
  column: str = ""
  max_len: int = 50
  encoding: Encoding = Vocabulary()
  separator: str = ""

  def __post_init__(self):
    _check_name_and_column(self)
    what = f"feature {self.name!r}: max_len"
    check_range(what, self.max_len, 1, integer=True)


@dataclasses.dataclass(frozen=True)
class Bucketized:
  """The interval of a number: id = 1 + number of boundaries at or below it.

  Attributes:
    name: of the feature.
    column: where it stands; by default the name.
    boundaries: increasing numbers; or, instead,
    num_quantiles: boundaries are the quantiles of the training rows that part
      them into so many intervals; equal ones are merged; or, instead,
    num_intervals: so many intervals of equal width, from the least to the
      greatest number of the training rows.
  """

  name: str
  column: str = ""
  boundaries: Names[float | int] = ()
  num_quantiles: int = 0
  num_intervals: int = 0

  def __post_init__(self):
    _check_name_and_column(self)
    object.__setattr__(self, "boundaries", tuple(self.boundaries))
    bounds = self.boundaries
    counts = self.num_quantiles, self.num_intervals
    for name, count in zip(("num_quantiles", "num_intervals"), counts):
      what = f"feature {self.name!r}: {name}"
      check_range(what, count, 0, 100_000, integer=True)
    if bool(bounds) + sum(map(bool, counts)) != 1 or 1 in counts:
      raise ConfigError(
        f"feature {self.name!r} needs either boundaries or num_quantiles of 2"
        f" or more, or as many num_intervals; got {bounds}, {counts[0]} and"
        f" {counts[1]}."
      )
    finite = all(math.isfinite(bound) for bound in bounds)
    if not finite or any(b <= a for a, b in zip(bounds, bounds[1:])):
      raise ConfigError(
        f"feature {self.name!r}: boundaries must be finite and increase; got"
        f" {bounds}."
      )


@dataclasses.dataclass(frozen=True)
class Cross:
  """The values of several columns together, hashed.

  Where any of them is missing, the id is 0.

  Attributes:
    name: of the feature.
    columns: columns of integers or text, which are crossed as they are.
    features: names of Categorical and Bucketized features, whose ids are
      crossed.
    num_buckets: id = 1 + hash mod num_buckets.
    seed: another seed is another hash.
  """

  name: str
  columns: Names[str] = ()
  features: Names[str] = ()
  num_buckets: int = 100_000
  seed: int = 0

  def __post_init__(self):
    _check_name(self.name)
    for field in ("columns", "features"):
      given = getattr(self, field)
      if isinstance(given, str):
        raise ConfigError(
          f"feature {self.name!r}: {field} must be a tuple of names; got"
          f" {given!r}."
        )
      object.__setattr__(self, field, tuple(given))
    parts = (*self.columns, *self.features)
    if len(parts) < 2 or len(set(parts)) < len(parts) or "" in parts:
      raise ConfigError(
        f"feature {self.name!r} must cross at least two different columns or"
        f" features; got columns={self.columns} and features={self.features}."
      )
    what = f"feature {self.name!r}: "
    top = 2**31 - 2
    check_range(what + "num_buckets", self.num_buckets, 1, top, integer=True)
    check_range(what + "seed", self.seed, 0, integer=True)


@dataclasses.dataclass(frozen=True)
class Numeric:
  """A number.

  With statistics of the training rows that have a value:
  - "none": x;
  - "min_max": (x - min) / (max - min), outside of [0, 1] for values that are
    outside of the training range; 0 where max = min;
  - "z_score": (x - mean) / std, std with divisor n; 0 where std = 0;
  - "log": ln(1 + max(x, 0)), what is done with the counts of Criteo;
  - "quantile": the share of training rows below x, in [0, 1], interpolated
    between up to `num_quantiles` quantiles.

  Attributes:
    name: of the feature.
    column: where it stands; by default the name.
    transform: one of the above.
    fill: what a missing value (null or NaN) counts as, before the transform:
      a number, "mean" (of the training rows), or "error" to refuse it.
    num_quantiles: how finely "quantile" looks.
  """

  name: str
  column: str = ""
  transform: str = "none"
  fill: float | int | str = 0.0
  num_quantiles: int = 1000

  def __post_init__(self):
    _check_name_and_column(self)
    what = f"feature {self.name!r}: "
    check_choice(what + "transform", self.transform, TRANSFORMS)
    top = 100_000
    count = self.num_quantiles
    check_range(what + "num_quantiles", count, 2, top, integer=True)
    if isinstance(self.fill, str):
      check_choice(what + "fill (if no number)", self.fill, ("mean", "error"))
    else:
      check_range(what + "fill", self.fill, -3e38, 3e38)


@dataclasses.dataclass(frozen=True)
class Vector:
  """Numbers known beforehand, such as an embedding of an image or a text.

  A missing one is all zeros.

  Attributes:
    name: of the feature.
    column: a column of lists of `dim` numbers; by default the name.
    dim: the width.
  """

  name: str
  column: str = ""
  dim: int = 0

  def __post_init__(self):
    _check_name_and_column(self)
    check_range(f"feature {self.name!r}: dim", self.dim, 1, integer=True)


@dataclasses.dataclass(frozen=True)
class ListWeights:
  """A weight of each value of a MultiHot or Sequence; 0 where it is padded.

  Attributes:
    name: of the feature.
    of: the feature whose values are weighted.
    column: lists as long as those of the values; by default the name.
    separator: between the numbers of a text column; "" for a list column.
  """

  name: str
  of: str
  column: str = ""
  separator: str = ""

  def __post_init__(self):
    _check_name_and_column(self)


Spec = (
  Categorical
  | MultiHot
  | Sequence
  | Bucketized
  | Cross
  | Numeric
  | Vector
  | ListWeights
)
IdSpec = Categorical | MultiHot | Sequence | Bucketized | Cross
ValueSpec = Categorical | MultiHot | Sequence
ListSpec = MultiHot | Sequence
KINDS = (
  Categorical,
  MultiHot,
  Sequence,
  Bucketized,
  Cross,
  Numeric,
  Vector,
  ListWeights,
)


def columns_of(spec: Spec) -> tuple[str, ...]:
  """The columns that a feature reads."""
  return tuple(spec.columns) if isinstance(spec, Cross) else (spec.column,)


def check_specs(specs: Names[Spec]) -> tuple[Spec, ...]:
  """The specs as a tuple, after a look at how they refer to each other.

  Raises:
    ConfigError: there is none, two have one name, or one refers to a feature
      that is not there or is of another kind.
  """
  specs = tuple(specs)
  if not specs:
    raise ConfigError("there must be at least one feature; got none.")
  by_name: dict[str, Spec] = {}
  for spec in specs:
    if not isinstance(spec, KINDS):
      kinds = ", ".join(kind.__name__ for kind in KINDS)
      raise ConfigError(f"a feature must be one of {kinds}; got {spec!r}.")
    if spec.name in by_name:
      raise ConfigError(
        f"two features are named {spec.name!r}: {by_name[spec.name]} and"
        f" {spec}. Give one of them another name; they may read one column."
      )
    by_name[spec.name] = spec
  for spec in specs:
    if isinstance(spec, ListWeights):
      _check_reference(spec, spec.of, by_name, (MultiHot, Sequence))
    elif isinstance(spec, Cross):
      for name in spec.features:
        _check_reference(spec, name, by_name, (Categorical, Bucketized))
    elif isinstance(spec, ValueSpec):
      encoding = spec.encoding
      if isinstance(encoding, SharedWith):
        other = _check_reference(spec, encoding.feature, by_name, ValueSpec)
        if isinstance(other.encoding, SharedWith):
          raise ConfigError(
            f"feature {spec.name!r} shares ids with {other.name!r}, which"
            f" shares those of {other.encoding.feature!r}: name that one."
          )
  return specs


def _check_reference(spec: Spec, name: str, by_name: dict, kinds) -> Any:
  other = by_name.get(name)
  if other is None:
    raise ConfigError(
      f"feature {spec.name!r} refers to a feature {name!r}; there are"
      f" {', '.join(by_name)}.{nearest(name, by_name)}"
    )
  if not isinstance(other, kinds):
    raise ConfigError(
      f"feature {spec.name!r} refers to {name!r}, which is a"
      f" {type(other).__name__}: its values can not be used there."
    )
  return other


def _check_name(name: str) -> None:
  if not isinstance(name, str) or not name or name in RESERVED:
    raise ConfigError(
      "a feature needs a name other than"
      f" {', '.join(map(repr, RESERVED))}; got {name!r}."
    )


def _check_name_and_column(spec) -> None:
  _check_name(spec.name)
  if not spec.column:
    object.__setattr__(spec, "column", spec.name)
  encoding = getattr(spec, "encoding", None)
  if encoding is not None and not isinstance(encoding, ENCODINGS):
    kinds = ", ".join(f"{kind.__name__}(...)" for kind in ENCODINGS)
    raise ConfigError(
      f"feature {spec.name!r}: encoding must be one of {kinds}; got"
      f" {encoding!r}."
    )
