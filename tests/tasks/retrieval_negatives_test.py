import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError
from recjax.tasks.frequencies import LOG_NEVER, StreamingFrequency
from recjax.tasks.list_negatives import HARD_LISTS, MINED, HardLists, Mined
from recjax.tasks.retrieval_negatives import (
  FREQUENCY,
  InBatch,
  Popularity,
  Source,
  Uniform,
  log_expected_counts,
)

NUM_ITEMS, BATCH = 12, 200
# Entry 0 is padding: its count must not matter. Items 4 and 9 are unseen.
COUNTS = np.array([99, 300, 5, 80, 0, 40, 40, 20, 7, 0, 150, 60, 298])
IDS = jnp.arange(1, NUM_ITEMS + 1)
USER_LISTS = np.zeros((5, 6), np.int32)
USER_LISTS[1, :4] = 3, 7, 8, 12
USER_LISTS[2, :1] = 5
USER_LISTS[3, :6] = 1, 2, 1, 4, 9, 1  # Item 1 is there three times.
SOURCES = {
  "uniform": Uniform(100_000),
  "popularity_0.75": Popularity(100_000),
  "popularity_1": Popularity(100_000, alpha=1.0),
  "hard_lists": HardLists(40_000),
  "mined": Mined(40_000, pool=6),
}


@functools.partial(jax.jit, static_argnums=0)
def draw(source, key, batch, arrays):
  return source.draw(key, batch, arrays, num_items=NUM_ITEMS)


@functools.partial(jax.jit, static_argnums=0)
def log_probability(source, item_id, batch, arrays):
  return source.log_probability(item_id, batch, arrays, num_items=NUM_ITEMS)


def p_value(item_id, probability):
  """Of the hypothesis that ids come with these probabilities."""
  drawn = np.bincount(item_id, minlength=NUM_ITEMS + 1)
  assert len(drawn) == NUM_ITEMS + 1 and drawn[0] == 0
  drawn, possible = drawn[1:], probability > 1e-8
  if drawn[~possible].any():
    return 0.0
  expected = probability[possible] / probability[possible].sum() * drawn.sum()
  return scipy.stats.chisquare(drawn[possible], expected).pvalue


def spoiled(probability):
  """Probabilities that are a tenth wrong for the likeliest item."""
  other = probability.copy()
  other[np.argmax(other)] *= 1.1
  return other / other.sum()


def example(name):
  """A source, its batch and its arrays."""
  source = SOURCES[name]
  arrays = {HARD_LISTS: USER_LISTS, MINED: USER_LISTS}
  batch = {
    "item_id": jnp.ones(3, jnp.int32),
    "user_id": jnp.array([1, 3, 0], jnp.int32),
  }
  return source, batch, arrays | source.constants(COUNTS)


@pytest.mark.parametrize("name", SOURCES)
def test_draws_have_the_reported_probabilities(name):
  source, batch, arrays = example(name)
  item_id, where = draw(source, jax.random.key(0), batch, arrays)
  log_q = log_probability(source, IDS[None], batch, arrays)
  num = source.num_candidates(3)
  assert item_id.shape == ((num,) if source.shared else (3, num))
  assert item_id.dtype == jnp.int32 and where.shape == item_id.shape
  item_id, log_q = np.atleast_2d(item_id), np.asarray(log_q, np.float64)
  live = 1 if source.shared else 2  # The last row has an empty list.
  for row in range(live):
    probability = np.exp(log_q[row])
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-5)
    assert p_value(item_id[row], probability) > 1e-3
    assert p_value(item_id[row], spoiled(probability)) < 1e-3
  assert np.atleast_2d(where)[:live].all()


@pytest.mark.parametrize("name", ["hard_lists", "mined"])
def test_an_empty_list_gives_no_candidates(name):
  source, batch, arrays = example(name)
  item_id, where = draw(source, jax.random.key(0), batch, arrays)
  assert not np.any(where[2]) and not np.any(item_id[2])
  log_q = log_probability(source, IDS[None], batch, arrays)
  np.testing.assert_allclose(log_q[2], LOG_NEVER, rtol=1e-6)


def test_rows_of_a_batch_in_random_order_have_the_training_frequencies():
  rows = np.repeat(np.arange(NUM_ITEMS + 1), np.r_[0, COUNTS[1:]])
  source = InBatch()
  arrays = source.constants(COUNTS)
  log_q = log_probability(source, IDS, {}, arrays)
  probability = np.exp(np.asarray(log_q, np.float64))
  np.testing.assert_allclose(probability, COUNTS[1:] / 1000, atol=1e-7)
  rng = np.random.default_rng(0)
  seen = np.zeros(0, np.int64)
  # The first batch of many epochs: later ones of one epoch hang together.
  for _ in range(1000):
    batch = {"item_id": jnp.asarray(rng.permutation(rows)[:BATCH], jnp.int32)}
    drawn = source.draw(jax.random.key(0), batch, arrays, num_items=NUM_ITEMS)
    seen = np.append(seen, drawn.item_id)
  assert p_value(seen, probability) > 1e-3
  assert p_value(seen, spoiled(probability)) < 1e-3


def test_in_batch_counts_the_other_rows_that_count():
  batch = {
    "item_id": jnp.array([4, 5, 6], jnp.int32),
    "where": jnp.array([True, False, True]),
  }
  source = InBatch()
  assert source.num_candidates(3) == 3
  assert source.num_live(batch, {}) == 1
  drawn = source.draw(jax.random.key(0), batch, {}, num_items=NUM_ITEMS)
  np.testing.assert_array_equal(drawn.where, batch["where"])
  np.testing.assert_array_equal(drawn.item_id, batch["item_id"])


