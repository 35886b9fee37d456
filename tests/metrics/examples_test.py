import jax.numpy as jnp
import numpy as np
import pytest

from recjax.metrics.examples import counted, probabilities, ratio

NAN = float("nan")


def test_what_does_not_count_is_zero():
  score = np.array([0.5, NAN, 0.25, NAN])
  label = np.array([True, False, True, True])
  weight = np.array([2.0, 1.0, 3.0, 0.0])
  where = np.array([True, False, True, True])
  for change in (np.asarray, jnp.asarray):
    found = counted(*map(change, (score, label, weight, where)))
    np.testing.assert_array_equal(found.score, [0.5, 0, 0.25, 0])
    np.testing.assert_array_equal(found.label, [1, 0, 1, 0])
    np.testing.assert_array_equal(found.weight, [2, 0, 3, 0])


def test_the_type_of_the_arrays_stays():
  score, label = np.zeros(3, np.float32), np.ones(3, np.int32)
  for part in counted(score, label):
    assert type(part) is np.ndarray and part.dtype == np.float64
  for part in counted(jnp.asarray(score, jnp.bfloat16), label):
    assert isinstance(part, jnp.ndarray) and part.dtype == jnp.float32
  np.testing.assert_array_equal(counted(score, label).weight, np.ones(3))


def test_a_weight_of_nan_is_not_hidden():
  weight = np.array([1.0, NAN])
  assert np.isnan(counted(np.zeros(2), np.zeros(2), weight).weight[1])


@pytest.mark.parametrize("change", [np.asarray, jnp.asarray])
def test_probabilities_of_logits(change):
  logits = change(np.array([-1000.0, -2.0, 0.0, 3.0, 1000.0]))
  found = probabilities(logits, from_logits=True)
  expected = [0.0, 1 / (1 + np.exp(2.0)), 0.5, 1 / (1 + np.exp(-3.0)), 1.0]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert probabilities(logits, from_logits=False) is logits


def test_ratio():
  top, bottom = np.array([1.0, 1.0]), np.array([4.0, 0.0])
  np.testing.assert_array_equal(ratio(top, bottom), [0.25, 0.0])
  assert np.isnan(ratio(1.0, np.float64(0.0), empty=NAN))
  assert float(ratio(jnp.ones(()), jnp.zeros(()))) == 0.0
