"""How values become ids: settings, to be fitted on training rows.

0 is a missing value or padding. Where a vocabulary is fitted, 1 is any value
outside of it and its values follow from 2; buckets and given ids count from 1.
"""

import dataclasses

from recjax.errors import ConfigError, check_choice, check_range


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Every value that training rows hold often enough has an id of its own.

  Ids follow the counts, the most frequent value first.

  Attributes:
    min_count: values with fewer training rows share id 1 with unseen ones.
    max_size: at most so many values, the most frequent ones; 0 is no limit.
    oov: what to do with a value outside: "bucket" gives id 1, "error" stops.
  """

  min_count: int = 1
  max_size: int = 0
  oov: str = "bucket"

  def __post_init__(self):
    check_range("Vocabulary.min_count", self.min_count, 1, integer=True)
    check_range("Vocabulary.max_size", self.max_size, 0, integer=True)
    check_choice("Vocabulary.oov", self.oov, ("bucket", "error"))
    if self.oov == "error" and (self.min_count > 1 or self.max_size):
      raise ConfigError(
        "Vocabulary.oov='error' refuses values outside of the vocabulary, so"
        " none may be cut off: min_count must be 1 and max_size 0; got"
        f" {self.min_count} and {self.max_size}."
      )


@dataclasses.dataclass(frozen=True)
class Hashed:
  """Values share a fixed number of buckets: id = 1 + hash mod num_buckets.

  Attributes:
    num_buckets: how many.
    seed: another seed is another hash.
  """

  num_buckets: int
  seed: int = 0

  def __post_init__(self):
    top = 2**31 - 2
    check_range("Hashed.num_buckets", self.num_buckets, 1, top, integer=True)
    check_range("Hashed.seed", self.seed, 0, integer=True)


@dataclasses.dataclass(frozen=True)
class GivenIds:
  """The column holds ids already; one outside of [0, num_ids) is an error.

  Attributes:
    num_ids: one more than the largest id; 0 is padding.
  """

  num_ids: int

  def __post_init__(self):
    check_range("GivenIds.num_ids", self.num_ids, 2, 2**31 - 1, integer=True)


@dataclasses.dataclass(frozen=True)
class SharedWith:
  """The ids of another feature, as fitted on that feature's column alone.

  Attributes:
    feature: the name of a Categorical, MultiHot or Sequence.
  """

  feature: str

  def __post_init__(self):
    if not self.feature:
      raise ConfigError("SharedWith.feature must name a feature; got ''.")


Encoding = Vocabulary | Hashed | GivenIds | SharedWith
ENCODINGS = (Vocabulary, Hashed, GivenIds, SharedWith)
