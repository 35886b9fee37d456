import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.losses.retrieval import (
  candidate_softmax_loss,
  in_batch_ignored,
  in_batch_softmax_loss,
  info_nce_loss,
  mixture_loss,
  symmetric_in_batch_loss,
)
from recjax.losses.softmax import sampled_softmax_loss

candidate_softmax_loss = jax.jit(candidate_softmax_loss)
OPTIONS = ("correct_positive", "remove_accidental_hits")
in_batch_softmax_loss, symmetric_in_batch_loss = (
  jax.jit(loss, static_argnames=OPTIONS)
  for loss in (in_batch_softmax_loss, symmetric_in_batch_loss)
)
BATCH = 6
_rng = np.random.default_rng(0)
SCORES = _rng.normal(size=(BATCH, BATCH)).astype(np.float32)
ITEM = np.array([3, 5, 3, 2, 5, 9], np.int32)
USER = np.array([1, 1, 2, 3, 2, 1], np.int32)
LOG_Q = np.log(_rng.random(BATCH)).astype(np.float32)
USER_LOG_Q = np.log(_rng.random(BATCH)).astype(np.float32)
WHERE = np.array([True, True, True, False, True, True])


def brute_force(scores, ids, log_q, where, correct_positive, remove_hits):
  """One row and one candidate after another, in float64."""
  num = int(where.sum())
  losses = np.zeros(len(ids))
  for i in np.flatnonzero(where):
    count = lambda j: 1.0 if log_q is None else (num - 1) * np.exp(log_q[j])
    own = np.exp(np.float64(scores[i, i]))
    if correct_positive:
      own /= count(i)
    total = own
    for j in np.flatnonzero(where):
      if j != i and not (remove_hits and ids[j] == ids[i]):
        total += np.exp(np.float64(scores[i, j])) / count(j)
    losses[i] = np.log(total / own)
  return losses


FORMS = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize("correct_positive,remove_hits", FORMS)
@pytest.mark.parametrize("log_q", [LOG_Q, None])
def test_in_batch_softmax_is_the_formula(correct_positive, remove_hits, log_q):
  loss = in_batch_softmax_loss(
    jnp.asarray(SCORES),
    jnp.asarray(ITEM),
    None if log_q is None else jnp.asarray(log_q),
    jnp.asarray(WHERE),
    correct_positive=correct_positive,
    remove_accidental_hits=remove_hits,
  )
  expected = brute_force(
    SCORES, ITEM, log_q, WHERE, correct_positive, remove_hits
  )
  np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_in_batch_forms_differ():
  args = map(jnp.asarray, (SCORES, ITEM, LOG_Q, WHERE))
  args = tuple(args)
  losses = [
    in_batch_softmax_loss(*args, correct_positive=c, remove_accidental_hits=r)
    for c, r in FORMS
  ]
  for i, one in enumerate(losses):
    for other in losses[:i]:
      assert not np.allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize("correct_positive,remove_hits", FORMS)
def test_symmetric_is_the_mean_of_rows_and_columns(
  correct_positive, remove_hits
):
  loss = symmetric_in_batch_loss(
    *map(jnp.asarray, (SCORES, ITEM, LOG_Q, WHERE, USER, USER_LOG_Q)),
    correct_positive=correct_positive,
    remove_accidental_hits=remove_hits,
  )
  options = WHERE, correct_positive, remove_hits
  rows = brute_force(SCORES, ITEM, LOG_Q, *options)
  columns = brute_force(SCORES.T, USER, USER_LOG_Q, *options)
  np.testing.assert_allclose(loss, (rows + columns) / 2, rtol=1e-5, atol=1e-6)


def test_symmetric_without_users_takes_rows_for_different_ones():
  loss = symmetric_in_batch_loss(
    *map(jnp.asarray, (SCORES, ITEM, LOG_Q, WHERE))
  )
  rows = brute_force(SCORES, ITEM, LOG_Q, WHERE, True, True)
  columns = brute_force(SCORES.T, np.arange(BATCH), None, WHERE, True, True)
  np.testing.assert_allclose(loss, (rows + columns) / 2, rtol=1e-5, atol=1e-6)


