import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.losses.pairwise import bpr_loss, hinge_loss, warp_loss


def test_bpr_is_the_mean_log_sigmoid_of_differences():
  rng = np.random.default_rng(0)
  positive = rng.normal(size=(2, 3)).astype(np.float32)
  negative = rng.normal(size=(2, 3, 4)).astype(np.float32)
  where = np.array([[True, True, False], [True, False, True]])
  difference = positive[..., None].astype(np.float64) - negative
  expected = -np.mean(np.log(1 / (1 + np.exp(-difference))), axis=-1)
  np.testing.assert_allclose(
    bpr_loss(*map(jnp.asarray, (positive, negative, where))),
    np.where(where, expected, 0.0),
    rtol=1e-5,
  )


def test_bpr_of_equal_scores_is_log_two():
  loss = bpr_loss(jnp.ones(2), jnp.ones((2, 3)), jnp.ones(2, bool))
  np.testing.assert_allclose(loss, np.log(2.0), rtol=1e-6)


# -- Ignored negatives --------------------------------------------------------

_rng = np.random.default_rng(1)
POSITIVE = _rng.normal(size=(2, 3)).astype(np.float32)
NEGATIVE = _rng.normal(size=(2, 3, 5)).astype(np.float32)
WHERE = np.array([[True, True, True], [True, False, True]])
IGNORED = _rng.random((2, 3, 5)) < 0.4
IGNORED[0, 0] = True


def warp(*args):
  positive, negative, where, ignored = args
  return warp_loss(positive, negative, ignored, where, num_items=50)


@pytest.mark.parametrize("loss", [bpr_loss, hinge_loss, warp])
def test_ignored_negatives_are_as_if_they_were_not_drawn(loss):
  spoiled = np.where(IGNORED, np.nan, NEGATIVE)
  loss = jax.jit(loss)
  losses, pull = jax.vjp(
    lambda positive, negative: loss(
      positive, negative, jnp.asarray(WHERE), jnp.asarray(IGNORED)
    ),
    jnp.asarray(POSITIVE),
    jnp.asarray(spoiled),
  )
  d_positive, d_negative = pull(jnp.ones((2, 3)))
  assert losses[0, 0] == 0.0  # None is left.
  assert np.all(np.isfinite(d_positive))
  assert np.all(d_negative[IGNORED] == 0.0)
  for place in np.ndindex(2, 3):
    left = NEGATIVE[place][~IGNORED[place]]
    if left.size and WHERE[place]:
      alone = loss(
        jnp.asarray(POSITIVE[place]),
        jnp.asarray(left),
        jnp.asarray(True),
        None,
      )
      np.testing.assert_allclose(losses[place], alone, rtol=1e-6)


# -- Hinge --------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5])
def test_hinge_is_the_mean_of_what_is_missing_to_the_margin(margin):
  missing = margin - POSITIVE[..., None] + NEGATIVE
  expected = np.where(WHERE, np.maximum(missing, 0.0).mean(axis=-1), 0.0)
  got = hinge_loss(
    *map(jnp.asarray, (POSITIVE, NEGATIVE, WHERE)), margin=margin
  )
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_hinge_and_warp_refuse_a_negative_margin():
  args = jnp.ones(2), jnp.ones((2, 3)), jnp.ones(2, bool)
  with pytest.raises(ConfigError, match="hinge_loss margin must lie in"):
    hinge_loss(*args, margin=-1.0)
  with pytest.raises(ConfigError, match="warp_loss margin must lie in"):
    warp_loss(*args[:2], None, args[2], num_items=9, margin=-1.0)


# -- WARP ---------------------------------------------------------------------


def warp_by_hand(positive, negatives, ignored, num_items, margin):
  """The loop of the paper; the loss and the place of the violator."""
  trials = 0
  for place, (negative, skip) in enumerate(
    zip(negatives, ignored, strict=True)
  ):
    if skip:
      continue
    trials += 1
    if negative > positive - margin:
      rank = (num_items - 1) // trials
      weight = sum(1 / j for j in range(1, rank + 1))
      return weight * (margin - positive + negative), weight, place
  return 0.0, 0.0, None


@pytest.mark.parametrize("num_items,margin", [(4, 1.0), (300, 0.2), (7, 0.0)])
def test_warp_is_the_loop_of_the_paper(num_items, margin):
  rng = np.random.default_rng(0)
  positive = 1.5 + rng.normal(size=60).astype(np.float32)
  negative = rng.normal(size=(60, 8)).astype(np.float32)
  ignored = rng.random((60, 8)) < 0.3
  losses, pull = jax.vjp(
    jax.jit(
      lambda positive, negative: warp_loss(
        positive,
        negative,
        jnp.asarray(ignored),
        jnp.ones(60, bool),
        num_items=num_items,
        margin=margin,
      )
    ),
    jnp.asarray(positive),
    jnp.asarray(negative),
  )
  d_positive, d_negative = pull(jnp.ones(60))
  places = set()
  for i in range(60):
    loss, weight, place = warp_by_hand(
      positive[i], negative[i], ignored[i], num_items, margin
    )
    np.testing.assert_allclose(losses[i], loss, rtol=1e-4, atol=1e-6)
    # The hinge has a gradient, the weight has none.
    slope = np.zeros(8)
    if place is not None:
      slope[place] = weight
    np.testing.assert_allclose(d_negative[i], slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(d_positive[i], -weight, rtol=1e-5, atol=1e-7)
    places.add(place)
  assert len(places) > 4 and None in places  # The cases are there.


def test_warp_weighs_early_violators_more():
  late = jnp.array([[-9.0, -9.0, 1.0]])
  early = jnp.array([[1.0, -9.0, -9.0]])
  call = lambda negative: warp_loss(
    jnp.ones(1), negative, None, jnp.ones(1, bool), num_items=100
  )
  assert call(early) > 1.2 * call(late) > 0


def test_warp_refuses_a_catalogue_of_one_item():
  with pytest.raises(ConfigError, match="num_items must lie in"):
    warp_loss(
      jnp.ones(1), jnp.ones((1, 1)), None, jnp.ones(1, bool), num_items=1
    )
