"""Splits: which events are trained on, and which are to be predicted.

Splitters are frozen dataclasses that are called on interactions; the name of
a split tells the settings that made it.

Leave-one-out, ratios within users and random splits train on events that
happened after events of the test set. They are what the papers did;
`GlobalTime` is what a running system meets. A warning says how much of the
future is seen.
"""

import dataclasses
import datetime
import math
import pathlib

import numpy as np
from jaxtyping import Int

from recjax.data import split_files
from recjax.data.interactions import Interactions
from recjax.data.split import (
  TEST,
  TRAIN,
  VALIDATION,
  Split,
  make_split,
  report_short_users,
  split_by_part,
)
from recjax.errors import ConfigError, DataError, check_choice, check_range


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
  """A user's last event is for test, the last but one for validation.

  The protocol of SASRec, BERT4Rec and most papers on sequences. Without
  timestamps, the order of the rows is the order in time.

  Attributes:
    min_actions: users with fewer events stand in training only, as in the
      SASRec code; at least 3.
    short_users: "train" as above, or "error" to refuse such users.
  """

  min_actions: int = 3
  short_users: str = "train"

  def __post_init__(self):
    check_range("LeaveOneOut.min_actions", self.min_actions, 3, integer=True)
    _check_short_users("LeaveOneOut", self.short_users)

  def __call__(self, interactions: Interactions) -> Split:
    """Splits; DataError if no user has `min_actions` events."""
    name = f"leave_one_out(min_actions={self.min_actions})"
    ends = interactions.user_offsets[1:]
    lengths = np.diff(interactions.user_offsets)
    long_enough = lengths >= self.min_actions
    if not long_enough.any():
      raise DataError(
        f"{name}: no user of {interactions.name!r} has {self.min_actions}"
        f" events; the longest history has {lengths.max()}."
      )
    report_short_users(
      name,
      interactions,
      (lengths > 0) & ~long_enough,
      f"fewer than {self.min_actions} events",
      self.short_users,
    )
    part = np.zeros(len(interactions), np.int8)
    part[ends[long_enough] - 1] = TEST
    part[ends[long_enough] - 2] = VALIDATION
    return split_by_part(name, interactions, part)


@dataclasses.dataclass(frozen=True)
class GlobalTime:
  """Everything before one moment is trained on, whoever did it.

  Train, validation and test follow each other in time, for all users at the
  same moments. Events of one second are never parted, so the shares are as
  near to the fractions as that allows. Users may stand in any of the parts.

  Attributes:
    validation_fraction: share of all events, in [0, 1).
    test_fraction: share of all events, the last ones, in (0, 1).
    validation_from: seconds since 1970, or a date such as "2003-01-31" (UTC):
      instead of fractions, when validation starts.
    test_from: when the test starts, likewise.
  """

  validation_fraction: float = 0.1
  test_fraction: float = 0.1
  validation_from: int | str | None = None
  test_from: int | str | None = None

  def __post_init__(self):
    _check_fractions(
      "GlobalTime.validation_fraction",
      self.validation_fraction,
      "GlobalTime.test_fraction",
      self.test_fraction,
    )
    moments = (self.validation_from, self.test_from)
    if moments == (None, None):
      return
    if None in moments:
      raise ConfigError(
        "GlobalTime needs both validation_from and test_from, or neither; got"
        f" {self.validation_from!r} and {self.test_from!r}."
      )
    starts = [_seconds(moment) for moment in moments]
    if starts[0] > starts[1]:
      raise ConfigError(
        f"GlobalTime.validation_from ({self.validation_from}) must not be"
        f" later than test_from ({self.test_from})."
      )

  def __call__(self, interactions: Interactions) -> Split:
    """Splits; DataError without timestamps or where a part would be empty."""
    time = interactions.timestamp
    if time is None:
      raise DataError(
        f"GlobalTime needs timestamps, and {interactions.name!r} has the"
        f" columns {', '.join(interactions.table.column_names)}. Name the"
        " source's timestamp column, or use LeaveOneOut."
      )
    if self.test_from is not None:
      starts = [_seconds(self.validation_from), _seconds(self.test_from)]
      settings = f"validation_from={starts[0]}, test_from={starts[1]}"
    else:
      ordered = np.sort(time)
      in_test = self.test_fraction * len(time)
      held_out = in_test + self.validation_fraction * len(time)
      starts = [
        ordered[min(len(time) - 1, len(time) - _whole(number))]
        for number in (held_out, in_test)
      ]
      settings = (
        f"validation_fraction={self.validation_fraction},"
        f" test_fraction={self.test_fraction}"
      )
    part = np.zeros(len(interactions), np.int8)
    part[time >= starts[0]] = VALIDATION
    part[time >= starts[1]] = TEST
    validated = self.test_from is not None or self.validation_fraction > 0
    needs = (TRAIN, VALIDATION, TEST) if validated else (TRAIN, TEST)
    return split_by_part(f"global_time({settings})", interactions, part, needs)


