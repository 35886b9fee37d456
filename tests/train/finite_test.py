import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import RunError
from recjax.train.finite import check_finite, check_parameters, finite_leaves


def test_the_first_step_and_the_leaves_are_named():
  norms = np.array([[1.0, 2.0], [np.inf, 1.0], [np.nan, np.nan]])
  metrics = {"loss": np.array([1.0, 2.0, np.nan]), "gradient_norms": norms}
  with pytest.raises(RunError, match="step 12: the loss is 2.0.* in a/b[.]"):
    check_finite(metrics, 10, ["a/b", "c"])
  fine = {name: x[:1] for name, x in metrics.items()}
  assert check_finite(fine, 10, ["a/b", "c"]) is None


def test_parameters_that_are_not_finite_are_named():
  params = {"a": jnp.array([1.0, jnp.nan]), "b": jnp.zeros(2)}
  finite = finite_leaves(params)
  np.testing.assert_array_equal(finite, [False, True])
  with pytest.raises(RunError, match="step 3: the parameters a are not"):
    check_parameters(finite, 3, ["a", "b"])
  assert check_parameters(finite[1:], 3, ["b"]) is None
