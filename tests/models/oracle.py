"""Ranking models in NumPy: inputs, random weights, and a perceptron."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

BATCH = 6
ACTIVATIONS = {
  "relu": lambda x: np.maximum(x, 0),
  "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
  "tanh": np.tanh,
  "identity": lambda x: x,
}


@dataclasses.dataclass
class Example:
  """A model with random inputs and weights, and the logits it gives.

  `rows`, `dense`, `params` and `stats` are float64 for the formula.
  """

  rows: dict
  dense: np.ndarray | None
  params: dict
  stats: dict
  logit: np.ndarray


def inputs(model, fields, num_dense, seed=0, batch=BATCH):
  """Rows of each group, and dense columns if there are any."""
  rng = np.random.default_rng(seed)
  rows = {
    group: jnp.asarray(
      rng.normal(size=(batch, fields[group], dim)), jnp.float32
    )
    for group, dim in model.groups.items()
  }
  dense = rng.normal(size=(batch, num_dense))
  return rows, jnp.asarray(dense, jnp.float32) if num_dense else None


def random_variables(model, rows, dense, seed=1):
  """Weights and statistics of the right shapes that nobody initialized."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(model.init, jax.random.key(0), rows, dense)

  def draw(path, leaf):
    value = 0.5 * rng.normal(size=leaf.shape)
    if path[-1].key == "var":
      value = 0.5 + np.abs(value)
    if path[-1].key == "bias":
      value += 0.5  # So that few relus are dead.
    return jnp.asarray(value, jnp.float32)

  return jax.tree.map_with_path(draw, shapes)


def run(model, fields, num_dense=0, seed=1) -> Example:
  """What `model` says of random inputs, with all that a formula needs."""
  rows, dense = inputs(model, fields, num_dense)
  variables = random_variables(model, rows, dense, seed)
  logit = jax.jit(model.apply)(variables, rows, dense)["logit"]
  assert logit.shape == (BATCH,) and logit.dtype == jnp.float32
  wide = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float64), tree)
  return Example(
    wide(rows),
    wide(dense),
    wide(variables.get("params", {})),
    wide(variables.get("batch_stats", {})),
    np.asarray(logit),
  )


def check(logit, expected):
  """The model's logits are those of the formula, and they differ by row."""
  assert np.diff(np.sort(expected)).min() > 1e-4
  np.testing.assert_allclose(logit, expected, rtol=1e-5, atol=1e-5)


def mlp(x, params, stats=None, activation="relu"):
  """act(BN(W x + b)) of each layer, with running statistics."""
  number = 0
  while f"layer_{number}" in params:
    layer = params[f"layer_{number}"]
    x = x @ layer["kernel"] + layer["bias"]
    if stats:
      norm, run = params[f"norm_{number}"], stats[f"norm_{number}"]
      x = (x - run["mean"]) / np.sqrt(run["var"] + 1e-5)
      x = x * norm["scale"] + norm["bias"]
    x = ACTIVATIONS[activation](x)
    number += 1
  return x


def linear(example) -> np.ndarray:
  """b + sum_i w_i + sum_j u_j x_j."""
  params = example.params["linear"]
  total = params["bias"] + sum(
    example.rows["linear"][:, i, 0]
    for i in range(example.rows["linear"].shape[1])
  )
  if example.dense is not None:
    total = total + sum(
      params["dense"][j] * example.dense[:, j]
      for j in range(example.dense.shape[1])
    )
  return total


def vectors(example) -> np.ndarray:
  """e_1, ..., e_n, x_1 v_1, ..., x_m v_m of each example."""
  fields = list(np.swapaxes(example.rows["embedding"], 0, 1))
  if example.dense is not None:
    v = example.params["vectors"]["dense"]
    for j in range(example.dense.shape[1]):
      fields.append(np.outer(example.dense[:, j], v[j]))
  return np.stack(fields, axis=1)
