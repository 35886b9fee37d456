import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.dcn_v2 import DCNv2


def cross(first, params, kind, gate):
  """The cross network of one example, two layers, in plain loops."""
  x = first
  for layer in range(2):
    if kind == "full":
      full = params[f"full_{layer}"]
      x = first * (full["kernel"].T @ x + full["bias"]) + x
    elif kind == "low_rank":
      u, v = params[f"u_{layer}"], params[f"v_{layer}"]["kernel"].T
      x = first * (u["kernel"].T @ (v @ x) + u["bias"]) + x
    else:
      scores = params[f"gate_{layer}"]["kernel"].T @ x
      gates = 1 / (1 + np.exp(-scores))
      if gate == "softmax":
        gates = np.exp(scores) / np.sum(np.exp(scores))
      new = x
      for expert, weight in enumerate(gates):
        v = params[f"v_{layer}"][expert].T
        c = params[f"c_{layer}"][expert].T
        u = params[f"u_{layer}"][expert].T
        inner = u @ np.tanh(c @ np.tanh(v @ x)) + params[f"bias_{layer}"]
        new = new + weight * first * inner
      x = new
  return x


@pytest.mark.parametrize(
  "structure,kind,gate,num_dense,batch_norm",
  [
    ("parallel", "full", "softmax", 2, True),
    ("stacked", "low_rank", "softmax", 0, False),
    ("stacked", "mixture", "sigmoid", 2, True),
    ("cross", "mixture", "softmax", 0, False),
  ],
)
def test_equals_the_formula(
  oracle, structure, kind, gate, num_dense, batch_norm
):
  model = DCNv2(
    dim=2,
    structure=structure,
    num_cross_layers=2,
    cross_kind=kind,
    rank=3,
    num_experts=2,
    gate=gate,
    hidden=(7, 5),
    batch_norm=batch_norm,
  )
  found = oracle.run(model, {"embedding": 3}, num_dense)
  first = np.hstack([found.rows["embedding"][:, i] for i in range(3)])
  if num_dense:
    first = np.hstack([first, found.dense])
  top = np.stack(
    [cross(row, found.params["cross"], kind, gate) for row in first]
  )
  mlp = lambda x: oracle.mlp(x, found.params["mlp"], found.stats.get("mlp"))
  if structure == "parallel":
    top = np.hstack([top, mlp(first)])
  elif structure == "stacked":
    top = mlp(top)
  else:
    assert "mlp" not in found.params
  last = found.params["output"]
  oracle.check(found.logit, top @ last["kernel"][:, 0] + last["bias"])


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "DCNv2.dim must lie in"),
    ({"num_cross_layers": 0}, "DCNv2.num_cross_layers must lie in"),
    ({"rank": 0}, "DCNv2.rank must lie in"),
    ({"num_experts": 0}, "DCNv2.num_experts must lie in"),
    ({"structure": "paralel"}, "DCNv2.structure.*Did you mean 'parallel'"),
    ({"cross_kind": "lowrank"}, "DCNv2.cross_kind.*Did you mean 'low_rank'"),
    ({"gate": "soft"}, "DCNv2.gate must be one of"),
    ({"expert_activation": "tan"}, "DCNv2.expert_activation.*'tanh'"),
    ({"hidden": ()}, "DCNv2.hidden must be a tuple"),
    ({"activation": "x"}, "DCNv2.activation must be one of"),
    ({"dropout_rate": 1.0}, "DCNv2.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    DCNv2(**settings)
