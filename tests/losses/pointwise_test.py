import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.losses.pointwise import binary_cross_entropy_loss, gbce_loss

K = 4
_rng = np.random.default_rng(0)
POSITIVE = _rng.normal(size=(2, 3)).astype(np.float32)
NEGATIVE = _rng.normal(size=(2, 3, K)).astype(np.float32)
WHERE = np.array([[True, True, False], [True, False, True]])
ARGS = tuple(map(jnp.asarray, (POSITIVE, NEGATIVE, WHERE)))


def sigmoid(x):
  return 1 / (1 + np.exp(-x.astype(np.float64)))


def masked(loss):
  return np.where(WHERE, loss, 0.0)


def test_binary_cross_entropy_is_the_formula():
  expected = -np.log(sigmoid(POSITIVE)) - np.sum(
    np.log(1 - sigmoid(NEGATIVE)), axis=-1
  )
  np.testing.assert_allclose(
    binary_cross_entropy_loss(*ARGS),
    masked(expected),
    rtol=1e-5,
  )


def gbce(num_items, calibration):
  return gbce_loss(*ARGS, num_items=num_items, calibration=calibration)


def test_gbce_with_t_0_is_the_mean_binary_cross_entropy():
  expected = binary_cross_entropy_loss(*ARGS) / (K + 1)
  np.testing.assert_allclose(gbce(50, 0.0), expected, rtol=1e-5)


def test_gbce_with_t_1_weighs_the_positive_by_the_sampling_rate():
  alpha = K / 49
  # Equation 8 of the paper: the sigmoid of the positive to the power beta.
  log_power = np.log(sigmoid(POSITIVE) ** alpha)
  log_negative = np.sum(np.log(1 - sigmoid(NEGATIVE)), axis=-1)
  np.testing.assert_allclose(
    gbce(50, 1.0), masked(-(log_power + log_negative) / (K + 1)), rtol=1e-5
  )


def test_gbce_between_is_linear_in_t():
  between = 0.25 * gbce(50, 0.0) + 0.75 * gbce(50, 1.0)
  np.testing.assert_allclose(gbce(50, 0.75), between, rtol=1e-5)


def test_gbce_with_all_negatives_needs_no_correction():
  np.testing.assert_allclose(gbce(K + 1, 0.0), gbce(K + 1, 1.0), rtol=1e-6)


@pytest.mark.parametrize("calibration", [-0.1, 1.1, float("nan")])
def test_gbce_refuses_a_calibration_out_of_range(calibration):
  with pytest.raises(ConfigError, match=r"calibration t must lie in \[0"):
    gbce(50, calibration)


def test_gbce_refuses_a_catalogue_of_one_item():
  with pytest.raises(ConfigError, match="num_items must lie in"):
    gbce(1, 0.5)


def test_binary_cross_entropy_without_ignored_negatives():
  ignored = np.random.default_rng(1).random(NEGATIVE.shape) < 0.4
  spoiled = np.where(ignored, np.nan, NEGATIVE)
  loss = lambda negative: jnp.sum(
    binary_cross_entropy_loss(ARGS[0], negative, ARGS[2], jnp.asarray(ignored))
  )
  value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(spoiled))
  kept = np.where(ignored, 0.0, np.log(1 - sigmoid(NEGATIVE)))
  expected = -np.log(sigmoid(POSITIVE)) - np.sum(kept, axis=-1)
  np.testing.assert_allclose(value, np.sum(masked(expected)), rtol=1e-5)
  assert np.all(gradient[ignored] == 0.0)
  assert np.all(gradient[~ignored & WHERE[..., None]] > 0.0)
