import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.finalmlp import FinalMLP


@pytest.mark.parametrize(
  "settings,num_dense",
  [
    ({}, 0),
    ({"gating": False, "num_heads": 2}, 2),
    ({"gate1_context": True, "batch_norm1": True}, 2),
    (
      {
        "gate1_context": True,
        "gate2_context": True,
        "gate_hidden": (),
        "num_heads": 2,
        "batch_norm2": True,
        "activation": "sigmoid",
      },
      0,
    ),
  ],
)
def test_equals_the_formula(oracle, settings, num_dense):
  model = FinalMLP(
    **{"dim": 3, "hidden1": (7, 4), "hidden2": (6,), "gate_hidden": (5,)}
    | settings
  )
  found = oracle.run(model, {"embedding": 3, "gate1": 1, "gate2": 2}, num_dense)
  params, flat = found.params, oracle.vectors(found).reshape(oracle.BATCH, -1)
  streams = []
  for number in "12":
    x, gate = flat, f"gate{number}"
    if model.gating:
      if gate in model.groups:
        context = found.rows[gate].reshape(oracle.BATCH, -1)
      else:
        context = params[f"{gate}_vector"]
      hidden = oracle.mlp(context, params.get(gate, {}))
      last = params[f"{gate}_output"]
      gates = 2 / (1 + np.exp(-(hidden @ last["kernel"] + last["bias"])))
      x = flat * gates
    streams.append(
      oracle.mlp(
        x,
        params[f"mlp{number}"],
        found.stats.get(f"mlp{number}"),
        model.activation,
      )
    )
  left, right = streams
  fusion = params["fusion"]
  expected = fusion["left"]["bias"] + left @ fusion["left"]["kernel"][:, 0]
  expected = expected + right @ fusion["right"]["kernel"][:, 0]
  heads = model.num_heads
  for h, (x, y) in enumerate(
    zip(np.split(left, heads, axis=1), np.split(right, heads, axis=1))
  ):
    expected = expected + np.array(
      [a @ fusion["bilinear"][h] @ b for a, b in zip(x, y)]
    )
  oracle.check(found.logit, expected)


def test_groups_follow_the_gates():
  model = FinalMLP(gate2_context=True)
  assert model.groups == {"embedding": 10, "gate2": 10}


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "FinalMLP.dim must lie in"),
    ({"hidden1": ()}, "FinalMLP.hidden1 must be a tuple"),
    ({"hidden2": (0,)}, r"FinalMLP.hidden2\[0\] must lie in"),
    ({"gate_hidden": (-1,)}, r"FinalMLP.gate_hidden\[0\] must lie in"),
    ({"num_heads": 0}, "FinalMLP.num_heads must lie in"),
    ({"num_heads": 3}, "num_heads must divide 400 and 400"),
    ({"activation": "x"}, "FinalMLP.activation must be one of"),
    ({"dropout_rate1": 1.0}, "FinalMLP.dropout_rate1 must lie in"),
    ({"dropout_rate2": -1.0}, "FinalMLP.dropout_rate2 must lie in"),
    ({"gating": False, "gate1_context": True}, "need gating=True"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    FinalMLP(**settings)
