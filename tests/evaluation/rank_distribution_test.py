"""Groups of ranks, and EM against steps written out query by query."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from recjax.evaluation.rank_distribution import (
  fit_rank_distribution,
  rank_groups,
)


def groups_of(pool, num_draws=100, with_replacement=True, num_alone=10):
  return rank_groups(
    np.atleast_1d(pool),
    num_draws=num_draws,
    with_replacement=with_replacement,
    num_alone=num_alone,
  )


@pytest.mark.parametrize("pool", [5, 300, 3416, 50_000])
@pytest.mark.parametrize("with_replacement", [True, False])
def test_groups_hold_every_rank_once(pool, with_replacement):
  groups = groups_of(pool, min(100, pool), with_replacement)
  assert groups.starts[0] == 0 and groups.starts[-1] == pool + 1
  assert (groups.size > 0).all()
  assert (groups.size[:10] == 1).all()
  assert (groups.starts[:-1] <= groups.middle).all()
  assert (groups.middle < groups.starts[1:]).all()


def test_groups_are_a_tenth_of_the_standard_error():
  groups = groups_of(50_000)
  share = groups.starts[:-1] / 50_000
  error = 50_000 * np.sqrt(share * (1 - share) / 100)
  wide = groups.size > 1
  assert (groups.size[wide] <= 0.1 * error[wide]).all()
  assert len(groups.size) < 500


def test_draws_of_the_whole_pool_leave_every_rank_alone():
  assert (groups_of(60, 60, with_replacement=False).size == 1).all()


def test_the_smallest_pool_decides_how_fine():
  groups = groups_of([60, 80], 60, with_replacement=False)
  assert (groups.size == 1).all() and len(groups.size) == 81


def test_means_of_groups():
  groups = groups_of(2000, 20)
  values = np.random.default_rng(0).normal(size=(2001, 2))
  means = groups.means(values)
  for i in (0, 30, len(means) - 1):
    inside = values[groups.starts[i] : groups.starts[i + 1]]
    np.testing.assert_allclose(means[i], inside.mean(0))


def test_steps_of_em_written_out():
  rng = np.random.default_rng(1)
  likelihood = rng.dirichlet(np.ones(6), 4)
  size = np.array([1, 1, 3, 5])
  query = rng.integers(0, 6, 40)
  shares = np.bincount(query, minlength=6) / 40
  mass = size / 10
  for _ in range(3):
    posterior = [
      mass * likelihood[:, c] / (mass @ likelihood[:, c]) for c in query
    ]
    mass = np.mean(posterior, axis=0)
  found = fit_rank_distribution(likelihood, shares[None], size, num_steps=3)
  np.testing.assert_allclose(found[0], mass, rtol=1e-12)


def test_em_goes_to_the_maximum_of_the_likelihood():
  # Three unknown shares, of which SciPy finds the best by descent.
  likelihood = scipy.stats.binom.pmf(
    np.arange(5)[None, :], 4, np.array([[0.1], [0.4], [0.9]])
  )
  shares = np.array([0.3, 0.2, 0.1, 0.15, 0.25])
  found = fit_rank_distribution(
    likelihood, shares[None], np.ones(3, int), num_steps=2000
  )[0]

  def loss(free):
    mass = np.exp([*free, 0.0])
    return -shares @ np.log(mass / mass.sum() @ likelihood)

  best = scipy.optimize.minimize(loss, np.zeros(2), tol=1e-12).x
  best = np.exp([*best, 0.0])
  np.testing.assert_allclose(found, best / best.sum(), atol=1e-5)


def test_samples_are_fitted_apart():
  rng = np.random.default_rng(2)
  likelihood = rng.dirichlet(np.ones(7), 5)
  shares = rng.dirichlet(np.ones(7), 3)
  size = np.arange(1, 6)
  together = fit_rank_distribution(likelihood, shares, size)
  np.testing.assert_allclose(together.sum(1), 1)
  for row, share in zip(together, shares):
    alone = fit_rank_distribution(likelihood, share[None], size)[0]
    np.testing.assert_allclose(row, alone)


def test_without_draws_the_start_is_kept():
  # A likelihood that tells nothing: all ranks stay equally likely.
  size = np.array([1, 2, 7])
  found = fit_rank_distribution(np.ones((3, 1)), np.ones((1, 1)), size)
  np.testing.assert_allclose(found[0], size / 10)
