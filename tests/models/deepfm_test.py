import itertools

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.deepfm import DeepFM


@pytest.mark.parametrize("num_dense,batch_norm", [(0, True), (2, False)])
def test_equals_the_formula(oracle, num_dense, batch_norm):
  model = DeepFM(dim=3, hidden=(7, 5), batch_norm=batch_norm)
  found = oracle.run(model, {"linear": 4, "embedding": 4}, num_dense)
  vectors = oracle.vectors(found)
  assert vectors.shape[1] == 4 + num_dense
  expected = oracle.linear(found)
  for i, j in itertools.combinations(range(4 + num_dense), 2):
    expected = expected + np.sum(vectors[:, i] * vectors[:, j], axis=1)
  x = np.hstack(list(np.swapaxes(vectors, 0, 1)))
  hidden = oracle.mlp(x, found.params["mlp"], found.stats.get("mlp"))
  deep = hidden @ found.params["output"]["kernel"][:, 0]
  oracle.check(found.logit, expected + deep)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": -1}, "DeepFM.dim must lie in"),
    ({"hidden": (400, 0)}, r"DeepFM.hidden\[1\] must lie in"),
    ({"activation": "realu"}, "DeepFM.activation.*Did you mean 'relu'"),
    ({"dropout_rate": 1.0}, "DeepFM.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    DeepFM(**settings)
