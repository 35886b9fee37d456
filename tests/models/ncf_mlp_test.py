import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.ncf_mlp import NcfMLP


@pytest.mark.parametrize(
  "settings",
  [
    {"layers": (8,)},
    {"layers": (8, 6, 3)},
    {"layers": (6, 4), "activation": "sigmoid", "batch_norm": True},
  ],
)
def test_equals_the_formula(oracle, settings):
  model = NcfMLP(**settings, dropout_rate=0.5)
  assert model.groups == {"mlp": model.layers[0] // 2}
  found = oracle.run(model, {"mlp": 2})
  z = np.hstack([found.rows["mlp"][:, 0], found.rows["mlp"][:, 1]])
  z = oracle.mlp(
    z,
    found.params.get("mlp", {}),
    found.stats.get("mlp"),
    settings.get("activation", "relu"),
  )
  assert z.shape[1] == model.layers[-1]
  last = found.params["prediction"]
  oracle.check(found.logit, z @ last["kernel"][:, 0] + last["bias"])


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"layers": ()}, "NcfMLP.layers must be a tuple of at least 1"),
    ({"layers": (64, 0)}, r"NcfMLP.layers\[1\] must lie in"),
    ({"layers": (7, 4)}, "must be even; got 7"),
    ({"activation": "rellu"}, "NcfMLP.activation.*Did you mean 'relu'"),
    ({"dropout_rate": 1.0}, "NcfMLP.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    NcfMLP(**settings)


def test_what_it_does_not_take():
  rows = {"mlp": jnp.zeros((2, 2, 32))}
  with pytest.raises(ConfigError, match="NcfMLP knows users and items alone"):
    NcfMLP().apply({}, rows, jnp.zeros((2, 1)))
