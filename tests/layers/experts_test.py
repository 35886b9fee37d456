import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.experts import MixtureOfExperts, mix_experts
from recjax.layers.mlp import MLP

BATCH, IN, EXPERTS = 6, 4, 3
X = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, IN)), jnp.float32)


def variables_of(module, seed=1):
  """Random weights and positive statistics of the right shapes."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(
    lambda key: module.init(key, X, deterministic=True), jax.random.key(0)
  )
  draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
  variables = jax.tree.map(draw, shapes)
  if "batch_stats" in variables:
    stats = jax.tree.map(lambda leaf: leaf**2 + 0.5, variables["batch_stats"])
    variables["batch_stats"] = stats
  return variables


@functools.partial(jax.jit, static_argnums=0)
def run(module, variables, x):
  return module.apply(variables, x, deterministic=True)


def softmax(x):
  return np.exp(x) / np.exp(x).sum()


def own(tree, expert):
  """The weights of one expert under the names of an MLP."""
  out = {}
  for name, value in tree.items():
    kind, _, number = name.partition("_")
    if kind == "norm":
      part = lambda leaf: leaf.reshape(EXPERTS, -1)[expert]
      out[name] = jax.tree.map(part, value)
    elif kind in ("kernel", "bias"):
      out.setdefault(f"layer_{number}", {})[kind] = value[expert]
  return out


def gates_of(variables, row, top_k):
  gate = np.asarray(variables["params"]["gate"]["kernel"], np.float64)
  logits = np.asarray(X[row], np.float64) @ gate
  chosen = np.argsort(-logits)[: top_k or EXPERTS]
  weights = np.zeros(EXPERTS)
  weights[chosen] = softmax(logits[chosen])
  return weights


@pytest.mark.parametrize(
  "hidden,top_k,batch_norm",
  [
    ((5,), 0, True),
    ((5, 2), 0, False),
    ((5,), 1, False),
    ((5, 2), 2, True),
    ((5,), 3, False),
  ],
)
def test_equals_a_loop_over_experts(hidden, top_k, batch_norm):
  settings = {"activation": "tanh", "batch_norm": batch_norm}
  module = MixtureOfExperts(
    hidden, num_experts=EXPERTS, top_k=top_k, **settings
  )
  variables = variables_of(module)
  out = run(module, variables, X)
  mlp, outs = MLP(hidden, **settings), []
  for expert in range(EXPERTS):
    tree = {
      name: own(part["experts"], expert) for name, part in variables.items()
    }
    outs.append(run(mlp, tree, X))
  for row in range(BATCH):
    weights = gates_of(variables, row, top_k)
    expected = sum(w * y[row] for w, y in zip(weights, outs, strict=True))
    np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_tasks", [1, 3, 9])
def test_mixing_and_its_gradients(num_tasks):
  """Against the formula, and the gradients of it written out in NumPy."""
  rng = np.random.default_rng(num_tasks)
  gates = rng.normal(size=(5, num_tasks, EXPERTS)).astype(np.float32)
  experts = rng.normal(size=(5, EXPERTS, 4)).astype(np.float32)
  slope = rng.normal(size=(5, num_tasks, 4)).astype(np.float32)
  mixed, pull = jax.vjp(mix_experts, jnp.asarray(gates), jnp.asarray(experts))
  found = mixed, *pull(jnp.asarray(slope))
  # A gradient for each task, as balancers want them.
  each = jax.vmap(pull)(jnp.stack([jnp.asarray(slope), -jnp.asarray(slope)]))
  expected = [np.zeros_like(x) for x in (slope, gates, experts)]
  for row in range(5):
    for t in range(num_tasks):
      for e in range(EXPERTS):
        expected[0][row, t] += gates[row, t, e] * experts[row, e]
        expected[1][row, t, e] = slope[row, t] @ experts[row, e]
        expected[2][row, e] += gates[row, t, e] * slope[row, t]
  for one, other in zip(found, expected):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
  for one, other in zip(each, expected[1:]):
    np.testing.assert_allclose(one, [other, -other], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_tasks", [2, 9])
@pytest.mark.parametrize("wide", ["gates", "experts"])
def test_gradients_have_the_types_of_what_is_mixed(num_tasks, wide):
  rng = np.random.default_rng(0)
  arrays = {
    "gates": rng.normal(size=(5, num_tasks, EXPERTS)),
    "experts": rng.normal(size=(5, EXPERTS, 4)),
  }
  typed = [
    jnp.asarray(x, jnp.float32 if name == wide else jnp.bfloat16)
    for name, x in arrays.items()
  ]
  # Small whole numbers, which bfloat16 holds.
  typed = [jnp.round(x) for x in typed]
  mixed, pull = jax.vjp(mix_experts, *typed)
  assert mixed.dtype == jnp.float32
  gates, experts = (np.asarray(x, np.float64) for x in typed)
  slope = np.ones(mixed.shape, np.float32)
  found = pull(jnp.asarray(slope))
  assert [x.dtype for x in found] == [x.dtype for x in typed]
  expected = experts.sum(axis=2), gates.sum(axis=1)
  expected = (
    np.broadcast_to(expected[0][:, None], gates.shape),
    np.broadcast_to(expected[1][..., None], experts.shape),
  )
  for one, other in zip(found, expected):
    np.testing.assert_array_equal(np.asarray(one, np.float64), other)


def test_two_layers_written_out():
  """Without the help of MLP."""
  module = MixtureOfExperts((5, 2), num_experts=EXPERTS)
  variables = variables_of(module)
  out = module.apply(variables, X, deterministic=True)
  np.testing.assert_allclose(run(module, variables, X), out, atol=1e-5)
  wide = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64), variables["params"]["experts"]
  )
  x = np.asarray(X, np.float64)
  for row in range(BATCH):
    total = np.zeros(2)
    for expert, weight in enumerate(gates_of(variables, row, 0)):
      y = x[row]
      for n in range(2):
        y = y @ wide[f"kernel_{n}"][expert] + wide[f"bias_{n}"][expert]
        y = np.maximum(y, 0)
      total += weight * y
    np.testing.assert_allclose(out[row], total, rtol=1e-4, atol=1e-5)


def test_one_expert_is_an_mlp():
  module = MixtureOfExperts((5, 2), num_experts=1)
  variables = variables_of(module)
  params = variables["params"]["experts"]
  tree = {
    f"layer_{n}": {
      "kernel": params[f"kernel_{n}"][0],
      "bias": params[f"bias_{n}"][0],
    }
    for n in range(2)
  }
  np.testing.assert_allclose(
    run(module, variables, X),
    run(MLP((5, 2)), {"params": tree}, X),
    rtol=1e-5,
    atol=1e-6,
  )


def test_experts_that_are_not_chosen_learn_nothing():
  module = MixtureOfExperts((5,), "tanh", num_experts=EXPERTS, top_k=1)
  variables = variables_of(module)
  loss = lambda v: jnp.sum(run(module, v, X[:1]) ** 2)
  gradient = jax.jit(jax.grad(loss))(variables)["params"]["experts"]["kernel_0"]
  moved = np.abs(gradient).max(axis=(1, 2)) > 0
  np.testing.assert_array_equal(moved, gates_of(variables, 0, 1) > 0)


def test_padding_rows_do_not_count_in_the_statistics():
  module = MixtureOfExperts((3,), batch_norm=True, num_experts=EXPERTS)
  variables = variables_of(module)
  train = jax.jit(
    lambda x, where: module.apply(
      variables, x, deterministic=False, where=where, mutable=["batch_stats"]
    )
  )
  alone, stats = train(X[:4], None)
  padded, masked = train(X, jnp.arange(BATCH) < 4)
  np.testing.assert_allclose(padded[:4], alone, rtol=1e-4, atol=1e-5)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5)
  jax.tree.map(close, masked, stats)


def test_dropout_stands_behind_each_activation():
  module = MixtureOfExperts((64,), "sigmoid", dropout_rate=0.5, num_experts=1)
  variables = variables_of(module)
  train = lambda key: module.apply(
    variables, X, deterministic=False, rngs={"dropout": key}
  )
  found = jax.jit(train)(jax.random.key(0))
  exact = run(module, variables, X)
  kept = np.asarray(found) > 0
  assert 0.4 < kept.mean() < 0.6
  np.testing.assert_allclose(found[kept], 2 * exact[kept], rtol=1e-5)


def test_each_expert_starts_as_an_mlp_would():
  module = MixtureOfExperts((200,), num_experts=4)
  init = lambda key: module.init(key, jnp.zeros((1, 100)), deterministic=True)
  params = jax.jit(init)(jax.random.key(0))["params"]["experts"]
  kernel = np.asarray(params["kernel_0"])
  # Glorot: 2 / (100 + 200); 20,000 draws an expert.
  np.testing.assert_allclose(kernel.var(axis=(1, 2)), 2 / 300, rtol=0.05)
  assert np.abs(np.corrcoef(kernel.reshape(4, -1)) - np.eye(4)).max() < 0.05
  np.testing.assert_array_equal(params["bias_0"], 0.0)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"hidden": ()}, "MixtureOfExperts.hidden must be a tuple of at least 1"),
    ({"activation": "Relu"}, "Did you mean 'relu'"),
    ({"kernel_init": "xavier"}, "MixtureOfExperts.kernel_init must be"),
    ({"dropout_rate": 1.0}, "MixtureOfExperts.dropout_rate must lie in"),
    ({"num_experts": 0}, "MixtureOfExperts.num_experts must lie in"),
    ({"top_k": 5}, r"MixtureOfExperts.top_k must lie in \[0, 4\]"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    MixtureOfExperts(**{"hidden": (4,), **settings})
