import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.neumf import NeuMF


@pytest.mark.parametrize("batch_norm", [False, True])
def test_equals_the_formula(oracle, batch_norm):
  model = NeuMF(dim=3, layers=(8, 6, 5), batch_norm=batch_norm)
  found = oracle.run(model, {"gmf": 2, "mlp": 2})
  product = found.rows["gmf"][:, 0] * found.rows["gmf"][:, 1]
  z = np.hstack([found.rows["mlp"][:, 0], found.rows["mlp"][:, 1]])
  z = oracle.mlp(z, found.params["mlp"], found.stats.get("mlp"))
  last = found.params["prediction"]
  kernel = last["kernel"][:, 0]
  expected = product @ kernel[:3] + z @ kernel[3:] + last["bias"]
  oracle.check(found.logit, expected)


def test_the_settings_of_the_paper_are_the_defaults():
  assert NeuMF().groups == {"gmf": 8, "mlp": 32}


def test_initial_values_are_those_of_the_authors_code():
  """glorot_uniform in hidden layers, lecun_uniform at last, no bias."""
  model = NeuMF(dim=40, layers=(80, 60))
  rows = {"gmf": jnp.zeros((1, 2, 40)), "mlp": jnp.zeros((1, 2, 40))}
  params = jax.jit(model.init)(jax.random.key(0), rows)["params"]
  for layer, bound in (
    (params["mlp"]["layer_0"], np.sqrt(6 / (80 + 60))),
    (params["prediction"], np.sqrt(3 / (40 + 60))),
  ):
    largest = np.abs(layer["kernel"]).max()
    assert 0.9 * bound < largest <= 1.0001 * bound
    np.testing.assert_array_equal(layer["bias"], 0.0)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "NeuMF.dim must lie in"),
    ({"layers": (9, 4)}, "must be even; got 9"),
    ({"layers": ()}, "NeuMF.layers must be a tuple"),
    ({"activation": "none"}, "NeuMF.activation must be one of"),
    ({"dropout_rate": -0.1}, "NeuMF.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    NeuMF(**settings)


def test_what_it_does_not_take():
  rows = {"gmf": jnp.zeros((2, 2, 8)), "mlp": jnp.zeros((2, 2, 32))}
  with pytest.raises(ConfigError, match="NeuMF knows users and items alone"):
    NeuMF().apply({}, rows, jnp.zeros((2, 1)))
