import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.transformer import TransformerHistory

BATCH, LEN, IN, DIM, HEADS = 3, 6, 3, 4, 2
LENGTHS = [6, 3, 1]
X = np.random.default_rng(0).normal(size=(BATCH, LEN, IN))
HISTORY = jnp.asarray(X, jnp.float32)
WHERE = jnp.asarray(np.arange(LEN)[None] < np.array(LENGTHS)[:, None])


def variables_of(module, history=HISTORY):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), history, WHERE)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


def dense(params, name, x):
  return x @ params[name]["kernel"] + params[name].get("bias", 0.0)


def layer_norm(params, name, x):
  centred = x - x.mean(axis=1, keepdims=True)
  normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
  return normed * params[name]["scale"] + params[name]["bias"]


def oracle(module, variables, rows):
  """All states of all layers, one head and one place at a time."""
  params = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64), variables["params"]
  )
  num, width = len(rows), module.dim // module.num_heads
  x = dense(params, "input", rows) if "input" in params else rows
  x = x + params["position_embedding"][:num][::-1]
  for n in range(module.num_layers):
    normed = layer_norm(params, f"attention_norm_{n}", x)
    q, k, v = (
      dense(params, f"{name}_{n}", normed) for name in ("query", "key", "value")
    )
    attended = np.zeros((num, module.dim))
    for head in range(module.num_heads):
      own = slice(head * width, (head + 1) * width)
      for i in range(num):
        logits = k[: i + 1, own] @ q[i, own] / np.sqrt(width)
        weights = np.exp(logits) / np.exp(logits).sum()
        attended[i, own] = weights @ v[: i + 1, own]
    x = x + dense(params, f"output_{n}", attended)
    normed = layer_norm(params, f"feed_forward_norm_{n}", x)
    inner = np.maximum(dense(params, f"inner_{n}", normed), 0)
    x = x + dense(params, f"outer_{n}", inner)
  return layer_norm(params, "last_norm", x)[-1]


@pytest.mark.parametrize("num_layers,dim", [(1, IN), (2, DIM)])
def test_equals_the_transformer_written_out(num_layers, dim):
  heads = HEADS if dim == DIM else 1
  module = TransformerHistory(dim, num_layers, heads, 7, max_len=9)
  variables = variables_of(module)
  assert ("input" in variables["params"]) == (dim != IN)
  out = jax.jit(module.apply)(variables, HISTORY, WHERE)
  for row, length in enumerate(LENGTHS):
    expected = oracle(module, variables, X[row, :length])
    np.testing.assert_allclose(out[row], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("part", ["output_0", "outer_0"])
def test_dropout_acts_behind_both_parts(part):
  """Each part adds noise of its own."""
  module = TransformerHistory(DIM, 1, HEADS, 7, 9, 0.5)
  variables = variables_of(module)
  params = dict(variables["params"])
  # The weights of the other part and the embeddings are 0.
  other = {"output_0": "outer_0", "outer_0": "output_0"}[part]
  for name in ("input", "position_embedding", other):
    params[name] = jax.tree.map(jnp.zeros_like, params[name])
  train = lambda key: module.apply(
    {"params": params},
    HISTORY,
    WHERE,
    deterministic=False,
    rngs={"dropout": key},
  )
  first, second = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0)))
  assert np.abs(first - second).max() > 1e-3


def test_longer_histories_than_positions_are_refused():
  module = TransformerHistory(DIM, max_len=LEN - 1)
  with pytest.raises(ConfigError, match="max_len must be at least.* 6; got 5"):
    module.init(jax.random.key(0), HISTORY, WHERE)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"dim": 6, "num_heads": 4}, "must divide dim=6, so be one of 1, 2, 3, 6"),
    ({"num_layers": 0}, "TransformerHistory.num_layers must lie in"),
    ({"ffn_dim": 0}, "TransformerHistory.ffn_dim must lie in"),
    ({"max_len": 0}, "TransformerHistory.max_len must lie in"),
    ({"dropout_rate": 1.0}, "TransformerHistory.dropout_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    TransformerHistory(**settings)
