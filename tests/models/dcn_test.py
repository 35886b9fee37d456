import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.dcn import DCN


@pytest.mark.parametrize("num_dense,batch_norm", [(0, True), (2, False)])
def test_equals_the_formula(oracle, num_dense, batch_norm):
  model = DCN(dim=2, num_cross_layers=2, hidden=(7, 5), batch_norm=batch_norm)
  found = oracle.run(model, {"embedding": 3}, num_dense)
  first = np.hstack([found.rows["embedding"][:, i] for i in range(3)])
  if num_dense:
    first = np.hstack([first, found.dense])
  cross = found.params["cross"]
  crossed = first
  for layer in range(2):
    # x_0 x_l^T w, the outer product written out as in the paper.
    outer = np.einsum("bi,bj->bij", first, crossed)
    crossed = (
      outer @ cross[f"weight_{layer}"][:, 0] + cross[f"bias_{layer}"] + crossed
    )
  hidden = oracle.mlp(first, found.params["mlp"], found.stats.get("mlp"))
  last = found.params["output"]
  expected = np.hstack([crossed, hidden]) @ last["kernel"][:, 0]
  oracle.check(found.logit, expected + last["bias"])


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "DCN.dim must lie in"),
    ({"num_cross_layers": 0}, "DCN.num_cross_layers must lie in"),
    ({"hidden": ()}, "DCN.hidden must be a tuple"),
    ({"activation": "x"}, "DCN.activation must be one of"),
    ({"dropout_rate": 1.0}, "DCN.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    DCN(**settings)
