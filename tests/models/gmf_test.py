import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.gmf import GMF


def test_equals_the_formula(oracle):
  found = oracle.run(GMF(dim=5), {"gmf": 2})
  user, item = found.rows["gmf"][:, 0], found.rows["gmf"][:, 1]
  h = found.params["prediction"]["kernel"][:, 0]
  expected = [np.dot(h, p * q) for p, q in zip(user, item)]
  oracle.check(found.logit, expected + found.params["prediction"]["bias"])


def test_what_it_does_not_take(oracle):
  rows = {"gmf": jnp.zeros((2, 3, 4))}
  with pytest.raises(ConfigError, match="'gmf' must have 2 fields; got 3"):
    GMF(dim=4).apply({}, rows)
  with pytest.raises(ConfigError, match="GMF knows users and items alone"):
    GMF(dim=4).apply({}, {"gmf": jnp.zeros((2, 2, 4))}, jnp.zeros((2, 7)))
  with pytest.raises(ConfigError, match="GMF.dim must lie in"):
    GMF(dim=0)
