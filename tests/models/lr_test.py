import numpy as np
import pytest

from recjax.models.lr import LR


@pytest.mark.parametrize("num_dense", [0, 3])
def test_equals_the_formula(oracle, num_dense):
  found = oracle.run(LR(), {"linear": 5}, num_dense)
  weights = found.rows["linear"][:, :, 0]
  expected = found.params["linear"]["bias"] + weights @ np.ones(5)
  if num_dense:
    expected = expected + found.dense @ found.params["linear"]["dense"]
  oracle.check(found.logit, expected)
  assert set(found.params) == {"linear"}
