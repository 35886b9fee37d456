"""Effects beside SciPy and statsmodels, and by simulation."""

import dataclasses

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from statsmodels.stats import multitest
from statsmodels.stats.power import TTestPower

from recjax.errors import DataError
from recjax.evaluation.crossed_design import (
  Components,
  crossed_test,
  smallest_difference,
)
from recjax.sweeps.effects import (
  BOTH,
  SEEDS,
  USERS,
  alike,
  corrected,
  effect,
  effects_of,
  sees,
  smallest_shift,
)


def planted(random, num, *, seeds=5, users=60, shift=0.0, seed_sd=0.5):
  """Values of some combinations; all but the first lie higher by `shift`."""
  common = random.normal(size=(1, 1, users))
  values = common + 0.5 * random.normal(size=(num, seeds, users))
  values += seed_sd * random.normal(size=(num, seeds, 1))
  values[1:] += shift
  return list(values)


def test_over_seeds_it_is_student_s_paired_test():
  random = np.random.default_rng(0)
  a, b = random.normal(size=(2, 6, 1))
  found = effect(a, b)
  assert found is not None and found.over == SEEDS
  known = scipy.stats.ttest_rel(a[:, 0], b[:, 0])
  np.testing.assert_allclose(found.p_value, known.pvalue)
  ends = known.confidence_interval(0.95)
  np.testing.assert_allclose(found.interval, (ends.low, ends.high))
  gains = (a - b)[:, 0]
  np.testing.assert_allclose(
    found.effect_size, gains.mean() / gains.std(ddof=1)
  )
  assert (found.num_seeds, found.num_users) == (6, 1)


def test_with_one_seed_it_is_over_users_and_no_finding():
  random = np.random.default_rng(1)
  a, b = random.normal(size=(2, 1, 30))
  found = effect(a, b)
  assert found is not None and found.over == USERS
  known = scipy.stats.ttest_rel(a[0], b[0])
  np.testing.assert_allclose(found.p_value, known.pvalue)
  ends = known.confidence_interval(0.95)
  np.testing.assert_allclose(found.interval, (ends.low, ends.high))
  told = corrected([found, found])
  assert all(np.isnan([each.p_holm, each.p_bh]).all() for each in told)
  assert sees(told) is None


@pytest.mark.parametrize("seeds", [2, 4])
def test_with_seeds_and_users_it_is_the_crossed_test(seeds):
  random = np.random.default_rng(2)
  a, b = random.normal(size=(2, seeds, 30))
  found, known = effect(a, b), crossed_test(a - b)
  assert found is not None and found.over == BOTH
  np.testing.assert_allclose(
    [found.p_value, *found.interval], [known.p_value, *known.interval]
  )
  assert (found.num_seeds, found.num_users) == (seeds, 30)


def test_what_a_design_sees_is_what_statsmodels_says():
  for freedom, alpha, power in (
    (4, 0.05, 0.8),
    (9, 0.01, 0.9),
    (30, 0.05, 0.5),
  ):
    known = TTestPower().solve_power(
      nobs=freedom + 1, alpha=alpha, power=power, alternative="two-sided"
    )
    found = smallest_shift(freedom, alpha, power) / np.sqrt(freedom + 1)
    np.testing.assert_allclose(found, known, rtol=1e-5)


@pytest.mark.parametrize("freedom", [2, 4, 9])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6, 0.001])
def test_what_a_design_sees_is_what_an_integral_says(freedom, alpha):
  shift = smallest_shift(freedom, alpha, 0.8)
  limit = scipy.stats.t.isf(alpha / 2, freedom)

  def density(spread):  # Of the estimated deviation, the true one being 1.
    density = scipy.stats.chi2.pdf(freedom * spread**2, freedom)
    density *= 2 * freedom * spread
    beyond = scipy.stats.norm.sf(limit * spread - shift)
    return density * (beyond + scipy.stats.norm.cdf(-limit * spread - shift))

  found, _ = scipy.integrate.quad(density, 0, 10, epsabs=1e-10)
  assert found == pytest.approx(0.8, abs=1e-6)


def test_a_table_is_corrected_as_one_family():
  random = np.random.default_rng(3)
  found = effects_of(planted(random, 6, seeds=4, users=1, shift=0.4))
  assert found[0] is None
  p_values = [each.p_value for each in found[1:]]
  _, expected, *_ = multitest.multipletests(p_values, method="holm")
  np.testing.assert_allclose([each.p_holm for each in found[1:]], expected)
  _, expected, *_ = multitest.multipletests(p_values, method="fdr_bh")
  np.testing.assert_allclose([each.p_bh for each in found[1:]], expected)
  assert corrected([None, None]) == [None, None]


def test_the_baseline_may_stand_anywhere():
  values = planted(np.random.default_rng(4), 3)
  found = effects_of(values, baseline=2)
  assert found[2] is None and found[0] is not None
  np.testing.assert_allclose(
    found[0].difference, (values[0] - values[2]).mean()
  )