def test_symmetric_of_a_transposed_batch_of_pairs_is_the_same():
  args = jnp.arange(1, BATCH + 1), None, jnp.asarray(WHERE)
  np.testing.assert_allclose(
    symmetric_in_batch_loss(jnp.asarray(SCORES), *args),
    symmetric_in_batch_loss(jnp.asarray(SCORES.T), *args),
    rtol=1e-6,
  )


def test_info_nce_is_the_formula():
  loss = info_nce_loss(jnp.asarray(SCORES), jnp.asarray(WHERE), temperature=0.2)
  scaled = SCORES.astype(np.float64)[:, WHERE] / 0.2
  partition = np.log(np.sum(np.exp(scaled), axis=1))
  expected = np.where(WHERE, partition - np.diagonal(SCORES) / 0.2, 0.0)
  np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)


def test_info_nce_of_equal_scores_is_the_log_of_the_batch():
  loss = info_nce_loss(jnp.ones((8, 8)), jnp.ones(8, bool))
  np.testing.assert_allclose(loss, np.log(8.0), rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_info_nce_refuses_a_temperature_of_0_or_less(temperature):
  with pytest.raises(ConfigError, match="temperature must lie in"):
    info_nce_loss(jnp.ones((2, 2)), jnp.ones(2, bool), temperature=temperature)


def test_a_batch_of_one_row_teaches_nothing():
  args = jnp.ones((1, 1)), jnp.ones(1, jnp.int32), jnp.zeros(1)
  loss = lambda scores: jnp.sum(
    in_batch_softmax_loss(scores, *args[1:], jnp.ones(1, bool))
  )
  value, gradient = jax.jit(jax.value_and_grad(loss))(args[0])
  assert value == 0.0 and gradient == 0.0


def test_masked_rows_are_nobodys_candidates():
  spoiled = SCORES.copy()
  spoiled[:, ~WHERE] = np.nan
  spoiled[~WHERE] = np.nan
  args = tuple(map(jnp.asarray, (ITEM, LOG_Q, WHERE, USER)))
  loss = jax.jit(
    jax.value_and_grad(
      lambda scores: jnp.sum(symmetric_in_batch_loss(scores, *args))
    )
  )
  value, gradient = loss(jnp.asarray(SCORES))
  other, other_gradient = loss(jnp.asarray(spoiled))
  assert value == other
  np.testing.assert_array_equal(gradient, other_gradient)
  assert np.all(gradient[:, ~WHERE] == 0.0)


def test_accidental_hits_have_no_gradient():
  gradient = jax.grad(
    lambda scores: jnp.sum(
      in_batch_softmax_loss(
        scores, *map(jnp.asarray, (ITEM, LOG_Q, WHERE)), correct_positive=False
      )
    )
  )(jnp.asarray(SCORES))
  same = (ITEM[:, None] == ITEM[None, :]) & ~np.eye(BATCH, dtype=bool)
  assert np.all(gradient[same] == 0.0)
  live = WHERE[:, None] & WHERE[None, :] & ~same
  assert np.all(gradient[live] != 0.0)


def test_in_batch_ignored_names_own_row_padding_and_hits():
  ignored = in_batch_ignored(jnp.asarray(ITEM), jnp.asarray(WHERE))
  expected = [
    [j == 3 or ITEM[i] == ITEM[j] for j in range(BATCH)] for i in range(BATCH)
  ]
  np.testing.assert_array_equal(ignored, expected)


# -- Candidates ---------------------------------------------------------------

POSITIVE = jnp.asarray(_rng.normal(size=4), jnp.float32)
NEGATIVE = jnp.asarray(_rng.normal(size=(4, 5)), jnp.float32)
LOG_COUNT = jnp.asarray(_rng.normal(size=(4, 5)), jnp.float32)
IGNORED = jnp.asarray(_rng.random((4, 5)) < 0.3)
PLACES = jnp.array([True, False, True, True])


def test_candidate_softmax_with_the_positive_left_is_sampled_softmax():
  np.testing.assert_array_equal(
    candidate_softmax_loss(
      POSITIVE, NEGATIVE, LOG_COUNT, None, IGNORED, PLACES
    ),
    sampled_softmax_loss(POSITIVE, NEGATIVE, IGNORED, LOG_COUNT, PLACES),
  )


def test_candidate_softmax_corrects_the_positive_alike():
  log_positive = LOG_COUNT[:, 0] + 0.5
  loss = candidate_softmax_loss(
    POSITIVE, NEGATIVE, LOG_COUNT, log_positive, IGNORED, PLACES
  )
  own = np.exp(np.asarray(POSITIVE - log_positive, np.float64))
  others = np.exp(np.asarray(NEGATIVE - LOG_COUNT, np.float64)) * ~IGNORED
  expected = np.log((own + others.sum(axis=1)) / own)
  np.testing.assert_allclose(loss, np.where(PLACES, expected, 0.0), rtol=1e-5)


def test_candidate_softmax_takes_one_correction_for_all_rows():
  one = LOG_COUNT[:1]
  np.testing.assert_array_equal(
    candidate_softmax_loss(POSITIVE, NEGATIVE, one, None, None, PLACES),
    candidate_softmax_loss(
      POSITIVE, NEGATIVE, jnp.tile(one, (4, 1)), None, None, PLACES
    ),
  )


def test_candidates_that_are_ignored_may_hold_anything():
  spoil = lambda x, value: jnp.where(IGNORED, value, x)
  loss = jax.jit(
    jax.value_and_grad(
      lambda negative, log_count: jnp.sum(
        candidate_softmax_loss(
          POSITIVE, negative, log_count, None, IGNORED, PLACES
        )
      )
    )
  )
  value, gradient = loss(NEGATIVE, LOG_COUNT)
  other, other_gradient = loss(
    spoil(NEGATIVE, jnp.nan), spoil(LOG_COUNT, -jnp.inf)
  )
  assert value == other
  np.testing.assert_array_equal(gradient, other_gradient)


def test_mixed_candidates_estimate_the_whole_partition_function():
  """Two samplers at once; the correction is that of their union."""
  rng = np.random.default_rng(3)
  num_draws, num_items = 40_000, 7
  scores = rng.normal(size=num_items)
  steep = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0.0])
  drawn = np.concatenate(
    [
      rng.choice(num_items, size=(num_draws, 3), p=steep),
      rng.choice(num_items, size=(num_draws, 2)),
    ],
    axis=1,
  )
  expected_copies = 3 * steep + 2 / num_items

  def estimates(counts):
    loss = candidate_softmax_loss(
      jnp.full(num_draws, scores[1], jnp.float32),
      jnp.asarray(scores[drawn], jnp.float32),
      jnp.asarray(np.log(counts[drawn]), jnp.float32),
      None,
      jnp.asarray(drawn == 1),
      jnp.ones(num_draws, bool),
    )
    return np.exp(np.asarray(loss, np.float64) + scores[1])

  partition = np.sum(np.exp(scores))
  exact = estimates(expected_copies)
  error = exact.std() / np.sqrt(num_draws)
  assert abs(exact.mean() - partition) < 4 * error
  one_alone = estimates(np.full(num_items, 5 / num_items))
  assert abs(one_alone.mean() - partition) > 20 * error


# -- Mixture ------------------------------------------------------------------


def test_mixture_is_the_weighted_mean():
  contrastive, bce = jnp.array([1.0, 4.0]), jnp.array([3.0, 0.0])
  np.testing.assert_allclose(
    mixture_loss(contrastive, bce, weight=0.25), [2.5, 1.0], rtol=1e-6
  )


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_mixture_refuses_a_weight_out_of_range(weight):
  with pytest.raises(ConfigError, match=r"mixture_loss weight must lie in \[0"):
    mixture_loss(jnp.ones(2), jnp.ones(2), weight=weight)