@dataclasses.dataclass(frozen=True)
class PerUserRatio:
  """The first share of each user's events is for training, and so on.

  Of n events, floor(n validation) and floor(n (1 - train - validation)) are
  for validation and test, the rest, which comes first, for training.

  Attributes:
    train: share of a user's events, in (0, 1).
    validation: share of a user's events, in [0, 1).
    short_users: what to do with users too short for an event in each part:
      "train" leaves them without the part, "error" refuses them.
  """

  train: float = 0.8
  validation: float = 0.1
  short_users: str = "train"

  def __post_init__(self):
    _check_fractions(
      "PerUserRatio.validation",
      self.validation,
      "PerUserRatio.train",
      self.train,
    )
    _check_short_users("PerUserRatio", self.short_users)

  def __call__(self, interactions: Interactions) -> Split:
    """Splits; DataError if a part would be empty."""
    name = f"per_user_ratio(train={self.train}, validation={self.validation})"
    lengths = np.diff(interactions.user_offsets)
    in_test = _whole(lengths * (1 - self.train - self.validation))
    in_validation = _whole(lengths * self.validation)
    short = in_test == 0
    if self.validation > 0:
      short |= in_validation == 0
    report_short_users(
      name,
      interactions,
      (lengths > 0) & short,
      "too few events for each part",
      self.short_users,
    )
    # How many events of the same user come after a row.
    users = interactions.user_id
    after = interactions.user_offsets[users + 1] - np.arange(len(users)) - 1
    part = np.zeros(len(interactions), np.int8)
    part[after < (in_test + in_validation)[users]] = VALIDATION
    part[after < in_test[users]] = TEST
    needs = (TRAIN, VALIDATION, TEST) if self.validation else (TRAIN, TEST)
    return split_by_part(name, interactions, part, needs)


@dataclasses.dataclass(frozen=True)
class RandomSplit:
  """Events are dealt out at random, whoever did them and when.

  Attributes:
    validation: share of all events, in [0, 1).
    test: share of all events, in (0, 1).
    seed: of the draw.
  """

  validation: float = 0.1
  test: float = 0.1
  seed: int = 0

  def __post_init__(self):
    _check_fractions(
      "RandomSplit.validation", self.validation, "RandomSplit.test", self.test
    )
    check_range("RandomSplit.seed", self.seed, 0, integer=True)

  def __call__(self, interactions: Interactions) -> Split:
    """Splits; DataError if a part would be empty."""
    total = len(interactions)
    in_test = round(self.test * total)
    held_out = in_test + round(self.validation * total)
    order = np.random.default_rng(self.seed).permutation(total)
    part = np.zeros(total, np.int8)
    part[order[:held_out]] = VALIDATION
    part[order[:in_test]] = TEST
    name = (
      f"random(validation={self.validation}, test={self.test},"
      f" seed={self.seed})"
    )
    needs = (TRAIN, VALIDATION, TEST) if self.validation else (TRAIN, TEST)
    return split_by_part(name, interactions, part, needs)


