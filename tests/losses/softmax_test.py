import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.losses.softmax import full_softmax_loss, sampled_softmax_loss

DIM = 5
VOCAB = 12
NUM_ITEMS = 9


def problem(groups, positions, seed=0):
  rng = np.random.default_rng(seed)
  hidden = rng.normal(size=(groups, positions, DIM)).astype(np.float32)
  table = rng.normal(size=(VOCAB, DIM)).astype(np.float32)
  target = rng.integers(1, NUM_ITEMS + 1, (groups, positions)).astype(np.int32)
  where = rng.random((groups, positions)) < 0.7
  where[0, 0] = True
  return hidden, table, target, where


def oracle(hidden, table, target, where):
  """Loss and gradients, one position after another, in float64."""
  hidden, table = hidden.astype(np.float64), table.astype(np.float64)
  loss, d_hidden, d_table = 0.0, np.zeros_like(hidden), np.zeros_like(table)
  for place in np.argwhere(where):
    place = tuple(place)
    scores = {i: hidden[place] @ table[i] for i in range(1, NUM_ITEMS + 1)}
    partition = sum(np.exp(score) for score in scores.values())
    loss += np.log(partition) - scores[target[place]]
    for i, score in scores.items():
      slope = np.exp(score) / partition - (i == target[place])
      d_hidden[place] += slope * table[i]
      d_table[i] += slope * hidden[place]
  return loss, d_hidden, d_table


@functools.partial(jax.jit, static_argnames="chunk")
def loss_and_gradients(hidden, table, target, where, *, chunk):
  return jax.value_and_grad(
    lambda hidden, table: full_softmax_loss(
      hidden, table, target, where, num_items=NUM_ITEMS, chunk=chunk
    ),
    argnums=(0, 1),
  )(hidden, table)


def plain(hidden, table, target, where):
  """The same in plain JAX, differentiated by JAX."""
  items = table[1 : NUM_ITEMS + 1]
  log_p = jax.nn.log_softmax(jnp.einsum("gpd,vd->gpv", hidden, items))
  picked = jnp.take_along_axis(log_p, target[..., None] - 1, axis=-1)[..., 0]
  return -jnp.sum(jnp.where(where, picked, 0.0))


SHAPES = [(1, 7, 3), (2, 5, 8), (3, 4, 1)]


@pytest.mark.parametrize("groups,positions,chunk", SHAPES)
def test_full_softmax_equals_the_oracle(groups, positions, chunk):
  args = problem(groups, positions)
  value, (d_hidden, d_table) = loss_and_gradients(*args, chunk=chunk)
  expected, expected_hidden, expected_table = oracle(*args)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(d_hidden, expected_hidden, atol=1e-5)
  np.testing.assert_allclose(d_table, expected_table, atol=1e-5)


def test_full_softmax_equals_plain_autodiff_with_any_cotangent():
  hidden, table, target, where = map(jnp.asarray, problem(2, 7, seed=3))
  # The square makes the cotangent of the loss something other than 1.
  ours = lambda hidden, table: (
    full_softmax_loss(
      hidden, table, target, where, num_items=NUM_ITEMS, chunk=4
    )
    ** 2
  )
  theirs = lambda hidden, table: plain(hidden, table, target, where) ** 2
  got = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(hidden, table)
  want = jax.jit(jax.value_and_grad(theirs, argnums=(0, 1)))(hidden, table)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    got,
    want,
  )


