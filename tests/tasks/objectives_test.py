import pytest

from recjax.errors import ConfigError
from recjax.tasks.negative_sampling import NegativeSampling
from recjax.tasks.objectives import (
  BPR,
  GBCE,
  BinaryCrossEntropy,
  FullSoftmax,
  SampledSoftmax,
)


def test_defaults_are_those_of_the_papers():
  assert BinaryCrossEntropy().negatives == NegativeSampling(
    num=1, distribution="uniform", exclude="sequence"
  )
  assert GBCE().negatives.num == 256  # gSASRec, section 5.
  assert GBCE().calibration == 0.75
  assert BPR().negatives.num == 1


def test_objectives_are_hashable_values():
  for make in (BinaryCrossEntropy, GBCE, BPR, FullSoftmax, SampledSoftmax):
    assert make() == make()
    assert hash(make()) == hash(make())


def test_gbce_refuses_popularity():
  popular = NegativeSampling(distribution="popularity")
  with pytest.raises(ConfigError, match="must be uniform.*'popularity'"):
    GBCE(popular)


@pytest.mark.parametrize("calibration", [-0.01, 1.01])
def test_gbce_refuses_a_calibration_out_of_range(calibration):
  with pytest.raises(ConfigError, match="GBCE.calibration must lie in"):
    GBCE(calibration=calibration)


def test_log_q_needs_to_know_the_probability_of_each_draw():
  excluding = NegativeSampling(exclude="sequence")
  with pytest.raises(ConfigError, match="must be 'none' with log_q=True"):
    SampledSoftmax(excluding)
  assert SampledSoftmax(excluding, log_q=False).negatives is excluding


def test_full_softmax_refuses_an_empty_chunk():
  with pytest.raises(ConfigError, match="FullSoftmax.chunk must lie in"):
    FullSoftmax(chunk=0)