def test_in_batch_frequencies_from_the_stream():
  """A gap of 2 steps: half of the batches of 2 rows hold the item."""
  streaming = StreamingFrequency(NUM_ITEMS + 1, initial_gap=2.0)
  source = InBatch(streaming)
  assert source.constants(COUNTS) == {}
  batch = {"item_id": jnp.array([4, 5], jnp.int32)}
  log_q = log_probability(source, IDS, batch, {FREQUENCY: streaming.init()})
  np.testing.assert_allclose(jnp.exp(log_q), 1 - np.sqrt(0.5), rtol=1e-5)


def test_a_batch_that_is_not_full_has_the_frequencies_of_full_ones():
  streaming = StreamingFrequency(NUM_ITEMS + 1, initial_gap=2.0)
  arrays = {FREQUENCY: streaming.init()}
  item_id = jnp.arange(1, 9, dtype=jnp.int32)
  full, few = (
    log_probability(
      InBatch(streaming), IDS, {"item_id": item_id, "where": where}, arrays
    )
    for where in (jnp.ones(8, bool), jnp.arange(8) < 2)
  )
  np.testing.assert_array_equal(full, few)


@pytest.mark.parametrize("name", SOURCES)
def test_the_key_alone_fixes_the_draw(name):
  source, batch, arrays = example(name)
  first, again, other = (
    draw(source, jax.random.key(seed), batch, arrays).item_id
    for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.mean(first != other) > 0.3


def test_two_popularities_do_not_share_their_tickets():
  one, other = Popularity(1, alpha=0.5), Popularity(1, alpha=1.0)
  arrays = one.constants(COUNTS) | other.constants(COUNTS)
  weights = np.where(COUNTS > 0, COUNTS, 0.0)[1:]
  for source, alpha in ((one, 0.5), (other, 1.0)):
    log_q = log_probability(source, IDS, {}, arrays)
    expected = weights**alpha / np.sum(weights**alpha)
    np.testing.assert_allclose(np.exp(log_q), expected, atol=1e-6)


@pytest.mark.parametrize(
  "source", [*SOURCES.values(), InBatch()], ids=lambda s: type(s).__name__
)
def test_all_are_sources(source):
  members = [name for name in vars(Source) if not name.startswith("_")]
  assert len(members) >= 5
  for name in (*members, "shared"):
    assert hasattr(source, name)


# -- Mixtures -----------------------------------------------------------------


def test_the_mixture_expects_what_all_sources_put_in():
  """Many mixed draws: copies of each item against the reported number."""
  sources = Uniform(30), Popularity(50, alpha=1.0), HardLists(20)
  arrays = {HARD_LISTS: USER_LISTS} | sources[1].constants(COUNTS)
  batch = {
    "item_id": jnp.ones(1, jnp.int32),
    "user_id": jnp.ones(1, jnp.int32),
  }
  num_steps = 3000

  @jax.jit
  @jax.vmap
  def one_step(key):
    keys = jax.random.split(key, len(sources))
    drawn = [
      source.draw(k, batch, arrays, num_items=NUM_ITEMS).item_id.reshape(-1)
      for source, k in zip(sources, keys, strict=True)
    ]
    return jnp.concatenate(drawn)

  item_id = one_step(jax.random.split(jax.random.key(0), num_steps))
  assert item_id.shape == (num_steps, 100)

  def expected(sources):
    parts = [
      (
        source.num_live(batch, arrays),
        log_probability(source, IDS[None], batch, arrays),
      )
      for source in sources
    ]
    return np.exp(np.asarray(log_expected_counts(parts), np.float64))[0]

  counts = expected(sources)
  np.testing.assert_allclose(counts.sum(), 100.0, rtol=1e-5)
  copies = np.bincount(np.ravel(item_id), minlength=NUM_ITEMS + 1)[1:]
  # The sources put in fixed numbers, so that copies vary a little less.
  deviation = np.sqrt(counts * num_steps)
  z = (copies - counts * num_steps) / deviation
  assert np.max(np.abs(z)) < 4
  without = expected(sources[:2]) * 100 / 80
  assert np.max(np.abs(copies - without * num_steps) / deviation) > 20


def test_expected_counts_take_traced_numbers_and_none_at_all():
  log_q = jnp.log(jnp.array([0.5, 0.25, 0.25]))
  count = jax.jit(lambda n: log_expected_counts([(n, log_q), (4, log_q)]))
  np.testing.assert_allclose(
    jnp.exp(count(jnp.int32(0))), [2.0, 1.0, 1.0], rtol=1e-6
  )
  np.testing.assert_allclose(
    jnp.exp(count(jnp.int32(8))), [6.0, 3.0, 3.0], rtol=1e-6
  )
  none = log_expected_counts([(jnp.int32(0), log_q)])
  np.testing.assert_allclose(none, LOG_NEVER, rtol=1e-6)
  with pytest.raises(ConfigError, match="needs one source of candidates"):
    log_expected_counts([])


@pytest.mark.parametrize(
  "make,message",
  [
    (lambda: Uniform(0), "Uniform.num must lie in"),
    (lambda: Popularity(0), "Popularity.num must lie in"),
    (lambda: Popularity(5, alpha=1.5), "Popularity.alpha must lie in"),
    (lambda: HardLists(0), "HardLists.num must lie in"),
    (lambda: Mined(0), "Mined.num must lie in"),
    (lambda: Mined(4, pool=0), "Mined.pool must lie in"),
    (lambda: Mined(4, refresh_epochs=0), "Mined.refresh_epochs must lie in"),
    (lambda: Mined(4, skip_top=-1), "Mined.skip_top must lie in"),
  ],
)
def test_bad_settings_name_the_rule(make, message):
  with pytest.raises(ConfigError, match=message):
    make()
