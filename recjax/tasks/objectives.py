"""Objectives of next-item models: a loss and the negatives it needs."""

import dataclasses

from recjax.errors import ConfigError, check_range
from recjax.tasks.negative_sampling import NegativeSampling


@dataclasses.dataclass(frozen=True)
class BinaryCrossEntropy:
  """`losses.pointwise.binary_cross_entropy_loss` with sampled negatives.

  Attributes:
    negatives: how they are drawn; one uniform negative is SASRec's own.
  """

  negatives: NegativeSampling = NegativeSampling()


@dataclasses.dataclass(frozen=True)
class GBCE:
  """`losses.pointwise.gbce_loss`; gSASRec uses 256 negatives and t = 0.75.

  Attributes:
    negatives: how they are drawn; the loss assumes uniform ones.
    calibration: t, in [0, 1].
  """

  negatives: NegativeSampling = NegativeSampling(num=256, exclude="none")
  calibration: float = 0.75

  def __post_init__(self):
    check_range("GBCE.calibration", self.calibration, 0.0, 1.0)
    if self.negatives.distribution != "uniform":
      raise ConfigError(
        "GBCE.negatives must be uniform, as the correction assumes; got"
        f" {self.negatives.distribution!r}."
      )


@dataclasses.dataclass(frozen=True)
class BPR:
  """`losses.pairwise.bpr_loss` with sampled negatives.

  Attributes:
    negatives: how they are drawn.
  """

  negatives: NegativeSampling = NegativeSampling()


@dataclasses.dataclass(frozen=True)
class FullSoftmax:
  """`losses.softmax.full_softmax_loss` over the whole catalogue.

  Attributes:
    chunk: positions whose logits are formed at a time on one device; a
      matter of speed and memory alone.
  """

  chunk: int = 128

  def __post_init__(self):
    check_range("FullSoftmax.chunk", self.chunk, 1, integer=True)


@dataclasses.dataclass(frozen=True)
class SampledSoftmax:
  """`losses.softmax.sampled_softmax_loss` with the logQ correction.

  Attributes:
    negatives: how they are drawn; nothing may be excluded, since the
      correction needs to know the probability of each draw.
    log_q: corrects for the sampling probability.
  """

  negatives: NegativeSampling = NegativeSampling(
    num=3000, exclude="none", shared=True
  )
  log_q: bool = True

  def __post_init__(self):
    if self.log_q and self.negatives.exclude != "none":
      raise ConfigError(
        "SampledSoftmax.negatives.exclude must be 'none' with log_q=True:"
        " the correction needs the probability of each draw; got"
        f" {self.negatives.exclude!r}."
      )


Objective = BinaryCrossEntropy | GBCE | BPR | FullSoftmax | SampledSoftmax