@dataclasses.dataclass(frozen=True)
class GivenFiles:
  """The parts that a paper handed out.

  Ids in the files are those of the source: they are looked up in the column
  `raw_id` of the tables of users and items where there are such, and else are
  the ids of recjax.

  Attributes:
    train: path of the training part; "" takes what no other part names.
    validation: path of the validation part; "" where there is none.
    test: path of the test part.
    layout: "pairs": lines "user item", more columns are not looked at;
      "user_lines": lines "user item item ...", as LightGCN has them;
      "rows": .npy files of row numbers of the prepared interactions;
      "gsasrec": folders as gSASRec (Petrov and Macdonald, 2023,
      https://arxiv.org/abs/2308.07192) has them: lines of `input.txt` are
      histories, lines of `output.txt` the next items.
    data_dir: the folder that relative paths start from.
    validation_per_user: without a file for it, so many random training rows
      of each user who has more than twice as many are the validation part.
    validation_fraction: instead, this share of the training rows of each user,
      rounded, at random, but never all: users weigh in the validation part as
      they do in a test part that was cut by a share.
    seed: of that draw.
  """

  train: str = ""
  validation: str = ""
  test: str = ""
  layout: str = "pairs"
  data_dir: str = ""
  validation_per_user: int = 0
  validation_fraction: float = 0.0
  seed: int = 0

  def __post_init__(self):
    check_choice("GivenFiles.layout", self.layout, split_files.LAYOUTS)
    check_range(
      "GivenFiles.validation_per_user",
      self.validation_per_user,
      0,
      integer=True,
    )
    check_range(
      "GivenFiles.validation_fraction", self.validation_fraction, 0.0, 0.5
    )
    named = ("validation", "validation_per_user", "validation_fraction")
    given = [name for name in named if getattr(self, name)]
    if len(given) > 1:
      raise ConfigError(
        "GivenFiles takes a validation part in one way: a file for it,"
        " validation_per_user or validation_fraction; got"
        f" {' and '.join(given)}."
      )
    if not self.test:
      raise ConfigError("GivenFiles.test must name a file; got ''.")
    if self.layout == "gsasrec" and not self.train:
      raise ConfigError("GivenFiles.train must name the folder of gSASRec.")

  def __call__(self, interactions: Interactions) -> Split:
    """Splits; DataError names file and line of what does not fit."""
    named = {"validation": self.validation, "test": self.test}
    named = {"train": self.train} | named
    paths = {
      part: pathlib.Path(self.data_dir) / path
      for part, path in named.items()
      if path
    }
    rows = split_files.read_parts(interactions, paths, self.layout)
    digest = split_files.digest(paths)
    settings = [f"{part}={path!r}" for part, path in named.items() if path]
    settings += [f"layout={self.layout!r}", f"sha256={digest[:12]}"]
    for name in ("validation_per_user", "validation_fraction"):
      if value := getattr(self, name):
        settings += [f"{name}={value}", f"seed={self.seed}"]
        rows |= _hold_out(interactions, rows["train"], value, self.seed)
    return make_split(f"given_files({', '.join(settings)})", interactions, rows)


def _hold_out(
  interactions: Interactions,
  train: Int[np.ndarray, " _rows"],
  held: int | float,
  seed: int,
) -> dict[str, Int[np.ndarray, " _"]]:
  """Random rows of each user out of the training part, a number or a share."""
  user = interactions.user_id[train]
  order = np.lexsort((np.random.default_rng(seed).random(len(train)), user))
  begin = np.searchsorted(user[order], user[order])  # Of each row's user.
  count = np.bincount(user)[user[order]]
  if isinstance(held, int):
    num = np.where(count > 2 * held, held, 0)
  else:
    num = np.minimum(np.floor(held * count + 0.5), count - 1)
  chosen = np.zeros(len(train), bool)
  chosen[order] = np.arange(len(train)) - begin < num
  return {"train": train[~chosen], "validation": train[chosen]}


def _check_short_users(splitter: str, value: str) -> None:
  check_choice(f"{splitter}.short_users", value, ("train", "error"))


def _check_fractions(
  optional_name: str, optional: float, needed_name: str, needed: float
) -> None:
  """0 <= optional, 0 < needed, and something is left of 1."""
  check_range(optional_name, optional, 0, 1)
  check_range(needed_name, needed, 0, 1)
  if needed == 0 or optional + needed > 1 - 1e-9:
    raise ConfigError(
      f"{needed_name} must be above 0 and, with {optional_name}, below 1; got"
      f" {needed} and {optional}."
    )


def _whole(number):
  """Rounds down, but takes 0.1 * 30 for 3."""
  return np.floor(np.asarray(number) + 1e-9).astype(np.int64)


def _seconds(moment: int | str | None) -> int:
  """Seconds since 1970 of a number or an ISO date, which is UTC."""
  if isinstance(moment, str):
    try:
      parsed = datetime.datetime.fromisoformat(moment)
    except ValueError:
      raise ConfigError(
        "GlobalTime takes seconds since 1970 or dates such as '2003-01-31';"
        f" got {moment!r}."
      ) from None
    if parsed.tzinfo is None:
      parsed = parsed.replace(tzinfo=datetime.UTC)
    return math.floor(parsed.timestamp())
  check_range("a moment of GlobalTime", moment, integer=True)
  return int(moment)  # pyright: ignore[reportArgumentType]
