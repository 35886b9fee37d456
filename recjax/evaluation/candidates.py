"""Which items a target is ranked among: the whole catalogue, or a sample.

Specs are small frozen values that go into a `Protocol`;
`recjax.evaluation.sampling` turns them into item ids.
"""

import dataclasses
import functools
import hashlib
import pathlib

import numpy as np
from jaxtyping import Int

from recjax.data.ragged import Ragged
from recjax.errors import ConfigError, DataError, check_choice, check_range

EXCLUDES = ("none", "train", "history", "history_and_targets")
AMONG = ("all", "unseen")


@dataclasses.dataclass(frozen=True)
class AllItems:
  """Every item of the catalogue; the protocol says which seen ones are out.

  Attributes:
    among: "all", or "unseen": only the items without a training event, so
      that a new item competes with new items and chance is known.
  """

  among: str = "all"

  def __post_init__(self) -> None:
    check_choice("AllItems.among", self.among, AMONG)

  def to_dict(self) -> dict[str, object]:
    """The fields that define numbers; `among` only where it is not "all"."""
    fields: dict[str, object] = {"kind": "all_items"}
    return fields if self.among == "all" else fields | {"among": self.among}

  def describe(self) -> str:
    """A few words for tables."""
    if self.among == "all":
      return "full catalogue"
    return "all items without a training event"


@dataclasses.dataclass(frozen=True)
class UniformNegatives:
  """The target among items drawn uniformly.

  Attributes:
    num: negatives a user.
    with_replacement: whether an item may be drawn twice; each copy counts.
    exclude: what is never drawn: "train" (the user's training items; a
      target may be drawn, and then ties with itself), "history" (all that
      the model may see), "history_and_targets", or "none".
    seed: of the draw.
  """

  num: int = 100
  with_replacement: bool = True
  exclude: str = "history_and_targets"
  seed: int = 0

  def __post_init__(self) -> None:
    _check_sampled(self)

  def to_dict(self) -> dict[str, object]:
    """The fields that define numbers."""
    return {"kind": "uniform", **dataclasses.asdict(self)}

  def describe(self) -> str:
    """A few words for tables."""
    return f"{self.num} uniform negatives ({_how(self)})"


@dataclasses.dataclass(frozen=True)
class PopularityNegatives:
  """The target among items drawn in proportion to their popularity.

  Attributes:
    num: negatives a user.
    exclude: what is never drawn, as in `UniformNegatives`.
    with_replacement: whether an item may be drawn twice; each copy counts.
    counts_from: "train" counts training interactions; "all" counts those of
      validation and test as well, which leaks but is what BERT4Rec did.
    seed: of the draw.
  """

  num: int = 100
  exclude: str = "history_and_targets"
  with_replacement: bool = False
  counts_from: str = "train"
  seed: int = 0

  def __post_init__(self) -> None:
    _check_sampled(self)
    check_choice("counts_from", self.counts_from, ("train", "all"))

  def to_dict(self) -> dict[str, object]:
    """The fields that define numbers."""
    return {"kind": "popularity", **dataclasses.asdict(self)}

  def describe(self) -> str:
    """A few words for tables."""
    counts = f"counts from {self.counts_from}"
    return f"{self.num} popularity negatives ({_how(self)}, {counts})"


@dataclasses.dataclass(frozen=True, eq=False)
class GivenLists:
  """The target among items listed beforehand, one list a user.

  Repeated items count once, and a target that stands among its own negatives
  merges with itself, as in the dictionary of NCF's own evaluation. Two specs
  are equal when their lists are.

  Attributes:
    path: a file in NCF's `*.test.negative` format: a line holds
      "(user,positive)" and the negatives, tab-separated.
    lists: instead of a path: row u holds the items of user id u.
    id_offset: added to the ids of the file, which count from 0.

  References:
    Xiangnan He et al. Neural Collaborative Filtering. WWW 2017.
    https://arxiv.org/abs/1708.05031
  """

  path: str = ""
  lists: Ragged | None = None
  id_offset: int = 1

  def __post_init__(self) -> None:
    if bool(self.path) == (self.lists is not None):
      raise ConfigError(
        "GivenLists takes either a path or lists;"
        f" got path={self.path!r} and lists={self.lists!r}."
      )
    check_range("id_offset", self.id_offset, 0, integer=True)

  @functools.cached_property
  def content(self) -> tuple[Ragged, np.ndarray]:
    """The lists by user id, and each user's positive (0 where unknown)."""
    if self.lists is not None:
      return self.lists, np.zeros(len(self.lists), np.int64)
    return read_negative_file(pathlib.Path(self.path), self.id_offset)

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 over the lists, wherever they come from."""
    lists, positives = self.content
    sha = hashlib.sha256()
    for part in (lists.offsets, lists.values, positives):
      sha.update(np.ascontiguousarray(part, np.int64).tobytes())
    return sha.hexdigest()

  def __eq__(self, other: object) -> bool:
    return isinstance(other, GivenLists) and self.digest == other.digest

  def __hash__(self) -> int:
    return hash(self.digest)

  def to_dict(self) -> dict[str, object]:
    """The fields that define numbers."""
    return {"kind": "given_lists", "digest": self.digest}

  def describe(self) -> str:
    """A few words for tables."""
    lengths = self.content[0].lengths
    longest = int(lengths.max()) if len(lengths) else 0
    return f"given lists (up to {longest} negatives)"


Candidates = AllItems | UniformNegatives | PopularityNegatives | GivenLists


def _check_sampled(spec: UniformNegatives | PopularityNegatives) -> None:
  check_range("num", spec.num, 1, integer=True)
  check_range("seed", spec.seed, 0, integer=True)
  check_choice("exclude", spec.exclude, EXCLUDES)
  if not isinstance(spec.with_replacement, bool):
    raise ConfigError(
      f"with_replacement must be True or False; got {spec.with_replacement!r}."
    )


def _how(spec: UniformNegatives | PopularityNegatives) -> str:
  replacement = "with" if spec.with_replacement else "without"
  without = spec.exclude.replace("_", " ")
  return f"{replacement} replacement, excluding {without}"


def read_negative_file(
  path: pathlib.Path, id_offset: int = 1
) -> tuple[Ragged, Int[np.ndarray, " user"]]:
  """Reads NCF's `*.test.negative` format.

  Args:
    path: the file.
    id_offset: added to user and item ids.

  Returns:
    The negatives by user id, and the positive of each user id.

  Raises:
    DataError: the file is missing, or a line can not be read.
  """
  if not path.is_file():
    raise DataError(f"no such file of given negatives: {path}")
  users, positives, negatives = [], [], []
  with path.open() as lines:
    for number, line in enumerate(lines, 1):
      try:
        head, *rest = line.split()
        user, item = (int(part) for part in head.strip("()").split(","))
        row = np.array(rest, np.int64)
      except ValueError as e:
        raise DataError(
          f"{path}, line {number}: expected '(user,item)' and tab-separated"
          f" item ids, got {line[:40]!r}."
        ) from e
      users.append(user + id_offset)
      positives.append(item + id_offset)
      negatives.append(row + id_offset)
  if not users:
    raise DataError(f"{path} is empty.")
  if len(set(users)) < len(users):
    raise DataError(f"{path}: a user has two lines; one a user is needed.")
  row_ids = np.repeat(users, [len(row) for row in negatives])
  size = max(users, default=0) + 1
  lists = Ragged.from_pairs(row_ids, np.concatenate(negatives), size)
  positive = np.zeros(size, np.int64)
  positive[users] = positives
  return lists, positive
