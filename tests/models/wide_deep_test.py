import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.wide_deep import WideDeep


@pytest.mark.parametrize("num_dense,batch_norm", [(0, True), (2, False)])
def test_equals_the_formula(oracle, num_dense, batch_norm):
  model = WideDeep(
    dim=3, hidden=(7, 5), activation="tanh", batch_norm=batch_norm
  )
  # Two declared crosses: they have a weight and no vector.
  found = oracle.run(model, {"linear": 6, "embedding": 4}, num_dense)
  x = np.hstack([found.rows["embedding"][:, i] for i in range(4)])
  if num_dense:
    x = np.hstack([x, found.dense])
  hidden = oracle.mlp(x, found.params["mlp"], found.stats.get("mlp"), "tanh")
  deep = hidden @ found.params["output"]["kernel"][:, 0]
  oracle.check(found.logit, oracle.linear(found) + deep)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "WideDeep.dim must lie in"),
    ({"hidden": ()}, "WideDeep.hidden must be a tuple of at least 1"),
    ({"activation": "sigmoidd"}, "WideDeep.activation.*'sigmoid'"),
    ({"dropout_rate": 2.0}, "WideDeep.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    WideDeep(**settings)
