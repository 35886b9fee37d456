import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.dlrm import DLRM


@pytest.mark.parametrize(
  "interaction,num_dense,batch_norm",
  [
    ("dot", 4, False),
    ("dot", 0, False),
    ("self", 4, True),
    ("cat", 4, False),
    ("cat", 0, True),
  ],
)
def test_equals_the_formula(oracle, num_dense, interaction, batch_norm):
  model = DLRM(
    dim=3,
    bottom=(6,),
    top=(7, 5),
    interaction="cat" if interaction == "cat" else "dot",
    include_self=interaction == "self",
    batch_norm=batch_norm,
  )
  found = oracle.run(model, {"embedding": 3}, num_dense)
  params, stats = found.params, found.stats
  vectors = [found.rows["embedding"][:, i] for i in range(3)]
  z = []
  if num_dense:
    hidden = oracle.mlp(
      found.dense, params["bottom_mlp"], stats.get("bottom_mlp")
    )
    last = params["bottom_output"]
    z = [np.maximum(hidden @ last["kernel"] + last["bias"], 0)]
  vectors = z + vectors
  if interaction == "cat":
    x = np.hstack(vectors)
  else:
    pairs = [
      (i, j)
      for i in range(len(vectors))
      for j in range(i + (interaction == "self"))
    ]
    products = [np.sum(vectors[i] * vectors[j], 1) for i, j in pairs]
    x = np.hstack([*z, np.stack(products, axis=1)])
  top = oracle.mlp(x, params["top_mlp"], stats.get("top_mlp"))
  last = params["output"]
  oracle.check(found.logit, top @ last["kernel"][:, 0] + last["bias"])


def test_one_vector_has_no_pair():
  rows = {"embedding": jnp.zeros((2, 1, 16))}
  with pytest.raises(ConfigError, match="needs two vectors or more"):
    DLRM().apply({}, rows)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "DLRM.dim must lie in"),
    ({"bottom": (0,)}, r"DLRM.bottom\[0\] must lie in"),
    ({"top": (8, -1)}, r"DLRM.top\[1\] must lie in"),
    ({"interaction": "dots"}, "DLRM.interaction.*Did you mean 'dot'"),
    ({"activation": "x"}, "DLRM.activation must be one of"),
    ({"bottom_dropout_rate": 1.0}, "DLRM.bottom_dropout_rate must lie in"),
    ({"top_dropout_rate": -1.0}, "DLRM.top_dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    DLRM(**settings)
