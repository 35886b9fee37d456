"""Losses of two towers, as settings."""

import dataclasses

from recjax.errors import ConfigError, check_choice, check_range

PAIRWISE = ("bpr", "hinge", "warp")


@dataclasses.dataclass(frozen=True)
class Softmax:
  """Cross-entropy of the positive among the candidates.

  With in-batch candidates and without correction it is InfoNCE.

  Attributes:
    log_q: corrects the scores of candidates by how many copies of them are
      expected; without it popular items, which are drawn often, are pushed
      down. `InBatch.streaming` says whether their frequencies are estimated.
    correct_positive: whether the positive is corrected as well, as Yi et al.
      (2019) do; else the sum over candidates estimates that over all items.
    symmetric: also chooses the user of an item among those of the batch, and
      takes the mean of both losses; for in-batch negatives alone. How often a
      user is in a batch is not corrected for.
  """

  log_q: bool = False
  correct_positive: bool = False
  symmetric: bool = False

  def __post_init__(self):
    if self.correct_positive and not self.log_q:
      raise ConfigError(
        "Softmax.correct_positive is part of the correction: it needs"
        " Softmax.log_q=True."
      )


@dataclasses.dataclass(frozen=True)
class Binary:
  """Binary cross-entropy: the positive is a yes, each candidate a no."""


@dataclasses.dataclass(frozen=True)
class Mixture:
  """weight * softmax + (1 - weight) * binary cross-entropy.

  Attributes:
    weight: of the softmax.
    softmax: its settings.
  """

  weight: float = 0.5
  softmax: Softmax = Softmax()

  def __post_init__(self):
    check_range("Mixture.weight", self.weight, 0.0, 1.0)
    if not isinstance(self.softmax, Softmax):
      raise ConfigError(
        f"Mixture.softmax must be a Softmax(...); got {self.softmax!r}."
      )


@dataclasses.dataclass(frozen=True)
class Pairwise:
  """The positive above each candidate.

  Attributes:
    kind: "bpr", "hinge", or "warp", which weighs the first candidate that
      violates the margin by the rank that the search for it tells.
    margin: of hinge and WARP.
  """

  kind: str = "bpr"
  margin: float = 1.0

  def __post_init__(self):
    check_choice("Pairwise.kind", self.kind, PAIRWISE)
    check_range("Pairwise.margin", self.margin, 0.0)


RetrievalObjective = Softmax | Binary | Mixture | Pairwise


def softmax_of(objective: RetrievalObjective) -> Softmax | None:
  """The softmax of an objective that has one."""
  if isinstance(objective, Mixture):
    return objective.softmax
  return objective if isinstance(objective, Softmax) else None
