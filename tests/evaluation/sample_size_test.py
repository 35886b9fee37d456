"""Sizes and powers against statsmodels, by simulation, and bad input."""

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

from recjax.errors import ConfigError
from recjax.evaluation.sample_size import (
  power_of_means,
  sample_size_of_means,
  sample_size_of_rates,
  smallest_difference_of_means,
  smallest_difference_of_rates,
)


@pytest.mark.parametrize("effect", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("ratio", [1.0, 0.25, 3.0])
def test_means_are_those_of_statsmodels(effect, ratio):
  peer = TTestIndPower()
  num = peer.solve_power(effect, power=0.9, alpha=0.01, ratio=ratio)
  found = sample_size_of_means(
    3 * effect, 3.0, ratio=ratio, alpha=0.01, power=0.9
  )
  assert found == max(2, np.ceil(num - 1e-4))
  power = peer.power(effect, 30, 0.05, ratio=ratio)
  assert power_of_means(effect, 1.0, 30, ratio=ratio) == pytest.approx(
    power, abs=1e-6
  )


def test_the_smallest_difference_has_the_power():
  found = smallest_difference_of_means(50, 2.0, ratio=2.0, power=0.7)
  assert power_of_means(found, 2.0, 50, ratio=2.0) == pytest.approx(0.7)
  num = sample_size_of_means(found, 2.0, ratio=2.0, power=0.7)
  assert num == 50


def test_rates_are_those_of_statsmodels():
  peer = samplesize_proportions_2indep_onetail(
    0.01, 0.1, power=0.8, ratio=1, alpha=0.05
  )
  assert sample_size_of_rates(0.1, 0.11) == np.ceil(peer)


def test_the_power_of_rates_is_reached():
  control, treatment = 0.05, 0.08
  num = sample_size_of_rates(control, treatment, ratio=2.0)
  random = np.random.default_rng(0)
  a = random.binomial(num, control, 4000) / num
  b = random.binomial(2 * num, treatment, 4000) / (2 * num)
  pooled = (a + 2 * b) / 3
  z = (b - a) / np.sqrt(pooled * (1 - pooled) * 1.5 / num)
  share = np.mean(np.abs(z) > scipy.stats.norm.ppf(0.975))
  assert share == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_the_smallest_rise_of_a_rate_needs_so_many(ratio):
  found = smallest_difference_of_rates(4000, 0.05, ratio=ratio, power=0.9)
  for rise, num in ((found * 1.0001, 4000), (found * 0.999, 4005)):
    more = sample_size_of_rates(0.05, 0.05 + rise, ratio=ratio, power=0.9)
    assert (more <= num) == (rise > found)


def test_mistakes_are_told():
  for call, message in (
    (lambda: sample_size_of_means(0.0, 1.0), "effect must be"),
    (lambda: sample_size_of_means(1.0, 0.0), "stddev must be"),
    (lambda: sample_size_of_means(1.0, 1.0, power=1.0), "power"),
    (lambda: sample_size_of_means(1.0, 1.0, ratio=-1.0), "ratio must be"),
    (lambda: smallest_difference_of_means(1, 1.0), "num"),
    (lambda: smallest_difference_of_rates(1, 0.5), "num"),
    (lambda: smallest_difference_of_rates(9, 1.0), "control"),
    (lambda: smallest_difference_of_rates(2, 0.5), "do not tell a rate"),
    (lambda: sample_size_of_rates(0.1, 0.1), "must differ"),
    (lambda: sample_size_of_rates(0.1, 1.2), "treatment"),
  ):
    with pytest.raises(ConfigError, match=message):
      call()
