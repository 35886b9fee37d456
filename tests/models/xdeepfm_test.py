import itertools

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.xdeepfm import XDeepFM


@pytest.mark.parametrize(
  "settings,num_dense",
  [
    ({}, 0),
    ({"batch_norm": True}, 2),
    ({"cin_activation": "relu", "cin_bias": True}, 0),
    ({"hidden": ()}, 2),
  ],
)
def test_equals_the_formula(oracle, settings, num_dense):
  model = XDeepFM(
    **{"dim": 3, "cin_layers": (4, 2), "hidden": (7, 5)} | settings
  )
  found = oracle.run(model, {"linear": 3, "embedding": 3}, num_dense)
  first = oracle.vectors(found)
  num_fields, maps, top = 3 + num_dense, first, []
  for layer, size in enumerate((4, 2)):
    weights = found.params["cin"][f"layer_{layer}"]
    kernel = weights["kernel"].reshape(maps.shape[1], num_fields, size)
    new = np.zeros((oracle.BATCH, size, 3))
    for h, i, j in itertools.product(
      range(size), range(maps.shape[1]), range(num_fields)
    ):
      new[:, h] += kernel[i, j, h] * maps[:, i] * first[:, j]
    if model.cin_bias:
      new += weights["bias"][:, None]
    maps = oracle.ACTIVATIONS[model.cin_activation](new)
    top.append(maps.sum(axis=2))
  if model.hidden:
    x = first.reshape(oracle.BATCH, -1)
    top.append(oracle.mlp(x, found.params["mlp"], found.stats.get("mlp")))
  deep = np.hstack(top) @ found.params["output"]["kernel"][:, 0]
  oracle.check(found.logit, oracle.linear(found) + deep)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "XDeepFM.dim must lie in"),
    ({"cin_layers": ()}, "XDeepFM.cin_layers must be a tuple"),
    ({"cin_activation": "x"}, "XDeepFM.cin_activation must be one of"),
    ({"hidden": (0,)}, r"XDeepFM.hidden\[0\] must lie in"),
    ({"activation": "x"}, "XDeepFM.activation must be one of"),
    ({"dropout_rate": 1.0}, "XDeepFM.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    XDeepFM(**settings)
