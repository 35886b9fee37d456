"""Popular items are drawn as negatives often: who corrects for it, and how.

Users of a few types choose items with planted probabilities p(i | u) that lean
to popular items. A free table of scores is trained in batches whose rows are
each other's negatives. With logQ it has to find log p(i | u) again; without
it, log p(i | u) - log q(i), q the popularity, which is another order.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from recjax.losses.retrieval import in_batch_softmax_loss
from recjax.tasks.frequencies import StreamingFrequency
from recjax.tasks.retrieval_negatives import FREQUENCY, InBatch

NUM_TYPES, NUM_ITEMS, DIM = 4, 30, 3
BATCH, STEPS = 64, 2000
FORMS = {
  "both": dict(correct_positive=True, remove_accidental_hits=True),
  "hits kept": dict(correct_positive=True, remove_accidental_hits=False),
  "positive left": dict(correct_positive=False, remove_accidental_hits=True),
}


def planted():
  """log p(i | u) = <u, v> up to a constant; one axis is popularity."""
  rng = np.random.default_rng(0)
  users = rng.normal(size=(NUM_TYPES, DIM))
  items = 0.5 * rng.normal(size=(NUM_ITEMS, DIM))
  users[:, 0], items[:, 0] = 1.0, np.linspace(-1.8, 1.8, NUM_ITEMS)
  return scipy.special.log_softmax(users @ items.T, axis=1)


LOG_P = planted()
LOG_Q = scipy.special.logsumexp(LOG_P, axis=0) - np.log(NUM_TYPES)


def batch_loss(table, user, item, log_q, form):
  """The mean loss of a batch of pairs; `log_q` by item."""
  scores = table[user][:, item]
  where = jnp.ones(BATCH, bool)
  if form == "uncorrected":
    return jnp.mean(in_batch_softmax_loss(scores, item, None, where))
  losses = in_batch_softmax_loss(
    scores, item, log_q[item], where, **FORMS[form]
  )
  return jnp.mean(losses)


@functools.cache
def learned(form, streaming=None):
  """The table of scores after training, rows centred."""
  log_p = jnp.asarray(LOG_P, jnp.float32)
  optimizer = optax.adam(optax.cosine_decay_schedule(0.05, STEPS))
  source = InBatch(streaming)
  ids = jnp.arange(NUM_ITEMS)

  def step(carry, inputs):
    table, state, frequency = carry
    key, number = inputs
    user_key, item_key = jax.random.split(key)
    user = jax.random.randint(user_key, (BATCH,), 0, NUM_TYPES)
    item = jax.random.categorical(item_key, log_p[user])
    log_q = jnp.asarray(LOG_Q, jnp.float32)
    if streaming is not None:
      where = jnp.ones(BATCH, bool)
      frequency = streaming.update(frequency, item, where, number)
      log_q = source.log_probability(
        ids, {"item_id": item}, {FREQUENCY: frequency}, num_items=NUM_ITEMS
      )
    gradient = jax.grad(batch_loss)(table, user, item, log_q, form)
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(table, updates), state, frequency), None

  @jax.jit
  def train(table):
    frequency = streaming.init() if streaming is not None else {}
    carry = table, optimizer.init(table), frequency
    keys = jax.random.split(jax.random.key(0), STEPS)
    inputs = keys, jnp.arange(1, STEPS + 1)
    return jax.lax.scan(step, carry, inputs)[0][0]

  table = np.asarray(train(jnp.zeros(LOG_P.shape)), np.float64)
  return table - np.mean(table, axis=1, keepdims=True)


def agreement(scores, truth):
  """The rank correlation of each type of user."""
  return np.array(
    [
      scipy.stats.spearmanr(row, other).statistic
      for row, other in zip(scores, truth, strict=True)
    ]
  )


def error(scores):
  """The root of the mean squared deviation from log p(i | u)."""
  truth = LOG_P - np.mean(LOG_P, axis=1, keepdims=True)
  return np.sqrt(np.mean(np.square(scores - truth)))


def slope(scores):
  """Of the scores as a line in log p(i | u)."""
  truth = LOG_P - np.mean(LOG_P, axis=1, keepdims=True)
  return np.sum(scores * truth) / np.sum(np.square(truth))


LOG_RATIO = LOG_P - LOG_Q
"""Preference less popularity: what is learned without a correction."""


def test_the_planted_orders_differ():
  assert np.all(agreement(LOG_P, LOG_RATIO) < 0.5)
  assert np.ptp(LOG_Q) > 3.0


@pytest.mark.parametrize("form", FORMS)
def test_with_log_q_the_planted_order_is_recovered(form):
  scores = learned(form)
  assert np.all(agreement(scores, LOG_P) > 0.98)
  assert np.all(agreement(scores, LOG_RATIO) < 0.5)


def test_without_log_q_another_order_is_learned():
  scores = learned("uncorrected")
  assert np.all(agreement(scores, LOG_P) < 0.6)
  assert np.all(agreement(scores, LOG_RATIO) > 0.75)
  assert error(scores) > 5 * error(learned("positive left"))


@pytest.mark.parametrize("form", ["hits kept", "positive left"])
def test_log_q_recovers_the_probabilities_themselves(form):
  scores = learned(form)
  assert error(scores) < 0.1
  np.testing.assert_allclose(slope(scores), 1.0, atol=0.02)


def test_a_corrected_positive_without_its_other_copies_is_too_steep():
  # Between them they would stand for exp s+ once; one alone is too little.
  assert slope(learned("both")) > slope(learned("hits kept")) + 0.015


def test_frequencies_from_the_stream_recover_the_planted_order():
  streaming = StreamingFrequency(NUM_ITEMS, initial_gap=2.0)
  scores = learned("hits kept", streaming)
  assert np.all(agreement(scores, LOG_P) > 0.98)
  np.testing.assert_allclose(slope(scores), 1.0, atol=0.1)
