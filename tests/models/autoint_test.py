import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.autoint import AutoInt

NUM_FIELDS, HEADS, HEAD_DIM = 3, 2, 4


def attend(vectors, params, model):
  """One interacting layer of one example: a loop over heads and fields."""
  out = []
  for head in range(HEADS):
    part = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    query, key, value = (
      vectors @ params[name]["kernel"][:, part]
      for name in ("query", "key", "value")
    )
    rows = []
    for q in query:
      scores = np.array([q @ k for k in key])
      if model.scale:
        scores = scores / np.sqrt(HEAD_DIM)
      weights = np.exp(scores) / np.exp(scores).sum()
      rows.append(weights @ value)
    out.append(np.array(rows))
  out = np.hstack(out)
  if model.residual == "linear" or (
    model.residual == "identity" and vectors.shape != out.shape
  ):
    out = out + vectors @ params["residual_map"]["kernel"]
  elif model.residual == "identity":
    out = out + vectors
  if model.layer_norm:
    mean, var = out.mean(1, keepdims=True), out.var(1, keepdims=True)
    norm = params["norm"]
    out = (out - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
  return np.maximum(out, 0)


@pytest.mark.parametrize(
  "settings,num_dense",
  [
    ({}, 2),
    (
      {
        "hidden": (7, 5),
        "batch_norm": True,
        "residual": "none",
        "scale": True,
      },
      0,
    ),
    ({"hidden": (7,), "linear_terms": True, "residual": "identity"}, 2),
    ({"layer_norm": True, "linear_terms": True}, 0),
  ],
)
def test_equals_the_formula(oracle, settings, num_dense):
  model = AutoInt(
    dim=3,
    num_layers=2,
    num_heads=HEADS,
    head_dim=HEAD_DIM,
    attention_dropout_rate=0.5,
    **settings,
  )
  fields = {"embedding": NUM_FIELDS, "linear": NUM_FIELDS}
  found = oracle.run(model, fields, num_dense, seed=3)
  vectors = oracle.vectors(found)
  tops = []
  for x in vectors:
    for layer in range(2):
      x = attend(x, found.params[f"attention_{layer}"], model)
    tops.append(x.ravel())
  top = np.array(tops)
  if model.hidden:
    x = vectors.reshape(oracle.BATCH, -1)
    hidden = oracle.mlp(x, found.params["mlp"], found.stats.get("mlp"))
    top = np.hstack([top, hidden])
  expected = top @ found.params["output"]["kernel"][:, 0]
  if model.linear_terms:
    expected = expected + oracle.linear(found)
  else:
    assert model.groups == {"embedding": 3}
    expected = expected + found.params["output"]["bias"]
  oracle.check(found.logit, expected)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 0}, "AutoInt.dim must lie in"),
    ({"num_layers": 0}, "AutoInt.num_layers must lie in"),
    ({"num_heads": 0}, "AutoInt.num_heads must lie in"),
    ({"head_dim": 0}, "AutoInt.head_dim must lie in"),
    ({"residual": "liner"}, "AutoInt.residual.*Did you mean 'linear'"),
    ({"attention_dropout_rate": 1.0}, "AutoInt.attention_dropout_rate"),
    ({"hidden": (0,)}, r"AutoInt.hidden\[0\] must lie in"),
    ({"activation": "x"}, "AutoInt.activation must be one of"),
    ({"dropout_rate": 1.0}, "AutoInt.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    AutoInt(**settings)
