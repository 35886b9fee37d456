import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError, DataError
from recjax.tasks.negative_sampling import TOTAL, NegativeSampling

# Entry 0 is padding: its count must not matter.
COUNTS = np.array([99.0, 0.0, 5.0, 10.0, 0.0, 1.0, 4.0])
NUM_ITEMS = 6


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def draw(sampling, key, shape, num_items, tickets=None):
  return sampling.draw(key, shape, num_items=num_items, tickets=tickets)


def test_uniform_draws_are_uniform_over_the_items():
  ids = draw(NegativeSampling(), jax.random.key(0), (20_000,), 37)
  assert ids.dtype == jnp.int32
  counts = np.bincount(ids, minlength=38)
  assert counts[0] == 0 and len(counts) == 38
  assert scipy.stats.chisquare(counts[1:]).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_popularity_draws_follow_counts_to_the_power_alpha(alpha):
  sampling = NegativeSampling(distribution="popularity", alpha=alpha)
  tickets = jnp.asarray(sampling.cumulative_tickets(COUNTS))
  ids = draw(sampling, jax.random.key(0), (20_000,), NUM_ITEMS, tickets)
  drawn = np.bincount(ids, minlength=7)
  assert len(drawn) == 7
  seen = [2, 3, 5, 6]
  assert drawn[seen].sum() == drawn.sum()  # Neither padding nor the unseen.
  expected = COUNTS[seen] ** alpha
  expected *= drawn.sum() / expected.sum()
  assert scipy.stats.chisquare(drawn[seen], expected).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_log_probability_is_that_of_the_draws(alpha):
  sampling = NegativeSampling(distribution="popularity", alpha=alpha)
  tickets = jnp.asarray(sampling.cumulative_tickets(COUNTS))
  seen = np.array([2, 3, 5, 6], np.int32)
  weights = COUNTS[seen] ** alpha
  got = sampling.log_probability(
    jnp.asarray(seen), num_items=NUM_ITEMS, tickets=tickets
  )
  np.testing.assert_allclose(got, np.log(weights / weights.sum()), atol=1e-5)


def test_log_probability_of_uniform_draws():
  ids = jnp.arange(1, 7).reshape(2, 3)
  got = NegativeSampling().log_probability(ids, num_items=6, tickets=None)
  np.testing.assert_allclose(got, np.full((2, 3), -np.log(6)), rtol=1e-6)


def test_tickets_are_exact_for_a_large_catalogue():
  rng = np.random.default_rng(0)
  counts = np.concatenate([[0], rng.pareto(1.0, 100_000) * 10])
  sampling = NegativeSampling(distribution="popularity")
  tickets = sampling.cumulative_tickets(counts)
  assert tickets.dtype == np.int32
  assert tickets[0] == 0 and tickets[-1] == TOTAL
  shares = np.diff(tickets) / TOTAL
  np.testing.assert_allclose(shares, counts[1:] / counts.sum(), atol=2 / TOTAL)


def test_popularity_without_any_count_is_an_error():
  sampling = NegativeSampling(distribution="popularity")
  with pytest.raises(DataError, match="none can be drawn by popularity"):
    sampling.cumulative_tickets(np.array([5.0, 0.0, 0.0]))


# -- For rows -----------------------------------------------------------------

# Two sequences in a row: 1 2 3 and 4 5 6 as inputs and targets, and padding.
ITEM = jnp.array([[1, 2, 4, 5, 0]], jnp.int32)
TARGET = jnp.array([[2, 3, 5, 6, 0]], jnp.int32)
SEGMENT = jnp.array([[1, 1, 2, 2, 0]], jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def draw_for_rows(sampling, key, tickets=None):
  return sampling.draw_for_rows(
    key, ITEM, TARGET, SEGMENT, num_items=10, tickets=tickets
  )


def frequencies(exclude):
  """[place, id]: how often each id was drawn at each place."""
  sampling = NegativeSampling(num=4000, exclude=exclude)
  negative = np.asarray(draw_for_rows(sampling, jax.random.key(2)))
  assert negative.shape == (1, 5, 4000)
  return np.stack([np.bincount(ids, minlength=11) for ids in negative[0]])


def test_without_exclusion_all_items_are_drawn_alike():
  for counts in frequencies("none"):
    assert scipy.stats.chisquare(counts[1:]).pvalue > 1e-3


def test_exclusion_redraws_items_of_the_own_sequence_twice():
  own = [{1, 2, 3}, {1, 2, 3}, {4, 5, 6}, {4, 5, 6}]
  for counts, taken in zip(frequencies("sequence"), own, strict=False):
    # With 3 of 10 taken: a taken one must come up three times in a row.
    expected = [
      0.1 * 0.3**2 if item in taken else 0.1 * (1 + 0.3 + 0.3**2)
      for item in range(1, 11)
    ]
    test = scipy.stats.chisquare(counts[1:], np.array(expected) * 4000)
    assert test.pvalue > 1e-3


def test_shared_negatives_are_one_set_a_row():
  sampling = NegativeSampling(num=7, exclude="none", shared=True)
  assert draw_for_rows(sampling, jax.random.key(0)).shape == (1, 1, 7)


def test_rows_are_drawn_by_popularity_too():
  sampling = NegativeSampling(num=50, distribution="popularity", exclude="none")
  counts = np.zeros(11)
  counts[[3, 7]] = 1.0
  tickets = jnp.asarray(sampling.cumulative_tickets(counts))
  negative = draw_for_rows(sampling, jax.random.key(0), tickets)
  assert set(np.unique(negative)) == {3, 7}


def test_the_key_alone_fixes_the_draw():
  sampling = NegativeSampling(num=20)
  first = draw_for_rows(sampling, jax.random.key(0))
  np.testing.assert_array_equal(
    first, draw_for_rows(sampling, jax.random.key(0))
  )
  assert np.mean(first == draw_for_rows(sampling, jax.random.key(1))) < 0.5


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"num": 0}, "NegativeSampling.num must lie in"),
    ({"distribution": "popular"}, "Did you mean 'popularity'"),
    ({"alpha": 1.5}, "NegativeSampling.alpha must lie in"),
    ({"exclude": "sequences"}, "Did you mean 'sequence'"),
    ({"shared": True}, "exclude must be 'none' with shared=True"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    NegativeSampling(**settings)