def test_full_softmax_looks_at_chunks_up_to_the_last_that_counts():
  hidden, table, target, _ = problem(1, 7)
  for last in range(7):
    where = np.zeros((1, 7), bool)
    where[0, last] = True
    value, (d_hidden, d_table) = loss_and_gradients(
      hidden, table, target, where, chunk=3
    )
    expected, expected_hidden, expected_table = oracle(
      hidden, table, target, where
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(d_hidden, expected_hidden, atol=1e-5)
    np.testing.assert_allclose(d_table, expected_table, atol=1e-5)


def test_full_softmax_ignores_padding_row_and_rows_past_the_items():
  hidden, table, target, where = problem(1, 7)
  value, gradients = loss_and_gradients(hidden, table, target, where, chunk=3)
  spoiled = table.copy()
  spoiled[[0, *range(NUM_ITEMS + 1, VOCAB)]] = 1e6
  other, other_gradients = loss_and_gradients(
    hidden, spoiled, target, where, chunk=3
  )
  assert value == other
  np.testing.assert_array_equal(gradients[1], other_gradients[1])
  assert np.all(gradients[1][0] == 0.0)
  assert np.all(gradients[1][NUM_ITEMS + 1 :] == 0.0)


def test_full_softmax_ignores_targets_of_masked_positions():
  hidden, table, target, where = problem(1, 7)
  value, gradients = loss_and_gradients(hidden, table, target, where, chunk=3)
  other, other_gradients = loss_and_gradients(
    hidden, table, np.where(where, target, 0), where, chunk=3
  )
  assert value == other
  jax.tree.map(np.testing.assert_array_equal, gradients, other_gradients)


# -- Sampled ------------------------------------------------------------------


_jitted = jax.jit(sampled_softmax_loss)


def sampled(positive, negative, is_positive, log_count):
  """One position."""
  return _jitted(
    jnp.asarray(positive, jnp.float32)[None],
    jnp.asarray(negative, jnp.float32)[None],
    jnp.asarray(is_positive)[None],
    None if log_count is None else jnp.asarray(log_count, jnp.float32)[None],
    jnp.ones(1, bool),
  )[0]


SCORES = np.random.default_rng(1).normal(size=7)
EXACT = np.log(np.sum(np.exp(SCORES))) - SCORES[0]


def test_sampled_softmax_is_full_where_each_other_item_is_drawn_once():
  others = np.zeros(6, bool)
  loss = sampled(SCORES[0], SCORES[1:], others, np.zeros(6))
  np.testing.assert_allclose(loss, EXACT, rtol=1e-5)


def test_sampled_softmax_leaves_out_the_positive_itself():
  hit = np.array([True] + [False] * 6)
  loss = sampled(SCORES[0], SCORES, hit, np.zeros(7))
  np.testing.assert_allclose(loss, EXACT, rtol=1e-5)


def test_sampled_softmax_divides_by_the_expected_count():
  count = np.linspace(0.2, 3.0, 6)
  partition = np.exp(SCORES[0]) + np.sum(np.exp(SCORES[1:]) / count)
  loss = sampled(SCORES[0], SCORES[1:], np.zeros(6, bool), np.log(count))
  np.testing.assert_allclose(loss, np.log(partition) - SCORES[0], rtol=1e-5)


def test_sampled_softmax_without_log_q_takes_the_scores_as_they_are():
  none = sampled(SCORES[0], SCORES[1:], np.zeros(6, bool), None)
  np.testing.assert_allclose(none, EXACT, rtol=1e-5)
  corrected = sampled(
    SCORES[0], SCORES[1:], np.zeros(6, bool), np.full(6, np.log(0.5))
  )
  assert corrected > none + 0.1


def test_log_q_makes_the_partition_function_unbiased():
  rng = np.random.default_rng(0)
  num_draws, k = 40_000, 4
  q = np.array([0.3, 0.05, 0.05, 0.1, 0.1, 0.2, 0.2])
  drawn = rng.choice(7, size=(num_draws, k), p=q)
  negative = jnp.asarray(SCORES[drawn], jnp.float32)
  positive = jnp.full(num_draws, SCORES[0], jnp.float32)
  log_count = jnp.asarray(np.log(k * q[drawn]), jnp.float32)
  is_positive = jnp.asarray(drawn == 0)

  def estimates(log_count):
    loss = sampled_softmax_loss(
      positive, negative, is_positive, log_count, jnp.ones(num_draws, bool)
    )
    # The loss is log of the partition function, less the positive's score.
    return np.exp(np.asarray(loss, np.float64) + SCORES[0])

  partition = np.sum(np.exp(SCORES))
  corrected = estimates(log_count)
  error = corrected.std() / np.sqrt(num_draws)
  assert abs(corrected.mean() - partition) < 4 * error
  assert abs(estimates(None).mean() - partition) > 20 * error