def test_what_can_not_be_told_is_none():
  same = np.ones((3, 5))
  assert effect(same, same) is None  # Nothing varies.
  assert effect(np.ones((1, 1)), np.zeros((1, 1))) is None
  assert effect(np.ones((5, 1)), np.zeros((5, 1))) is None
  assert effect(np.full((2, 3), np.nan), same[:2, :3]) is None
  # Gains of .01 that differ by rounding.
  assert effect(np.array([[0.31], [0.41]]), np.array([[0.3], [0.4]])) is None


def test_other_shapes_are_told():
  with pytest.raises(DataError, match="the same seeds and users"):
    effect(np.ones((2, 3)), np.ones((2, 4)))


def test_users_without_a_value_are_left_out_and_counted():
  random = np.random.default_rng(9)
  a, b = random.normal(size=(2, 3, 20))
  known = effect(np.delete(a, [4, 7], axis=1), np.delete(b, [4, 7], axis=1))
  a[1, 4], b[2, 7] = np.nan, np.nan
  found = effect(a, b)
  assert found is not None and known is not None
  assert (found.num_left_out, known.num_left_out) == (2, 0)
  assert (found.p_value, found.num_users) == (known.p_value, 18)


@pytest.mark.parametrize("users", [1, 40])
def test_false_alarms_of_whole_tables_keep_to_the_level(users):
  # Four comparisons with one baseline; a false alarm is any below .05.
  random = np.random.default_rng(5)
  num_sweeps, alarms = 600, 0
  for _ in range(num_sweeps):
    found = effects_of(planted(random, 5, users=users))
    alarms += any(each.p_holm < 0.05 for each in found[1:])
  # .05 and three standard deviations of a binomial.
  assert alarms / num_sweeps <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / num_sweeps)


def test_hits_of_two_seeds_are_no_sure_thing():
  """Means of 0 and 1 over two seeds are often equal, by chance alone."""
  random = np.random.default_rng(10)
  num_sweeps, alarms = 150, 0
  for _ in range(num_sweeps):
    chance = random.beta(0.5, 9.5, size=300)
    hits = [1.0 * (random.random((2, 300)) < chance) for _ in range(7)]
    found = effects_of(hits)
    assert all(each.p_value > 0 for each in found[1:])
    alarms += any(each.p_holm < 0.05 for each in found[1:])
  assert alarms / num_sweeps <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / num_sweeps)


def test_what_a_crossed_design_sees_is_divided_among_its_comparisons():
  found = effects_of(planted(np.random.default_rng(7), 4))
  parts = [dataclasses.astuple(each.components) for each in found[1:]]
  known = smallest_difference(
    Components(*np.mean(parts, axis=0)), 5, 60, alpha=0.05 / 3
  )
  np.testing.assert_allclose(sees(found), known)


def test_a_row_that_varies_far_more_does_not_tell_the_design():
  random = np.random.default_rng(11)
  base = random.normal(size=(5, 60))
  rows = [base + random.normal(size=(5, 60)) for _ in range(4)]
  wild = base + 5 * random.normal(size=(5, 1)) + random.normal(size=(5, 60))
  found = effects_of([base, *rows, wild])
  assert len(alike(found)) == 4
  parts = [dataclasses.astuple(each.components) for each in found[1:5]]
  # Corrected for all five.
  known = smallest_difference(
    Components(*np.mean(parts, axis=0)), 5, 60, alpha=0.05 / 5
  )
  np.testing.assert_allclose(sees(found), known)
  assert len(alike(effects_of([base, *rows]))) == 4
  assert alike([None, *found[:1]]) == []


def test_what_a_design_over_seeds_sees():
  a, b = np.random.default_rng(8).normal(size=(2, 6, 1))
  error = np.std(a - b, ddof=1) / np.sqrt(6)
  found = effect(a, b)
  assert found is not None
  np.testing.assert_allclose(
    sees([found]), error * smallest_shift(5, 0.05, 0.8), rtol=1e-6
  )


@pytest.mark.parametrize("users", [1, 40])
def test_the_difference_that_a_design_sees_is_found_as_often_as_it_says(users):
  # Variances of a difference: seeds 2 x .25, users 0, residual 2 x .25.
  random = np.random.default_rng(6)
  variance = (0.5 + 0.5 / users) / 5
  shift = smallest_shift(4, 0.05, 0.8) * np.sqrt(variance)
  num_sweeps, found = 600, 0
  for _ in range(num_sweeps):
    (_, tested) = effects_of(planted(random, 2, users=users, shift=shift))
    assert tested is not None
    found += tested.p_value < 0.05
  assert abs(found / num_sweeps - 0.8) < 3 * np.sqrt(0.16 / num_sweeps)
